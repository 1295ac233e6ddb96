//! What changes while the broker runs: the server's own certificate, and quotas.
//!
//! A change drops nobody; a bad file changes nothing.

use std::{collections::BTreeMap, fs};

use rustls::pki_types::{CertificateDer, ServerName};
use tollgate_broker::tenancy::{Limit, Overrides};
use tollgate_certs::{Authority, IssueOptions, Issued};
use tollgate_client::{Client, Code, Event, Request};
use tollgate_tests::{Rig, held::Held, raw, settings};

use super::is_served;

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

/// How many of four items succeed, and how the others fail.
async fn four_items(client: &Client) -> (usize, Vec<Code>) {
    let result = client.execute((0..4).map(|_| Request::new("echo", "x"))).await.expect("a batch");
    let failed = result.failures().filter_map(|item| item.code()).collect();
    (result.successes().count(), failed)
}

#[tokio::test]
async fn a_quota_acts_at_once_on_live_connections() {
    let rig = Rig::start().await;
    let client = rig.client("acme").await;
    let conn = client.connection().expect("connected").stable_id();
    assert_eq!(four_items(&client).await, (4, vec![]));
    let (tenants, before) = (rig.broker.tenants(), settings());

    let few = Some(Limit::at_most(3));
    tenants.update("acme", None, |s| s.overrides.batch_items = few).await.expect("acme");
    assert_eq!(four_items(&client).await, (3, vec![Code::BatchTooLarge]));

    let none = Some(Limit::NONE);
    tenants.update("acme", None, |s| s.overrides.batches_in_flight = none).await.expect("acme");
    let error = client.execute([Request::new("echo", "x")]).await.expect_err("no batch is allowed");
    assert_eq!(error.code(), Some(Code::QuotaExceeded), "{error}");

    tenants.update("acme", None, |s| *s = before).await.expect("acme");
    assert_eq!(four_items(&client).await, (4, vec![]));
    assert_eq!(client.connection().expect("connected").stable_id(), conn, "never reconnected");
}

#[tokio::test]
async fn a_profile_acts_at_once_on_live_connections() {
    let rig = Rig::start().await;
    let tenants = rig.broker.tenants();
    let (acme, globex) = (rig.client("acme").await, rig.client("globex").await);
    tenants.update("acme", None, |s| s.overrides = Overrides::NOTHING).await.expect("acme");

    let few = Overrides { batch_items: Some(Limit::at_most(3)), ..Overrides::NOTHING };
    tenants.set_profiles(&BTreeMap::from([("default".to_owned(), few)])).await;
    assert_eq!(four_items(&acme).await, (3, vec![Code::BatchTooLarge]));
    assert_eq!(four_items(&globex).await, (4, vec![]), "it has this quota its own way");
    tenants.set_profiles(&BTreeMap::new()).await;
    assert_eq!(four_items(&acme).await, (4, vec![]));
}
