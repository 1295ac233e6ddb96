//! Files that change under a running broker: the good ones are taken over, the bad ones refused.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tempfile::TempDir;
use tokio::{sync::watch, time::timeout};
use tollgate_certs::{
    Authority, DenyList, Identity, IssueOptions, Issued, Paths, Rejection, Rotator, Serial,
    Snapshot, TrustDomain, deny,
    rotate::{self, Handle, RotateError},
};

/// A broker's directory, with one client.
struct Home {
    dir: TempDir,
    authority: Authority,
    client: Issued,
}

impl Home {
    fn new() -> Home {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::create("dev", &TrustDomain::default()).expect("created");
        authority.save(dir.path()).expect("saved");
        let home = Home { client: operator(&authority), dir, authority };
        home.renew();
        home
    }

    /// Gives the broker another certificate.
    fn renew(&self) {
        let name = ServerName::try_from("localhost").expect("a name");
        let issued = self.authority.issue_server(&[name], &IssueOptions::default());
        issued.expect("issued").write(&self.path("server")).expect("written");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces a file in one step: what is under test is its content.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.path("new"), text).expect("written");
        fs::rename(self.path("new"), self.path(name)).expect("moved");
    }

    fn revoke(&self, issued: &Issued) {
        let serial = Serial::parse(&issued.serial).expect("hex");
        self.authority.revoke(self.dir.path(), &[serial]).expect("revoked");
    }

    fn paths(&self) -> Paths {
        Paths {
            certificate: self.path("server/cert.pem"),
            key: self.path("server/key.pem"),
            roots: vec![self.path("ca.pem")],
            crls: vec![self.path("crl.pem")],
            deny: Some(self.path("deny")),
            domain: TrustDomain::default(),
        }
    }

    /// A rotator that polls as fast as it can.
    fn follow(&self) -> (Handle, watch::Receiver<Snapshot>) {
        let poll = Duration::from_millis(2);
        let (rotator, handle) = Rotator::with_poll(self.paths(), poll).expect("good files");
        tokio::spawn(rotator.run());
        let snapshots = handle.subscribe();
        (handle, snapshots)
    }

    fn verdict(&self, snapshot: &Snapshot) -> Result<Identity, Rejection> {
        let pem = self.client.certificate_pem.as_bytes();
        let certificate = CertificateDer::from_pem_slice(pem).expect("PEM");
        snapshot.trust.check(&[certificate], support::now())
    }
}

fn operator(authority: &Authority) -> Issued {
    let identity = Identity::operator("root").expect("an identity");
    authority.issue(&identity, &IssueOptions::default()).expect("issued")
}

async fn next(snapshots: &mut watch::Receiver<Snapshot>) -> Snapshot {
    let changed = timeout(Duration::from_secs(20), snapshots.changed()).await;
    changed.expect("a change in time").expect("the rotator runs");
    snapshots.borrow_and_update().clone()
}

#[tokio::test]
async fn a_renewed_certificate_and_a_list_that_appears_are_taken_over() {
    let home = Home::new();
    let (handle, mut snapshots) = home.follow();
    let first = handle.current();
    assert_eq!(first.generation, 1);
    assert!(home.verdict(&first).is_ok(), "lists that are not there yet revoke nobody");

    home.renew();
    let second = next(&mut snapshots).await;
    assert_ne!(second.server.chain(), first.server.chain());

    home.revoke(&home.client);
    let third = next(&mut snapshots).await;
    assert_eq!(home.verdict(&third), Err(Rejection::Revoked));
    assert!(third.generation > second.generation && second.generation > first.generation);
    assert!(home.verdict(&first).is_ok(), "a snapshot never changes");
}

#[tokio::test]
async fn a_deny_list_acts_and_can_be_taken_back() {
    let home = Home::new();
    let (_handle, mut snapshots) = home.follow();
    home.write("deny", "spiffe://tollgate.local/operator/root # lost\n");
    assert_eq!(home.verdict(&next(&mut snapshots).await), Err(Rejection::Denied));
    home.write("deny", "# nobody\n");
    assert!(home.verdict(&next(&mut snapshots).await).is_ok());
}

#[tokio::test]
async fn what_is_denied_besides_the_files_stays_denied_when_they_change() {
    let home = Home::new();
    let (mut rotator, handle) = Rotator::new(home.paths()).expect("good files");
    let entry = |text: &str| text.parse::<deny::Entry>().expect("an entry");
    let root: DenyList = [entry("spiffe://tollgate.local/operator/root")].into_iter().collect();
    assert_eq!(rotator.deny(root.clone()).expect("of this domain"), 2);
    assert_eq!(home.verdict(&handle.current()), Err(Rejection::Denied), "before it runs");
    assert_eq!(rotator.deny(root.clone()).expect("of this domain"), 2, "nothing new");
    tokio::spawn(rotator.run());

    home.renew();
    assert_eq!(handle.reload().await.expect("good files"), 3);
    assert_eq!(home.verdict(&handle.current()), Err(Rejection::Denied));
    let foreign = [entry("spiffe://other.example/operator/root")].into_iter().collect();
    let error = handle.deny(foreign).await.expect_err("it would refuse nobody");
    assert!(error.to_string().contains("other.example"), "{error}");
    assert_eq!(home.verdict(&handle.current()), Err(Rejection::Denied));

    let serial = [entry(&home.client.serial)].into_iter().collect();
    assert_eq!(handle.deny(serial).await.expect("a serial"), 4);
    assert_eq!(home.verdict(&handle.current()), Err(Rejection::Denied));
    assert_eq!(handle.deny(DenyList::default()).await.expect("nobody"), 5);
    assert!(home.verdict(&handle.current()).is_ok());
}

#[tokio::test]
async fn a_root_that_is_removed_no_longer_vouches() {
    let home = Home::new();
    let (_handle, mut snapshots) = home.follow();
    let successor = Authority::create("dev", &TrustDomain::default()).expect("created");
    home.write("ca.pem", successor.certificate_pem());
    assert_eq!(home.verdict(&next(&mut snapshots).await), Err(Rejection::UnknownIssuer));
}

#[tokio::test]
async fn bad_files_are_refused_and_the_last_good_ones_stay() {
    let home = Home::new();
    home.revoke(&home.client);
    home.write("deny", "");
    let (handle, mut snapshots) = home.follow();
    let good: Vec<(&str, String)> = ["server/cert.pem", "server/key.pem", "ca.pem", "crl.pem"]
        .map(|name| (name, fs::read_to_string(home.path(name)).expect("a file")))
        .to_vec();
    let key = good[1].1.clone();
    let cases = [
        ("a broken certificate", "server/cert.pem", "-----BEGIN CERTIFICATE-----\nMII"),
        ("an empty certificate", "server/cert.pem", ""),
        ("a key instead of a certificate", "server/cert.pem", key.as_str()),
        ("another authority's key", "server/key.pem", &home.client.key_pem),
        ("an empty key", "server/key.pem", ""),
        ("no roots", "ca.pem", ""),
        ("a leaf as a root", "ca.pem", &home.client.certificate_pem),
        ("half a list", "crl.pem", &good[3].1[..good[3].1.len() / 2]),
        ("an empty list", "crl.pem", ""),
        ("a deny list with an error", "deny", "spiffe://tollgate.local/operator\n"),
        ("a deny list for another domain", "deny", "spiffe://example.org/operator/root\n"),
    ];
    for (sentence, name, text) in cases {
        home.write(name, text);
        handle.reload().await.expect_err(sentence);
        let current = handle.current();
        assert_eq!(current.generation, 1, "{sentence}");
        assert_eq!(home.verdict(&current), Err(Rejection::Revoked), "{sentence}");
        for (name, text) in &good {
            home.write(name, text);
        }
        home.write("deny", "");
        assert_eq!(handle.reload().await.expect("good again"), 1, "{sentence}");
    }
    assert!(!snapshots.has_changed().expect("the rotator runs"));
    home.renew();
    assert_eq!(next(&mut snapshots).await.generation, 2);
}

#[tokio::test]
async fn a_list_that_goes_missing_lets_nobody_back_in() {
    let home = Home::new();
    home.revoke(&home.client);
    home.write("deny", "");
    let (handle, _snapshots) = home.follow();
    for name in ["crl.pem", "deny"] {
        let text = fs::read_to_string(home.path(name)).expect("a file");
        fs::remove_file(home.path(name)).expect("removed");
        let error = handle.reload().await.expect_err("a missing list");
        assert!(matches!(&error, RotateError::Missing(path) if path.ends_with(name)), "{error}");
        assert_eq!(home.verdict(&handle.current()), Err(Rejection::Revoked));
        home.write(name, &text);
        handle.reload().await.expect("good again");
    }
}

#[tokio::test]
async fn a_reload_acts_at_once_and_says_which_generation_is_in_force() {
    let home = Home::new();
    let (handle, _snapshots) = home.follow();
    assert_eq!(handle.reload().await.expect("nothing changed"), 1);
    home.revoke(&home.client);
    let generation = handle.reload().await.expect("a good list");
    assert!(generation >= 2);
    assert_eq!(home.verdict(&handle.current()), Err(Rejection::Revoked));
}

#[tokio::test]
async fn a_reload_after_the_rotator_is_gone_is_an_error() {
    let home = Home::new();
    let (rotator, handle) = Rotator::new(home.paths()).expect("good files");
    drop(rotator);
    assert!(matches!(handle.reload().await, Err(RotateError::Stopped)));
    assert!(home.verdict(&handle.current()).is_ok(), "the last good snapshot stays readable");
}

#[test]
fn loading_names_the_file_that_is_wrong() {
    let home = Home::new();
    assert_eq!(rotate::load(&home.paths()).expect("good files").generation, 1);
    let check = |change: &dyn Fn(&mut Paths, PathBuf), path: &Path| {
        let mut paths = home.paths();
        change(&mut paths, path.to_owned());
        let text = rotate::load(&paths).expect_err("wrong").to_string();
        assert!(text.contains(&*path.to_string_lossy()), "{text}");
    };
    for missing in [home.path("nothing"), home.dir.path().to_owned()] {
        check(&|paths, path| paths.certificate = path, &missing);
        check(&|paths, path| paths.key = path, &missing);
        check(&|paths, path| paths.roots = vec![path], &missing);
    }
    let key = home.path("ca.key");
    check(&|paths, path| paths.certificate = path, &key);
    check(&|paths, path| paths.roots.push(path), &key);
    check(&|paths, path| paths.crls = vec![path], &key);
    check(&|paths, path| paths.deny = Some(path), &key);
}
