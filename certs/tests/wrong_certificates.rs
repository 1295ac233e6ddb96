//! Every certificate that must not get in, judged twice: by the check that runs on live
//! connections, and by a real handshake.

mod support;

use std::time::SystemTime;

use rcgen::{BasicConstraints, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::pki_types::CertificateDer;
use tollgate_certs::{Identity, IdentityError, Rejection, Role, Trust, TrustDomain, TrustError};

use support::{Broker, DAY, Forge, GOOD_URI, Presented};

/// One wrong certificate, and what must be said about it.
type Case = (&'static str, Presented, Expected);
type Expected = fn(&Rejection) -> bool;

macro_rules! is {
    ($pattern:pat) => {
        |rejection: &Rejection| matches!(rejection, $pattern)
    };
}

#[track_caller]
fn check(trust: &Trust, cases: Vec<Case>) {
    let broker = Broker::new();
    for (sentence, presented, expected) in cases {
        let rejection = trust.check(&presented.chain, support::now()).expect_err(sentence);
        assert!(expected(&rejection), "{sentence}: {rejection:?}");
        let text = rejection.to_string();
        let unsafe_to_show = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!text.contains(unsafe_to_show) && text.len() < 700, "{sentence}: {text:?}");
        let error = support::handshake(broker.client(Some(&presented)), broker.config(trust))
            .expect_err(sentence);
        assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{sentence}: {error}");
    }
}

#[test]
fn a_uri_that_is_not_exactly_a_known_identity() {
    let long = format!("spiffe://tollgate.local/tenant/{}/client", "x".repeat(300));
    let endless = format!("spiffe://tollgate.local/worker/{}", "x".repeat(3000));
    let long_name = format!("spiffe://tollgate.local/worker/{}", "x".repeat(65));
    let spiffe: Expected = is!(Rejection::Identity(IdentityError::NotSpiffe { .. }));
    let canonical = is!(Rejection::Identity(IdentityError::NotCanonical(_)));
    let domain = is!(Rejection::Identity(IdentityError::ForeignTrustDomain { .. }));
    let path = is!(Rejection::Identity(IdentityError::UnknownPath(_)));
    let tenant = is!(Rejection::Identity(IdentityError::Tenant(_)));
    let name = is!(Rejection::Identity(IdentityError::Name(_)));
    let unreadable = is!(Rejection::Identity(IdentityError::Unreadable));
    let table: Vec<(&'static str, &[u8], Expected)> = vec![
        ("the http scheme", b"http://tollgate.local/tenant/acme/client", spiffe),
        ("no scheme", b"tollgate.local/tenant/acme/client", spiffe),
        ("an empty URI", b"", spiffe),
        ("an upper-case scheme", b"SPIFFE://tollgate.local/tenant/acme/client", canonical),
        ("an upper-case trust domain", b"spiffe://Tollgate.local/tenant/acme/client", canonical),
        ("an upper-case tenant", b"spiffe://tollgate.local/tenant/Acme/client", tenant),
        ("an upper-case role", b"spiffe://tollgate.local/tenant/acme/Client", path),
        ("an upper-case first segment", b"spiffe://tollgate.local/Tenant/acme/client", path),
        ("another trust domain", b"spiffe://example.org/tenant/acme/client", domain),
        ("a trust domain below ours", b"spiffe://a.tollgate.local/tenant/acme/client", domain),
        ("a trust domain above ours", b"spiffe://local/tenant/acme/client", domain),
        ("a trust domain with a final dot", b"spiffe://tollgate.local./worker/a", domain),
        ("no trust domain", b"spiffe:///tenant/acme/client", spiffe),
        ("user information", b"spiffe://root@tollgate.local/worker/a", spiffe),
        ("a password", b"spiffe://root:x@tollgate.local/worker/a", spiffe),
        ("a port", b"spiffe://tollgate.local:443/worker/a", spiffe),
        ("a query", b"spiffe://tollgate.local/worker/a?role=operator", spiffe),
        ("a fragment", b"spiffe://tollgate.local/worker/a#operator", spiffe),
        ("a percent-encoded letter", b"spiffe://tollgate.local/tenant/%61cme/client", spiffe),
        ("a percent-encoded slash", b"spiffe://tollgate.local/tenant/acme%2Fclient", spiffe),
        ("a NUL byte within", b"spiffe://tollgate.local/tenant/acme\0/client", spiffe),
        ("a NUL byte at the end", b"spiffe://tollgate.local/tenant/acme/client\0", spiffe),
        ("a line feed at the end", b"spiffe://tollgate.local/tenant/acme/client\n", spiffe),
        ("a space in front", b" spiffe://tollgate.local/tenant/acme/client", spiffe),
        ("colours for a terminal", b"spiffe://tollgate.local/worker/\x1b[31mred", spiffe),
        ("a bell and a delete", b"spiffe://tollgate.local/worker/\x07\x7f", spiffe),
        ("an empty tenant", b"spiffe://tollgate.local/tenant//client", spiffe),
        ("an empty segment in front", b"spiffe://tollgate.local//tenant/acme/client", spiffe),
        ("a trailing slash", b"spiffe://tollgate.local/tenant/acme/client/", spiffe),
        ("a dot for a tenant", b"spiffe://tollgate.local/tenant/./client", spiffe),
        ("two dots for a tenant", b"spiffe://tollgate.local/tenant/../client", spiffe),
        ("two dots for a name", b"spiffe://tollgate.local/worker/..", spiffe),
        ("a backslash", b"spiffe://tollgate.local/tenant\\acme\\client", spiffe),
        ("a wildcard for a tenant", b"spiffe://tollgate.local/tenant/*/client", spiffe),
        ("a tenant of 300 characters", long.as_bytes(), tenant),
        ("a tenant with a dot", b"spiffe://tollgate.local/tenant/acme.eu/client", tenant),
        ("a tenant with a dash first", b"spiffe://tollgate.local/tenant/-acme/client", tenant),
        ("a name of 65 characters", long_name.as_bytes(), name),
        ("3000 characters", endless.as_bytes(), |rejection| {
            matches!(rejection, Rejection::Identity(IdentityError::TooLong { len: 3031 }))
        }),
        ("no path", b"spiffe://tollgate.local", path),
        ("only a slash", b"spiffe://tollgate.local/", spiffe),
        ("an unknown path", b"spiffe://tollgate.local/admin/root", path),
        ("a tenant without a role", b"spiffe://tollgate.local/tenant/acme", path),
        ("a tenant's unknown role", b"spiffe://tollgate.local/tenant/acme/operator", path),
        ("a tenant's gateway", b"spiffe://tollgate.local/tenant/acme/gateway/eu", path),
        ("a worker without a name", b"spiffe://tollgate.local/worker", path),
        ("a gateway without a name", b"spiffe://tollgate.local/gateway", path),
        ("an operator without a name", b"spiffe://tollgate.local/operator", path),
        ("one segment more for a client", b"spiffe://tollgate.local/tenant/acme/client/a/b", path),
        ("one segment more for a worker", b"spiffe://tollgate.local/worker/a/b", path),
        ("a letter outside of ASCII", "spiffe://tollgate.local/worker/café".as_bytes(), spiffe),
        (
            "a letter that looks like one",
            "spiffe://tollgate.local/worker/\u{430}".as_bytes(),
            spiffe,
        ),
        ("text from right to left", "spiffe://tollgate.local/worker/\u{202e}a".as_bytes(), spiffe),
        ("bytes that are no text", b"spiffe://tollgate.local/worker/\xff", unreadable),
    ];
    let forge = Forge::root("root");
    let with = |bytes: &[u8]| {
        forge.leaf(|params| {
            params.subject_alt_names.clear();
            params.custom_extensions = vec![support::raw_uris(&[bytes])];
        })
    };
    let cases = table.into_iter().map(|(sentence, uri, expected)| (sentence, with(uri), expected));
    check(&support::trusting(&[&forge]), cases.collect());
}

#[test]
fn a_certificate_that_does_not_name_exactly_one_holder() {
    let forge = Forge::root("root");
    let names = |sans: Vec<SanType>| forge.leaf(|params| params.subject_alt_names = sans);
    let raw = |uris: &[&[u8]]| {
        forge.leaf(|params| {
            params.subject_alt_names.clear();
            params.custom_extensions = vec![support::raw_uris(uris)];
        })
    };
    let dns = || SanType::DnsName("acme.tollgate.local".try_into().expect("a name"));
    let none: Expected = is!(Rejection::Identity(IdentityError::NoUri));
    let two: Expected = is!(Rejection::Identity(IdentityError::SeveralUris(2)));
    let other = "spiffe://tollgate.local/operator/root";
    let mail = SanType::Rfc822Name("a@tollgate.local".try_into().expect("an address"));
    check(
        &support::trusting(&[&forge]),
        vec![
            ("no alternative name", names(vec![]), none),
            ("only a DNS name", names(vec![dns()]), none),
            ("only an e-mail address", names(vec![mail]), none),
            ("only an IP address", names(vec![SanType::IpAddress([127, 0, 0, 1].into())]), none),
            (
                "the SPIFFE ID in a DNS name",
                names(vec![SanType::DnsName(GOOD_URI.try_into().expect("ASCII"))]),
                none,
            ),
            (
                "the SPIFFE ID in the common name",
                forge.leaf(|params| {
                    params.subject_alt_names.clear();
                    params.distinguished_name = support::named(GOOD_URI);
                }),
                none,
            ),
            ("two URIs", names(vec![support::uri(GOOD_URI), support::uri(other)]), two),
            ("one URI twice", names(vec![support::uri(GOOD_URI), support::uri(GOOD_URI)]), two),
            (
                "two URIs around a DNS name",
                names(vec![support::uri(GOOD_URI), dns(), support::uri(other)]),
                two,
            ),
            (
                "a second URI of a foreign scheme",
                names(vec![support::uri(GOOD_URI), support::uri("https://tollgate.local/")]),
                two,
            ),
            (
                "a second URI that is no text, after the first",
                raw(&[GOOD_URI.as_bytes(), b"spiffe://\xff"]),
                is!(Rejection::Identity(IdentityError::Unreadable)),
            ),
            (
                "a second URI that is no text, before the first",
                raw(&[b"\xc3\x28", GOOD_URI.as_bytes()]),
                is!(Rejection::Identity(IdentityError::Unreadable)),
            ),
            (
                "two lists of alternative names",
                forge.leaf(|params| {
                    params.custom_extensions = vec![support::raw_uris(&[other.as_bytes()])];
                }),
                is!(Rejection::Malformed),
            ),
        ],
    );
}

#[test]
fn a_certificate_that_nobody_trusted_vouches_for() {
    let forge = Forge::root("root");
    let namesake = Forge::root("root");
    let foreign = Forge::root("foreign");
    let below = forge.intermediate("below", |_| {});
    let never_trusted = foreign.intermediate("below", |_| {});
    let leaf_as_issuer = forge.intermediate("leaf", |params| params.is_ca = IsCa::NoCa);
    let unsigned = {
        let key = KeyPair::generate().expect("a key");
        let certificate = support::client().self_signed(&key).expect("signed");
        Presented { chain: vec![certificate.der().clone()], key }
    };
    let unknown: Expected = is!(Rejection::UnknownIssuer);
    check(
        &support::trusting(&[&forge]),
        vec![
            ("a self-signed certificate", unsigned, unknown),
            ("a foreign authority", foreign.leaf(|_| {}), unknown),
            ("a foreign authority of the same name", namesake.leaf(|_| {}), unknown),
            ("a foreign root sent along", foreign.leaf(|_| {}).through(&foreign), unknown),
            ("an intermediate that was not sent", below.leaf(|_| {}), unknown),
            (
                "the wrong intermediate of that name",
                below.leaf(|_| {}).through(&never_trusted),
                unknown,
            ),
            (
                "a leaf that issues another",
                leaf_as_issuer.leaf(|_| {}).through(&leaf_as_issuer),
                unknown,
            ),
        ],
    );
}

#[test]
fn a_certificate_that_is_not_for_this_use_or_this_time() {
    let forge = Forge::root("root");
    let old = forge.intermediate("old", |params| {
        params.not_after = (SystemTime::now() - DAY).into();
    });
    let short = forge.intermediate("short", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let shorter = short.intermediate("shorter", |_| {});
    // Permits URIs of this very trust domain only.
    let name = support::tlv(0x30, &support::tlv(0x86, b"tollgate.local"));
    let constraints = support::tlv(0x30, &support::tlv(0xa0, &name));
    let constrained = forge.intermediate("constrained", |params| {
        let extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], constraints);
        params.custom_extensions = vec![extension];
    });
    let servers = forge.intermediate("servers", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let usage = |usage| forge.leaf(|params| params.extended_key_usages = vec![usage]);
    let mut crowd = forge.leaf(|_| {});
    crowd.chain.extend(std::iter::repeat_n(forge.certificate.clone(), 9));
    let wrong: Expected = is!(Rejection::WrongUsage);
    let expired: Expected = is!(Rejection::Expired);
    let other: Expected = is!(Rejection::Other(_));
    check(
        &support::trusting(&[&forge]),
        vec![
            (
                "expired a minute ago",
                forge.leaf(|params| params.not_after = (SystemTime::now() - DAY / 1440).into()),
                expired,
            ),
            (
                "valid in a minute",
                forge.leaf(|params| params.not_before = (SystemTime::now() + DAY / 1440).into()),
                is!(Rejection::NotYetValid),
            ),
            (
                "an end before its beginning",
                forge.leaf(|params| {
                    params.not_before = (SystemTime::now() + DAY).into();
                    params.not_after = (SystemTime::now() - DAY).into();
                }),
                expired,
            ),
            ("an expired intermediate", old.leaf(|_| {}).through(&old), expired),
            ("for servers only", usage(ExtendedKeyUsagePurpose::ServerAuth), wrong),
            ("for signing code only", usage(ExtendedKeyUsagePurpose::CodeSigning), wrong),
            ("below an authority for servers", servers.leaf(|_| {}).through(&servers), wrong),
            (
                "an authority's own certificate",
                forge.leaf(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
                wrong,
            ),
            (
                "an intermediate below one that may have none",
                shorter.leaf(|_| {}).through(&shorter).through(&short),
                other,
            ),
            ("a constraint on URIs", constrained.leaf(|_| {}).through(&constrained), other),
            (
                "an unknown critical extension",
                forge.leaf(|params| {
                    let mut extension =
                        CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
                    extension.set_criticality(true);
                    params.custom_extensions = vec![extension];
                }),
                other,
            ),
            ("nine intermediates", crowd, other),
        ],
    );
}

#[test]
fn bytes_that_are_not_a_certificate() {
    let forge = Forge::root("root");
    let good = forge.leaf(|_| {});
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.chain[0].to_vec();
        change(&mut bytes);
        let key = KeyPair::generate().expect("a key");
        Presented { chain: vec![CertificateDer::from(bytes)], key }
    };
    let malformed: Expected = is!(Rejection::Malformed);
    let trust = support::trusting(&[&forge]);
    check(
        &trust,
        vec![
            ("garbage", damaged(&|bytes| bytes.fill(0xa5)), malformed),
            ("nothing but zeros", damaged(&|bytes| bytes.fill(0)), malformed),
            ("cut in half", damaged(&|bytes| bytes.truncate(bytes.len() / 2)), malformed),
            ("one byte short", damaged(&|bytes| bytes.truncate(bytes.len() - 1)), malformed),
            ("one byte too many", damaged(&|bytes| bytes.push(0)), malformed),
            ("a length of four gigabytes", damaged(&|bytes| bytes[1] = 0x84), malformed),
        ],
    );
    assert_eq!(trust.check(&[], support::now()), Err(Rejection::Malformed));
    // Whatever is cut or flipped: an answer, never a panic, and never an identity.
    let whole = &good.chain[0];
    for at in 0..whole.len() {
        let cut = CertificateDer::from(whole[..at].to_vec());
        assert!(trust.check(&[cut], support::now()).is_err(), "cut at {at}");
        let mut flipped = whole.to_vec();
        flipped[at] ^= 0x41;
        let flipped = CertificateDer::from(flipped);
        assert!(trust.check(&[flipped], support::now()).is_err(), "flipped at {at}");
    }
}

#[test]
fn a_certificate_that_was_taken_back() {
    let forge = Forge::root("root");
    let below = forge.intermediate("below", |params| params.serial_number = Some(77.into()));
    let serial = |serial: u64| forge.leaf(|params| params.serial_number = Some(serial.into()));
    let deny = format!("00:04:D2\n{GOOD_URI}-denied\n");
    let yesterday = SystemTime::now() - DAY;
    let trust = support::trust(&[&forge], vec![forge.crl_until(1, &[4711, 77], yesterday)], &deny);
    assert!(trust.next_update().expect("a list") < SystemTime::now());
    check(
        &trust,
        vec![
            ("revoked by a list that is itself out of date", serial(4711), is!(Rejection::Revoked)),
            ("a revoked intermediate", below.leaf(|_| {}).through(&below), is!(Rejection::Revoked)),
            ("a serial number on the deny list", serial(1234), is!(Rejection::Denied)),
            (
                "a holder on the deny list",
                forge.leaf(|params| {
                    params.subject_alt_names = vec![support::uri(&format!("{GOOD_URI}-denied"))];
                }),
                is!(Rejection::Denied),
            ),
        ],
    );
    accepted(&trust, &serial(4712));
}

#[test]
fn a_list_speaks_for_the_authority_that_signed_it_and_for_no_other() {
    let forge = Forge::root("root");
    let namesake = Forge::root("root");
    let foreign = Forge::root("foreign");
    let ours = forge.leaf(|params| params.serial_number = Some(4711.into()));
    let theirs = namesake.leaf(|params| params.serial_number = Some(4711.into()));

    accepted(&support::trust(&[&forge], vec![foreign.crl(1, &[4711])], ""), &ours);
    accepted(&support::trust(&[&forge], vec![namesake.crl(1, &[4711])], ""), &ours);

    // An authority and its successor of the same name, each with a list.
    let lists = vec![namesake.crl(2, &[]), forge.crl(1, &[4711])];
    let both = support::trust(&[&namesake, &forge], lists, "");
    assert_eq!(both.check(&ours.chain, support::now()), Err(Rejection::Revoked));
    accepted(&both, &theirs);

    // Two lists of one authority, in either order: the newer one counts.
    for lists in [
        vec![forge.crl(1, &[]), forge.crl(2, &[4711])],
        vec![forge.crl(2, &[4711]), forge.crl(1, &[])],
    ] {
        let trust = support::trust(&[&forge], lists, "");
        assert_eq!(trust.check(&ours.chain, support::now()), Err(Rejection::Revoked));
    }

    // An intermediate's own list.
    let below = forge.intermediate("below", |_| {});
    let leaf = below.leaf(|params| params.serial_number = Some(9.into())).through(&below);
    let trust = support::trust(&[&forge], vec![below.crl(1, &[9])], "");
    assert_eq!(trust.check(&leaf.chain, support::now()), Err(Rejection::Revoked));
    accepted(&support::trusting(&[&forge]), &leaf);
}

#[test]
fn a_root_counts_for_as_long_as_it_is_valid() {
    let forge = Forge::root("any");
    let old = forge.intermediate("old", |params| {
        params.not_after = (SystemTime::now() - DAY).into();
    });
    let rejection = support::trusting(&[&old]).check(&old.leaf(|_| {}).chain, support::now());
    assert_eq!(rejection, Err(Rejection::Expired));
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let forge = Forge::root("root");
    let broker = Broker::new();
    let config = broker.config(&support::trusting(&[&forge]));
    let error = support::handshake(broker.client(None), config).expect_err("no certificate");
    assert_eq!(error, rustls::Error::NoCertificatesPresented);
}

#[test]
fn a_client_with_another_holders_certificate_is_refused() {
    let forge = Forge::root("root");
    let broker = Broker::new();
    let stolen =
        Presented { chain: forge.leaf(|_| {}).chain, key: KeyPair::generate().expect("a key") };
    let config = broker.config(&support::trusting(&[&forge]));
    let error = support::handshake(broker.client(Some(&stolen)), config).expect_err("stolen");
    assert_eq!(error, rustls::CertificateError::BadSignature.into());
}

#[test]
fn what_cannot_be_trusted_is_refused_beforehand() {
    let forge = Forge::root("root");
    let leaf = forge.leaf(|_| {}).chain.remove(0);
    let garbage = CertificateDer::from(vec![1, 2, 3]);
    let new = |roots, crls, deny: &str| {
        let deny = tollgate_certs::DenyList::parse(deny).expect("a list");
        Trust::new(roots, crls, deny, TrustDomain::default()).map(|_| ())
    };
    let root = || forge.certificate.clone();
    assert_eq!(new(vec![], vec![], ""), Err(TrustError::NoRoots));
    assert_eq!(new(vec![root(), leaf], vec![], ""), Err(TrustError::NotAnAuthority { index: 1 }));
    let error = new(vec![garbage], vec![], "").expect_err("garbage");
    assert!(matches!(error, TrustError::BadRoot { index: 0, .. }), "{error}");
    let error = new(vec![root()], vec![vec![0x30, 0x00].into()], "").expect_err("an empty list");
    assert!(matches!(error, TrustError::BadCrl { index: 0, .. }), "{error}");
    let error = new(vec![root()], vec![], "spiffe://example.org/gateway/eu").expect_err("foreign");
    assert!(matches!(error, TrustError::ForeignDeny { .. }), "{error}");
}

#[test]
fn good_certificates_get_in_as_who_they_are() {
    let forge = Forge::root("root");
    let trust = support::trusting(&[&forge]);
    for (path, role, tenant, name) in [
        ("tenant/acme/client", Role::Client, Some("acme"), None),
        ("tenant/acme/client/a.B_c-9", Role::Client, Some("acme"), Some("a.B_c-9")),
        ("tenant/0/worker", Role::TenantWorker, Some("0"), None),
        ("tenant/a-b/worker/...", Role::TenantWorker, Some("a-b"), Some("...")),
        ("worker/gpu-1", Role::PlatformWorker, None, Some("gpu-1")),
        ("gateway/eu", Role::Gateway, None, Some("eu")),
        ("operator/root", Role::Operator, None, Some("root")),
        // A client whose own name is a role's.
        ("tenant/operator/client/operator", Role::Client, Some("operator"), Some("operator")),
    ] {
        let uri = format!("spiffe://tollgate.local/{path}");
        let identity = accepted(
            &trust,
            &forge.leaf(|params| params.subject_alt_names = vec![support::uri(&uri)]),
        );
        assert_eq!(identity.role(), role, "{path}");
        assert_eq!(identity.tenant().map(|t| t.as_str()), tenant, "{path}");
        assert_eq!(identity.name(), name, "{path}");
        assert_eq!(identity.spiffe_id(&TrustDomain::default()), uri);
    }
    let dns = SanType::DnsName("laptop".try_into().expect("a name"));
    accepted(&trust, &forge.leaf(|params| params.subject_alt_names.push(dns)));
    accepted(&trust, &forge.leaf(|params| params.extended_key_usages.clear()));
    accepted(
        &trust,
        &forge.leaf(|params| params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth)),
    );
    let below = forge.intermediate("below", |_| {});
    accepted(&trust, &below.leaf(|_| {}).through(&below));
}

#[track_caller]
fn accepted(trust: &Trust, presented: &Presented) -> Identity {
    let broker = Broker::new();
    support::handshake(broker.client(Some(presented)), broker.config(trust)).expect("a handshake");
    trust.check(&presented.chain, support::now()).expect("accepted")
}
