//! Authorities on disk: kept, loaded, never overwritten; and lists that only grow.

mod support;

use std::{fs, path::Path, time::SystemTime};

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject};
use tollgate_certs::{
    Authority, DenyList, Identity, IssueOptions, Issued, Rejection, Serial, Trust, TrustDomain,
    authority::{IssueError, LoadError, RevokeError, SaveError},
    inspect, validity,
};
use tollgate_protocol::id::TenantId;

use support::DAY;

fn authority() -> Authority {
    let domain = TrustDomain::parse("example.org").expect("a trust domain");
    Authority::create("example", &domain).expect("created")
}

fn client(authority: &Authority) -> Issued {
    let tenant = TenantId::parse("acme").expect("a tenant");
    let identity = Identity::client(tenant, None).expect("an identity");
    authority.issue(&identity, &IssueOptions::default()).expect("issued")
}

fn certificate(issued: &Issued) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).expect("PEM")
}

/// What the list in a directory says about a certificate.
fn verdict(dir: &Path, authority: &Authority, issued: &Issued) -> Result<(), Rejection> {
    let list = CertificateRevocationListDer::from_pem_file(dir.join("crl.pem")).expect("a list");
    let roots = vec![authority.certificate().clone()];
    let trust = Trust::new(roots, vec![list], DenyList::default(), authority.domain().clone());
    trust.expect("trust").check(&[certificate(issued)], support::now()).map(|_| ())
}

#[test]
fn an_authority_comes_back_from_its_directory_and_is_never_overwritten() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path().join("new");
    let made = authority();
    made.save(&home).expect("saved");
    let loaded = Authority::load(&home).expect("loaded");
    assert_eq!(loaded.certificate(), made.certificate());
    assert_eq!(loaded.domain(), made.domain());

    let issued = client(&loaded);
    let roots = vec![made.certificate().clone()];
    let trust = Trust::new(roots, vec![], DenyList::default(), made.domain().clone());
    trust.expect("trust").check(&[certificate(&issued)], support::now()).expect("accepted");

    let before = fs::read(home.join("ca.key")).expect("a key");
    assert!(matches!(authority().save(&home), Err(SaveError::Exists(_))));
    fs::remove_file(home.join("ca.pem")).expect("removed");
    assert!(matches!(authority().save(&home), Err(SaveError::Exists(_))), "half of one is there");
    assert_eq!(fs::read(home.join("ca.key")).expect("a key"), before);
}

#[cfg(unix)]
#[test]
fn keys_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let authority = authority();
    authority.save(dir.path()).expect("saved");
    client(&authority).write(dir.path()).expect("written");
    fs::set_permissions(dir.path().join("key.pem"), fs::Permissions::from_mode(0o644))
        .expect("set");
    client(&authority).write(dir.path()).expect("renewed");
    for key in ["ca.key", "key.pem"] {
        let mode = fs::metadata(dir.path().join(key)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<_> = fs::read_dir(dir.path()).expect("a directory").map(name).collect();
    names.sort();
    assert_eq!(names, ["ca.key", "ca.pem", "cert.pem", "key.pem"], "nothing else is left behind");
}

#[test]
fn what_is_not_an_authority_is_not_loaded() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(matches!(Authority::load(dir.path()), Err(LoadError::Read { .. })));
    let made = authority();
    made.save(dir.path()).expect("saved");
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
    let issued = client(&made);
    write("ca.pem", &issued.certificate_pem);
    assert!(matches!(Authority::load(dir.path()), Err(LoadError::Certificate(_))));
    write("ca.pem", authority().certificate_pem());
    assert!(matches!(Authority::load(dir.path()), Err(LoadError::Key(_))), "another's key");
    write("ca.pem", &format!("{0}{0}", made.certificate_pem()));
    assert!(matches!(Authority::load(dir.path()), Err(LoadError::Certificate(_))));
    write("ca.pem", made.certificate_pem());
    write("ca.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    assert!(matches!(Authority::load(dir.path()), Err(LoadError::Key(_))));
    for name in ["", "a\u{1b}[31m", &"x".repeat(65)] {
        assert!(Authority::create(name, &TrustDomain::default()).is_err(), "{name:?}");
    }
}

#[test]
fn a_certificate_never_outlives_its_authority() {
    let authority = authority();
    let identity = Identity::gateway("eu").expect("an identity");
    let root = validity(authority.certificate()).expect("readable");
    let issue = |options: &IssueOptions| authority.issue(&identity, options);

    let issued = issue(&IssueOptions::valid_for(100 * 365 * DAY)).expect("issued");
    assert_eq!(issued.not_after, root.not_after);
    assert_eq!(validity(&certificate(&issued)).expect("readable").not_after, root.not_after);

    let none = IssueOptions { validity: DAY, not_before: root.not_after };
    assert!(matches!(issue(&none), Err(IssueError::Validity { .. })));
    let now = IssueOptions { validity: std::time::Duration::ZERO, not_before: SystemTime::now() };
    assert!(matches!(issue(&now), Err(IssueError::Validity { .. })));
    let options = IssueOptions::default();
    assert!(matches!(authority.issue_server(&[], &options), Err(IssueError::NoServerNames)));
}

#[test]
fn serial_numbers_are_sixteen_positive_octets_and_differ() {
    let authority = authority();
    let serials: Vec<String> = (0..20).map(|_| client(&authority).serial).collect();
    for serial in &serials {
        let octets = Serial::parse(serial).expect("hex").as_bytes().to_vec();
        assert!(octets.len() == 16 && octets[0] & 0x80 == 0, "{serial}");
    }
    let different: std::collections::HashSet<_> = serials.iter().collect();
    assert_eq!(different.len(), serials.len());
}

#[test]
fn a_list_keeps_what_was_revoked_before() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = authority();
    let (first, second, third) = (client(&authority), client(&authority), client(&authority));
    let serial = |issued: &Issued| Serial::parse(&issued.serial).expect("hex");
    let revoke = |serials: &[Serial]| authority.revoke(dir.path(), serials).expect("revoked");

    revoke(&[]);
    assert_eq!(verdict(dir.path(), &authority, &first), Ok(()));
    revoke(&[serial(&first)]);
    revoke(&[serial(&second), serial(&first)]);
    revoke(&[]);
    assert_eq!(verdict(dir.path(), &authority, &first), Err(Rejection::Revoked));
    assert_eq!(verdict(dir.path(), &authority, &second), Err(Rejection::Revoked));
    assert_eq!(verdict(dir.path(), &authority, &third), Ok(()));

    let pem = fs::read_to_string(dir.path().join("crl.pem")).expect("a list");
    let der = CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).expect("PEM");
    let (_, list) = x509_parser::parse_x509_crl(&der).expect("a list");
    assert_eq!(list.crl_number().map(ToString::to_string).as_deref(), Some("4"));
    assert_eq!(list.iter_revoked_certificates().count(), 2);
    assert!(list.next_update() > Some(list.last_update()));
}

#[test]
fn a_list_that_cannot_be_continued_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("crl.pem");
    let (ours, theirs) = (authority(), authority());
    theirs.revoke(dir.path(), &[]).expect("revoked");
    let serial = [Serial::parse("ab").expect("hex")];
    for text in [fs::read_to_string(&path).expect("a list"), String::new(), "half".to_owned()] {
        fs::write(&path, &text).expect("written");
        let error = ours.revoke(dir.path(), &serial).expect_err("not ours");
        assert!(matches!(error, RevokeError::Unusable(_) | RevokeError::Pem(_)), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("a list"), text);
    }
}

#[test]
fn revocations_at_the_same_time_do_not_lose_each_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = authority();
    let issued: Vec<Issued> = (0..8).map(|_| client(&authority)).collect();
    std::thread::scope(|scope| {
        for one in &issued {
            let serial = Serial::parse(&one.serial).expect("hex");
            let (authority, dir) = (&authority, dir.path());
            scope.spawn(move || authority.revoke(dir, &[serial]).expect("revoked"));
        }
    });
    for one in &issued {
        assert_eq!(verdict(dir.path(), &authority, one), Err(Rejection::Revoked));
    }
}

#[test]
fn inspecting_shows_what_a_certificate_says() {
    let authority = authority();
    let issued = client(&authority);
    let info = inspect(issued.certificate_pem.as_bytes(), SystemTime::now()).expect("readable");
    assert_eq!(info.spiffe_id.as_deref(), Some("spiffe://example.org/tenant/acme/client"));
    assert_eq!((info.role, info.tenant.as_deref()), (Some("client"), Some("acme")));
    assert_eq!((info.subject.as_str(), info.issuer.as_str()), ("CN=acme", "CN=example"));
    assert_eq!(info.serial, issued.serial);
    assert_eq!(info.extended_key_usage, ["clientAuth"]);
    assert_eq!(info.key_usage, ["Digital Signature"]);
    assert_eq!(info.alternative_names, ["URI:spiffe://example.org/tenant/acme/client"]);
    assert!(!info.expired && !info.authority && info.sha256.len() == 64);
    let late = inspect(issued.certificate_pem.as_bytes(), issued.not_after + DAY).expect("good");
    assert!(late.expired);

    let root = inspect(authority.certificate_pem().as_bytes(), SystemTime::now()).expect("good");
    assert!(root.authority && root.spiffe_id.is_none());
    assert!(root.identity_error.expect("not a holder").contains("no role has the path"));
    assert!(inspect(b"", SystemTime::now()).is_err());
    assert!(inspect(issued.key_pem.as_bytes(), SystemTime::now()).is_err());
}

#[test]
fn inspecting_hostile_text_is_safe_on_a_terminal() {
    let forge = support::Forge::root("\u{1b}]0;owned\u{7}");
    let leaf = forge.leaf(|params| {
        params.subject_alt_names.clear();
        params.custom_extensions = vec![support::raw_uris(&[b"spiffe://\x1b[31m"])];
    });
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        base64(&leaf.chain[0])
    );
    let info = inspect(pem.as_bytes(), SystemTime::now()).expect("readable");
    assert!(!format!("{info:?}").contains(char::is_control));
    assert!(info.issuer.contains("owned") && !info.issuer.contains(char::is_control));
    assert!(!info.alternative_names.concat().contains(char::is_control));
    assert!(!info.identity_error.expect("no SPIFFE ID").contains(char::is_control));
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        for digit in 0..4 {
            let at = (bits >> (18 - 6 * digit)) & 63;
            out.push(if digit > chunk.len() { '=' } else { char::from(DIGITS[at as usize]) });
        }
    }
    out
}
