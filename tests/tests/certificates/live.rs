//! What ends a connection that was good when it began; and that it ends no other.

use std::time::{Duration, SystemTime};

use tollgate_broker::tenancy::{DeleteError, Quota, State};
use tollgate_certs::{Authority, IssueOptions, Issued, Serial, TrustDomain};
use tollgate_client::{
    BatchError, Client, CloseCode, Code, ConnectError, Event, NoticeKind, Request,
};
use tollgate_tests::{Rig, client_identity, credentials, eventually, held::Held, settings};

use super::{closed, is_served};

/// A client that is connected with a certificate of its own.
async fn holder(rig: &Rig, tenant: &str) -> (Client, Issued) {
    let issued = rig.issue(&client_identity(tenant), &IssueOptions::default());
    let builder = rig.builder(tenant).credentials(credentials(&issued));
    (builder.connect().await.expect("a connection"), issued)
}

/// A certificate is refused from now on; `by` is a part of what its holder is told.
async fn is_refused(rig: &Rig, issued: &Issued, by: &str) {
    let builder = rig.builder("acme").credentials(credentials(issued));
    let error = builder.connect().await.expect_err("it is not let in again");
    // TLS counts whole seconds: within its last one an expired certificate is turned away after
    // the handshake.
    let refused =
        matches!(error, ConnectError::Refused { code: CloseCode::CertificateExpired, .. });
    assert!(refused || matches!(error, ConnectError::Unauthorized { .. }), "{error}");
    assert!(error.to_string().contains(by), "{error} does not say {by}");
    assert_eq!(error.code(), Some(Code::Unauthorized));
}

#[tokio::test]
async fn a_revoked_certificate_is_closed_out_and_stays_out() {
    let rig = Rig::start().await;
    let (revoked, lost) = holder(&rig, "acme").await;
    let (colleague, _) = holder(&rig, "acme").await;
    let (stranger, _) = holder(&rig, "globex").await;

    let dir = rig.path("dev-ca");
    let authority = Authority::load(&dir).expect("the authority");
    let serial = Serial::parse(&lost.serial).expect("a serial");
    authority.revoke(&dir, &[serial]).expect("revoked");

    let (code, reason) = closed(&revoked).await;
    assert_eq!(code, CloseCode::CertificateRevoked);
    assert!(reason.contains("revoked"), "{reason}");
    is_refused(&rig, &lost, "evoked").await;
    is_served(&colleague).await;
    is_served(&stranger).await;
}

#[tokio::test]
async fn the_deny_list_closes_out_a_certificate_or_a_holder_and_lets_back_in() {
    let rig = Rig::start().await;
    let (by_serial, issued) = holder(&rig, "acme").await;
    let (colleague, _) = holder(&rig, "acme").await;
    let (by_name, named) = holder(&rig, "globex").await;

    let deny = rig.path("dev-ca/deny.txt");
    std::fs::write(&deny, format!("{}  # a laptop that was lost\n", issued.serial))
        .expect("written");
    assert_eq!(closed(&by_serial).await.0, CloseCode::CertificateRevoked);
    is_refused(&rig, &issued, "").await;
    is_served(&colleague).await;
    is_served(&by_name).await;

    std::fs::write(&deny, "spiffe://tollgate.local/tenant/globex/client\n").expect("written");
    assert_eq!(closed(&by_name).await.0, CloseCode::CertificateRevoked);
    is_refused(&rig, &named, "").await;
    // Whom the list no longer names is let in again.
    is_served(&holder(&rig, "acme").await.0).await;
    let again = rig.builder("acme").credentials(credentials(&issued));
    is_served(&again.connect().await.expect("let in again")).await;
}

#[tokio::test]
async fn an_expiry_is_announced_on_open_streams_and_then_closes() {
    let held = Held::default();
    let rig = Rig::with_catalog(held.catalog(), |c| c.limits.expiry_notice_ms = 2_000).await;
    let now = SystemTime::now();
    let short = IssueOptions {
        not_before: now - Duration::from_secs(60),
        validity: Duration::from_secs(60 + 4),
    };
    let issued = rig.issue(&client_identity("acme"), &short);
    let builder = rig.builder("acme").credentials(credentials(&issued));
    let client = builder.connect().await.expect("still valid");
    let (stays, _) = holder(&rig, "acme").await;

    let mut batch = client.batch().open().await.expect("a batch");
    batch.send(Request::new("held", "x")).await.expect("sent");
    batch.flush().await.expect("sent");
    held.begun(1).await;
    let mut noticed = Vec::new();
    let error = loop {
        match batch.next().await.expect("not the end") {
            Ok(Event::Notice(notice)) => noticed.push(notice),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let [notice] = &noticed[..] else { panic!("one notice: {noticed:?}") };
    assert_eq!(notice.kind, NoticeKind::CertificateExpiring);
    assert_eq!(notice.at, issued.not_after);
    assert!(matches!(error, BatchError::Disconnected(_)), "{error}");
    assert_eq!(error.close_code(), Some(CloseCode::CertificateExpired), "{error}");
    // A certificate holds whole seconds; the clock of this machine is also the broker's.
    assert!(SystemTime::now() >= issued.not_after, "not before its time");
    is_refused(&rig, &issued, "xpired").await;
    is_served(&stays).await;
    rig.idle().await;
}

#[tokio::test]
async fn a_renewed_certificate_takes_over_and_old_work_ends_in_peace() {
    let held = Held::default();
    let rig = Rig::with_catalog(held.catalog(), |_| {}).await;
    let (client, _) = holder(&rig, "acme").await;
    let mut batch = client.batch().open().await.expect("a batch");
    batch.send(Request::new("held", "old")).await.expect("sent");
    batch.finish().await.expect("sealed");
    held.begun(1).await;
    let old = client.connection().expect("connected").stable_id();

    let renewed = rig.issue(&client_identity("acme"), &IssueOptions::default());
    client.set_credentials(&credentials(&renewed)).expect("good credentials");
    let _: String = client.call("echo", "new").await.expect("an answer");
    assert_ne!(client.connection().expect("connected").stable_id(), old, "a new connection");
    held.release(1);
    let mut ended = false;
    while let Some(event) = batch.next().await {
        if let Event::Summary(summary) = event.expect("an event") {
            ended = summary.succeeded == 1;
        }
    }
    assert!(ended, "the old batch came to its end");
    drop(batch);
    eventually("the old connection is let go", || rig.broker.counters().connections == 1).await;
}

#[tokio::test]
async fn removing_a_root_closes_what_it_vouched_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    let authority = |name| Authority::create(name, &TrustDomain::default()).expect("an authority");
    let (kept, removed, next) = (authority("kept"), authority("removed"), authority("next"));
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let server = kept.issue_server(&[name], &IssueOptions::default()).expect("issued");
    server.write(&path("server")).expect("written");
    std::fs::write(path("kept.pem"), kept.certificate_pem()).expect("written");
    std::fs::write(path("other.pem"), removed.certificate_pem()).expect("written");
    let rig = Rig::with(|c| {
        c.tls.certificate = Some(path("server/cert.pem"));
        c.tls.key = Some(path("server/key.pem"));
        c.tls.roots = vec![path("kept.pem"), path("other.pem")];
    })
    .await;
    assert!(rig.broker.dev_authority().is_none(), "no development authority is made");
    let connect = async |by: &Authority| {
        let mut issued =
            by.issue(&client_identity("acme"), &IssueOptions::default()).expect("issued");
        // Whom the client trusts is not who vouches for it.
        issued.ca_pem = kept.certificate_pem().to_owned();
        let client = Client::builder(rig.addr()).server_name("localhost");
        client.credentials(credentials(&issued)).connect().await
    };
    let stays = connect(&kept).await.expect("a connection");
    let goes = connect(&removed).await.expect("a connection");

    std::fs::write(path("other.pem"), next.certificate_pem()).expect("written");
    let (code, reason) = closed(&goes).await;
    assert_eq!(code, CloseCode::TrustRemoved);
    assert!(reason.contains("no trusted authority"), "{reason}");
    assert!(matches!(connect(&removed).await, Err(ConnectError::Unauthorized { .. })));
    is_served(&stays).await;
    is_served(&connect(&next).await.expect("the new root vouches")).await;
}

#[tokio::test]
async fn a_suspended_tenant_is_closed_out_and_may_come_back() {
    let held = Held::default();
    let rig = Rig::with_catalog(held.catalog(), |_| {}).await;
    let (suspended, other) = (rig.client("acme").await, rig.client("globex").await);
    let mut batch = suspended.batch().open().await.expect("a batch");
    batch.send(Request::new("held", "x")).await.expect("sent");
    batch.flush().await.expect("sent");
    held.begun(1).await;

    rig.broker.tenants().suspend("acme", None).await.expect("acme");
    let (code, reason) = closed(&suspended).await;
    assert_eq!(code, CloseCode::TenantSuspended);
    assert!(reason.contains("suspended"), "{reason}");
    let error = loop {
        match batch.next().await.expect("not a regular end") {
            Ok(event) => assert!(!matches!(event, Event::Summary(_)), "{event:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.close_code(), Some(CloseCode::TenantSuspended), "{error}");
    is_served(&other).await;

    rig.broker.tenants().activate("acme", None).await.expect("acme");
    let back: String = suspended.call("echo", "back").await.expect("it is let in again");
    assert_eq!(back, "back");
    rig.idle().await;
}

#[tokio::test]
async fn what_is_revoked_through_the_api_is_closed_out_and_may_come_back() {
    let rig = Rig::start().await;
    let (by_serial, issued) = holder(&rig, "acme").await;
    let (colleague, _) = holder(&rig, "acme").await;
    let (by_name, named) = holder(&rig, "globex").await;
    let revocations = rig.broker.revocations();

    let serial = issued.serial.parse().expect("a serial");
    let first = revocations.revoke(serial, "lost".into()).await.expect("revoked");
    assert_eq!(closed(&by_serial).await.0, CloseCode::CertificateRevoked);
    is_refused(&rig, &issued, "evoked").await;
    is_served(&colleague).await;

    let name = "spiffe://tollgate.local/tenant/globex/client".parse().expect("a holder");
    let second = revocations.revoke(name, String::new()).await.expect("revoked");
    assert_eq!(closed(&by_name).await.0, CloseCode::CertificateRevoked);
    is_refused(&rig, &named, "evoked").await;
    is_served(&colleague).await;

    for revocation in [first, second] {
        revocations.reinstate(revocation.id).await.expect("there is one");
    }
    let again = rig.builder("acme").credentials(credentials(&issued)).connect().await;
    is_served(&again.expect("it may come back")).await;
}

/// A batch of a tenant in which one item runs.
async fn running(client: &Client, held: &Held) -> tollgate_client::Batch {
    let mut batch = client.batch().open().await.expect("a batch");
    batch.send(Request::new("held", "x")).await.expect("sent");
    batch.flush().await.expect("sent");
    held.begun(1).await;
    batch
}

#[tokio::test]
async fn a_tenant_is_deleted_when_nothing_of_it_is_open() {
    let held = Held::default();
    let rig = Rig::with_catalog(held.catalog(), |_| {}).await;
    let client = rig.client("acme").await;
    let _batch = running(&client, &held).await;
    let tenants = rig.broker.tenants();
    assert_eq!(tenants.delete("acme", None).await, Err(DeleteError::Active));
    let tenant = tenants.get("acme").expect("acme");
    let open = tenant.open();
    assert_eq!((open.connections, open.batches), (1, 1));
    tenants.suspend("acme", None).await.expect("acme");
    assert_eq!(closed(&client).await.0, CloseCode::TenantSuspended);
    eventually("nothing of it is open", || tenant.is_idle()).await;
    tenants.delete("acme", None).await.expect("it is idle");
    assert_eq!(tenant.state(), State::Deleted);
}

#[tokio::test]
async fn by_force_what_runs_of_a_tenant_may_finish_and_nothing_new_begins() {
    let held = Held::default();
    let rig = Rig::with_catalog(held.catalog(), |c| c.tenancy.delete_drain_ms = 60_000).await;
    let (client, other) = (rig.client("acme").await, rig.client("globex").await);
    let mut batch = running(&client, &held).await;
    let conn = client.connection().expect("connected");
    let tenants = rig.broker.tenants().clone();
    let deletion = tokio::spawn(async move { tenants.delete_now("acme", None).await });

    let notice = loop {
        match batch.next().await.expect("not the end").expect("an event") {
            Event::Notice(notice) => break notice,
            _ => continue,
        }
    };
    assert_eq!(notice.kind, NoticeKind::Draining);
    assert!(notice.message.contains("tenant"), "{notice:?}");
    let late = client.execute([Request::new("echo", "x")]).await.expect_err("nothing begins");
    assert_eq!(late.code(), Some(Code::Forbidden), "{late}");
    let error = rig.builder("acme").connect().await.expect_err("nobody is let in");
    assert!(error.to_string().contains("deleted"), "{error}");

    held.release(1);
    batch.finish().await.expect("sealed");
    let mut succeeded = 0;
    while let Some(event) = batch.next().await {
        if let Event::Summary(summary) = event.expect("an event") {
            succeeded = summary.succeeded;
        }
    }
    assert_eq!(succeeded, 1);
    assert_eq!(super::closed_connection(&conn).await.0, CloseCode::TenantDeleted);
    deletion.await.expect("no panic").expect("deleted");
    is_served(&other).await;
}

#[tokio::test]
async fn by_force_what_does_not_finish_is_cut() {
    let held = Held::default();
    let rig = Rig::with_catalog(held.catalog(), |c| c.tenancy.delete_drain_ms = 50).await;
    let client = rig.client("acme").await;
    let mut batch = running(&client, &held).await;
    let conn = client.connection().expect("connected");
    rig.broker.tenants().delete_now("acme", None).await.expect("acme");
    assert_eq!(super::closed_connection(&conn).await.0, CloseCode::TenantDeleted);
    let error = loop {
        match batch.next().await.expect("not a regular end") {
            Ok(event) => assert!(!matches!(event, Event::Summary(_)), "{event:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.close_code(), Some(CloseCode::TenantDeleted), "{error}");
    rig.idle().await;
}

#[tokio::test]
async fn a_tenant_made_again_under_its_id_is_another_tenant() {
    let rig = Rig::start().await;
    let client = rig.client("acme").await;
    let old = rig.broker.tenants().get("acme").expect("acme");
    let conn = client.connection().expect("connected");

    // In one go: those who watch may see only that something changed.
    rig.broker.tenants().delete_now("acme", None).await.expect("acme");
    let new = rig.broker.tenants().create_named("acme", settings()).await.expect("acme again");

    let (code, _) = super::closed_connection(&conn).await;
    assert_eq!(code, CloseCode::TenantDeleted);
    let _: String = client.call("echo", "hello").await.expect("the new tenant is served");
    let now = std::time::Instant::now();
    eventually("the old one has nothing left", || old.used(Quota::Connections, now) == 0).await;
    assert_eq!(new.used(Quota::Connections, now), 1);
    assert_ne!(old.index(), new.index());
}
