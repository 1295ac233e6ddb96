//! `tollgate cert`: an authority's whole life, on files and against a broker.

use std::{fs, path::Path};

use tollgate_tests::process::{Served, run};

use super::{directory, exit, says, write};

fn inspect(dir: &Path, file: &str) -> serde_json::Value {
    run(dir, ["cert", "inspect", file, "--output", "json"]).ends_with(exit::OK).json()
}

/// Whether others than the owner may read a file.
#[cfg(unix)]
fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).expect("the file").permissions().mode() & 0o077 == 0
}

#[test]
fn an_authority_is_made_once_and_never_overwritten() {
    let dir = directory();
    let init = ["cert", "init", "--dir", "ca", "--trust-domain", "example.org"];
    run(dir.path(), init).ends_with(exit::OK);
    assert!(is_private(&dir.path().join("ca/ca.key")));
    let before = fs::read(dir.path().join("ca/ca.key")).expect("a key");
    let ran = run(dir.path(), init).ends_with(exit::FAILURE);
    says(&ran, &["never overwritten", "ca/ca.pem"]);
    assert_eq!(fs::read(dir.path().join("ca/ca.key")).expect("a key"), before);
    let ca = inspect(dir.path(), "ca/ca.pem");
    assert_eq!(ca["authority"], true);
}

#[test]
fn every_role_is_issued_and_read_back() {
    let dir = directory();
    run(dir.path(), ["cert", "init", "--dir", "ca"]).ends_with(exit::OK);
    let cases: &[(&[&str], &str)] = &[
        (&["--tenant", "acme"], "tenant/acme/client"),
        (&["--tenant", "acme", "--name", "laptop"], "tenant/acme/client/laptop"),
        (&["--tenant", "acme", "--role", "worker"], "tenant/acme/worker"),
        (&["--role", "platform-worker", "--name", "w-1"], "worker/w-1"),
        (&["--role", "gateway", "--name", "eu"], "gateway/eu"),
        (&["--role", "operator", "--name", "root"], "operator/root"),
    ];
    for (n, (args, path)) in cases.iter().enumerate() {
        let out = format!("out-{n}");
        let common = ["cert", "issue", "--ca", "ca", "--out", &out, "--days", "7"];
        run(dir.path(), common.iter().chain(*args)).ends_with(exit::OK);
        let info = inspect(dir.path(), &format!("{out}/cert.pem"));
        assert_eq!(info["spiffe_id"], format!("spiffe://tollgate.local/{path}"));
        assert_eq!(info["authority"], false);
        assert_eq!(info["expired"], false);
        assert!(is_private(&dir.path().join(out).join("key.pem")));
    }
}

#[test]
fn what_cannot_be_issued_says_why() {
    let dir = directory();
    run(dir.path(), ["cert", "init", "--dir", "ca"]).ends_with(exit::OK);
    let cases: &[(&[&str], &str)] = &[
        (&[], "tenant"),
        (&["--tenant", "Acme"], "Acme"),
        (&["--tenant", "acme", "--role", "gateway"], "leave --tenant out"),
        (&["--role", "gateway"], "name"),
        (&["--tenant", "acme", "--name", "a/b"], "a/b"),
        (&["--tenant", "acme", "--days", "0"], "--days"),
        (&["--tenant", "acme", "--role", "king"], "king"),
    ];
    for (args, part) in cases {
        let common = ["cert", "issue", "--ca", "ca", "--out", "out"];
        let ran = run(dir.path(), common.iter().chain(*args)).ends_with(exit::USAGE);
        says(&ran, &[part]);
        assert!(!dir.path().join("out").exists(), "{args:?}");
    }
    let ran = run(dir.path(), ["cert", "issue", "--ca", "none", "--tenant", "a", "--out", "out"]);
    says(&ran.ends_with(exit::USAGE), &["none", "cert init"]);
    write(dir.path(), "garbage.pem", "garbage");
    let ran = run(dir.path(), ["cert", "inspect", "garbage.pem"]).ends_with(exit::FAILURE);
    says(&ran, &["garbage.pem"]);
}

#[test]
fn a_broker_runs_on_certificates_of_ones_own() {
    let dir = directory();
    let cert = |args: &[&str]| {
        run(dir.path(), ["cert"].iter().chain(args)).ends_with(exit::OK);
    };
    cert(&["init", "--dir", "ca"]);
    cert(&["server", "--ca", "ca", "--ip", "127.0.0.1", "--name", "localhost", "--out", "broker"]);
    cert(&["issue", "--ca", "ca", "--tenant", "acme", "--out", "acme"]);
    let config = "[tls]\ncertificate = \"broker/cert.pem\"\nkey = \"broker/key.pem\"\n\
                  roots = [\"broker/ca.pem\"]\ncrls = [\"ca/crl.pem\"]\n";
    write(dir.path(), "tollgate.toml", config);
    run(dir.path(), ["config", "check"]).ends_with(exit::OK);
    // An authority of old has no list: one is made that revokes nothing.
    std::fs::remove_file(dir.path().join("ca/crl.pem")).expect("it was made");
    says(&run(dir.path(), ["config", "check"]).ends_with(exit::USAGE), &["ca/crl.pem"]);
    cert(&["revoke", "--ca", "ca"]);
    run(dir.path(), ["config", "check"]).ends_with(exit::OK);
    let served = Served::start_in(dir, "127.0.0.1:0", &[]);
    assert!(served.ready["dev_ca"].is_null(), "no development authority is made");
    let echo = ["batch", "run", "--recipe", "echo", "--payload", "x"];
    served.run("acme", &echo).ends_with(exit::OK);
    // Its own list of revocations is heeded, which was empty at the start.
    let revoke = ["cert", "revoke", "--ca", "ca", "--cert", "acme/cert.pem"];
    run(served.dir.path(), revoke).ends_with(exit::OK);
    served.logs("taken over");
    served.run("acme", &echo).ends_with(exit::UNAUTHORISED);
}

#[test]
fn a_revoked_certificate_is_refused_and_its_successor_is_not() {
    let served = Served::start(&[]);
    let (lost, kept) =
        (served.issue(&["--tenant", "acme"]), served.issue(&["--tenant", "acme", "--name", "b"]));
    let echo = ["batch", "run", "--recipe", "echo", "--payload", "x"];
    served.run(&lost, &echo).ends_with(exit::OK);
    let serial = inspect(served.dir.path(), &format!("{lost}/cert.pem"))["serial"].clone();
    let serial = serial.as_str().expect("a serial");
    let revoke = ["cert", "revoke", "--ca", "data/dev-ca", "--serial", serial];
    run(served.dir.path(), revoke).ends_with(exit::OK);
    served.logs("taken over");
    says(&served.run(&lost, &echo).ends_with(exit::UNAUTHORISED), &["refused", "revoked"]);
    served.run(&kept, &echo).ends_with(exit::OK);
}
