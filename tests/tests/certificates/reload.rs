//! Files that change while the broker runs: the server's own certificate, and the tenants.
//!
//! A change drops nobody; a bad file changes nothing.

use std::{fs, path::Path};

use rustls::pki_types::{CertificateDer, ServerName};
use tollgate_broker::tenancy::State;
use tollgate_certs::{Authority, IssueOptions, Issued};
use tollgate_client::{Client, CloseCode, Code, Event, Request};
use tollgate_tests::{Rig, eventually, held::Held, raw};

use super::{closed, is_served};

/// The certificate that a new handshake shows.
async fn shown(rig: &Rig) -> CertificateDer<'static> {
    let raw = raw::connect(rig.addr(), &rig.credentials("acme")).await;
    let chain = raw.conn.peer_identity().expect("a chain");
    let chain = chain.downcast::<Vec<CertificateDer<'static>>>().expect("certificates");
    raw.conn.close(0u32.into(), b"");
    chain[0].clone()
}

/// A new certificate for the server, as an operator renews it.
fn renew(rig: &Rig) -> Issued {
    let authority = Authority::load(&rig.path("dev-ca")).expect("the authority");
    let name = ServerName::try_from("localhost").expect("a name");
    authority.issue_server(&[name], &IssueOptions::default()).expect("issued")
}

fn der(issued: &Issued) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).expect("a certificate")
}

#[tokio::test]
async fn the_servers_certificate_is_renewed_and_nobody_notices() {
    let held = Held::default();
    let rig = Rig::with_catalog(held.catalog(), |_| {}).await;
    let client = rig.client("acme").await;
    let mut batch = client.batch().open().await.expect("a batch");
    batch.send(Request::new("held", "one")).await.expect("sent");
    batch.flush().await.expect("sent");
    held.begun(1).await;

    // Asked for.
    let first = renew(&rig);
    first.write(&rig.path("dev-ca/server")).expect("written");
    rig.broker.reload().await.expect("good files");
    assert_eq!(shown(&rig).await, der(&first));

    // Not asked for: the files are watched.
    let second = renew(&rig);
    second.write(&rig.path("dev-ca/server")).expect("written");
    let seen = async { while shown(&rig).await != der(&second) {} };
    tokio::time::timeout(tollgate_tests::SOON, seen).await.expect("the new one is shown");

    // The batch never knew.
    batch.send(Request::new("held", "two")).await.expect("sent");
    batch.finish().await.expect("sealed");
    held.release(2);
    let mut succeeded = 0;
    while let Some(event) = batch.next().await {
        if let Event::Summary(summary) = event.expect("an event") {
            succeeded = summary.succeeded;
        }
    }
    assert_eq!(succeeded, 2);
    is_served(&client).await;
}

#[tokio::test]
async fn bad_certificate_files_are_refused_and_the_old_ones_kept() {
    let rig = Rig::start().await;
    let client = rig.client("acme").await;
    let before = shown(&rig).await;
    let server = rig.path("dev-ca/server");
    let good = renew(&rig);
    let other = renew(&rig);
    let bad = [
        ("not PEM", "cert.pem", "nonsense".to_owned()),
        ("nothing", "cert.pem", String::new()),
        ("another certificate's key", "key.pem", other.key_pem.clone()),
    ];
    for (what, file, text) in bad {
        good.write(&server).expect("written");
        fs::write(server.join(file), text).expect("written");
        let error = rig.broker.reload().await.expect_err(what);
        assert!(error.to_string().contains("cert.pem"), "{what}: {error} names the file");
        assert_eq!(shown(&rig).await, before, "{what}");
    }
    fs::write(rig.path("dev-ca/deny.txt"), "acme\n").expect("written");
    good.write(&server).expect("written");
    let error = rig.broker.reload().await.expect_err("a deny list that denies nobody");
    assert!(error.to_string().contains("deny.txt: line 1"), "{error}");
    assert_eq!(shown(&rig).await, before, "taken as a whole, or not at all");

    fs::write(rig.path("dev-ca/deny.txt"), "").expect("written");
    rig.broker.reload().await.expect("good files");
    assert_eq!(shown(&rig).await, der(&good));
    is_served(&client).await;
}

/// A file of tenants: `acme` as given, `globex` as always.
fn write_tenants(path: &Path, acme: &str) {
    let text = format!("[tenants.acme]\n{acme}\n\n[tenants.globex]\n");
    fs::write(path, text).expect("written");
}

async fn with_tenants_file(path: &Path) -> Rig {
    write_tenants(path, "");
    Rig::with(|c| c.tenancy.tenants_file = Some(path.into())).await
}

#[tokio::test]
async fn a_tenant_suspended_in_the_file_is_closed_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("tenants.toml");
    let rig = with_tenants_file(&file).await;
    let (acme, globex) = (rig.client("acme").await, rig.client("globex").await);

    write_tenants(&file, "state = \"suspended\"");
    assert_eq!(closed(&acme).await.0, CloseCode::TenantSuspended);
    is_served(&globex).await;

    write_tenants(&file, "");
    eventually("it is active again", || {
        rig.broker.tenants().get("acme").expect("acme").state() == State::Active
    })
    .await;
    let _: String = acme.call("echo", "back").await.expect("an answer");

    // Left out is deleted.
    fs::write(&file, "[tenants.globex]\n").expect("written");
    assert_eq!(closed(&acme).await.0, CloseCode::TenantDeleted);
    is_served(&globex).await;
}

/// How many of four items succeed, and how the others fail.
async fn four_items(client: &Client) -> (usize, Vec<Code>) {
    let result = client.execute((0..4).map(|_| Request::new("echo", "x"))).await.expect("a batch");
    let failed = result.failures().filter_map(|item| item.code()).collect();
    (result.successes().count(), failed)
}

#[tokio::test]
async fn a_quota_in_the_file_acts_at_once_on_live_connections() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("tenants.toml");
    let rig = with_tenants_file(&file).await;
    let client = rig.client("acme").await;
    let conn = client.connection().expect("connected").stable_id();
    assert_eq!(four_items(&client).await, (4, vec![]));

    write_tenants(&file, "quotas = { batch_items = 3 }");
    rig.broker.reload().await.expect("a good file");
    assert_eq!(four_items(&client).await, (3, vec![Code::BatchTooLarge]));

    write_tenants(&file, "quotas = { batches_in_flight = 0 }");
    rig.broker.reload().await.expect("a good file");
    let error = client.execute([Request::new("echo", "x")]).await.expect_err("no batch is allowed");
    assert_eq!(error.code(), Some(Code::QuotaExceeded), "{error}");

    write_tenants(&file, "");
    rig.broker.reload().await.expect("a good file");
    assert_eq!(four_items(&client).await, (4, vec![]));
    assert_eq!(client.connection().expect("connected").stable_id(), conn, "never reconnected");
}

#[tokio::test]
async fn a_bad_file_of_tenants_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("tenants.toml");
    let rig = with_tenants_file(&file).await;
    let client = rig.client("acme").await;
    let bad = [
        ("not TOML", "[tenants.acme"),
        ("an unknown key", "[tenants.acme]\ncolour = \"red\"\n"),
        ("an unknown profile", "[tenants.acme]\nprofile = \"gold\"\n"),
        ("an id that is none", "[tenants.acme]\n[tenants.ACME]\n"),
        ("a good tenant before a bad one", "[tenants.new]\n[tenants.acme]\nweight = 0\n"),
    ];
    for (what, text) in bad {
        fs::write(&file, text).expect("written");
        let error = rig.broker.reload().await.expect_err(what).to_string();
        assert!(error.contains("tenants.toml"), "{what}: {error} names the file");
        let ids: Vec<_> =
            rig.broker.tenants().all().iter().map(|t| (t.id().to_string(), t.state())).collect();
        let before = ["acme", "globex"].map(|id| (id.to_owned(), State::Active));
        assert_eq!(ids, before, "{what}");
    }
    fs::remove_file(&file).expect("removed");
    rig.broker.reload().await.expect_err("a file that is gone");
    is_served(&client).await;
}
