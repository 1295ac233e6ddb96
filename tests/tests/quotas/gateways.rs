//! Gateways: each item is its own tenant's, and nobody learns which tenants there are.

use std::time::Instant;

use tollgate_broker::tenancy::{Limit, Policy, Quota, Settings};
use tollgate_certs::Identity;
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Code,
    batch::{Body, Request, Scope},
};
use tollgate_tests::{
    Rig,
    raw::{self, Raw, RawStream, Told},
    settings,
    stage::Stage,
};

use super::{WINDOW_S, at_most, endless, limit};

/// `acme` and `globex` list the gateway `edge`; `initech` does not.
async fn rig() -> (Rig, Stage, Raw) {
    let (rig, stage) = Rig::staged(endless).await;
    for tenant in ["acme", "globex"] {
        let list = |s: &mut Settings| s.gateways = vec!["edge".into()];
        rig.broker.tenants().update(tenant, None, list).await.expect("there is one");
    }
    rig.broker.tenants().create_named("initech", settings()).await.expect("a tenant");
    let edge = Identity::gateway("edge").expect("an identity");
    let raw = raw::connect(rig.addr(), &rig.credentials_of(&edge)).await;
    (rig, stage, raw)
}

async fn item(batch: &mut RawStream, id: u64, tenant: Option<&str>, recipe: &str) {
    let request = Request { tenant, ..Request::new(id, recipe, b"") };
    batch.frame(&ClientFrame::Request(request)).await;
}

/// Reads to the end: id, tenant and code of every result, sorted, and what success gave.
async fn results(batch: &mut RawStream) -> Vec<(u64, Option<String>, u16, String)> {
    let mut results = Vec::new();
    let mut see = |f: BrokerFrame<'_>| {
        if let BrokerFrame::Result(r) = f {
            let gave = match r.body {
                Body::Payload(p) => String::from_utf8_lossy(p).into_owned(),
                Body::Failure(_) => String::new(),
            };
            results.push((r.id, r.tenant.map(str::to_owned), r.code, gave));
        }
    };
    while batch.next(&mut see).await.is_some() {}
    results.sort();
    results
}

fn expected(id: u64, tenant: &str, code: Code, gave: &str) -> (u64, Option<String>, u16, String) {
    let tenant = (!tenant.is_empty()).then(|| tenant.to_owned());
    (id, tenant, code.number(), gave.to_owned())
}

fn used(rig: &Rig, tenant: &str) -> u64 {
    let tenant = rig.broker.tenants().get(tenant).expect("there is one");
    tenant.used(Quota::RequestsPerSecond, Instant::now())
}

#[tokio::test]
async fn each_item_of_a_mixed_batch_is_its_own_tenants() {
    let (rig, _stage, raw) = rig().await;
    let mut batch = raw.batch().await;
    item(&mut batch, 1, Some("acme"), "who").await;
    item(&mut batch, 2, Some("globex"), "who").await;
    item(&mut batch, 3, Some("globex"), "fail").await;
    item(&mut batch, 4, Some("initech"), "who").await;
    item(&mut batch, 5, Some("nosuch"), "who").await;
    item(&mut batch, 6, None, "who").await;
    item(&mut batch, 7, Some("acme"), "later").await;
    item(&mut batch, 8, Some("acme"), "nope").await;
    item(&mut batch, 9, Some("../etc"), "who").await;
    batch.seal(9).await;
    let all = [
        expected(1, "acme", Code::Ok, "acme -"),
        expected(2, "globex", Code::Ok, "globex -"),
        expected(3, "globex", Code::RecipeExecution, ""),
        expected(4, "initech", Code::Forbidden, ""),
        expected(5, "nosuch", Code::Forbidden, ""),
        expected(6, "", Code::ValidationError, ""),
        expected(7, "acme", Code::Ok, ""),
        expected(8, "acme", Code::RecipeNotFound, ""),
        expected(9, "../etc", Code::Forbidden, ""),
    ];
    assert_eq!(results(&mut batch).await, all);
    assert_eq!((used(&rig, "acme"), used(&rig, "globex"), used(&rig, "initech")), (3, 2, 0));
    rig.idle().await;
}

/// What two answers tell beyond the ids: nothing may differ.
fn alike(a: &Told, b: &Told) {
    let anonymous = |t: &Told| Told { id: None, ..t.clone() };
    assert_eq!(anonymous(a), anonymous(b));
}

#[tokio::test]
async fn a_foreign_tenant_and_one_that_does_not_exist_get_the_same_answer() {
    let (rig, _stage, raw) = rig().await;
    rig.broker.tenants().create_named("gone", settings()).await.expect("a tenant");
    rig.broker
        .tenants()
        .update("gone", None, |s| s.gateways = vec!["edge".into()])
        .await
        .expect("there");
    rig.broker.tenants().suspend("gone", None).await.expect("there is one");
    let mut mixed = raw.batch().await;
    for (id, tenant) in (0..).zip(["initech", "nosuch", "gone"]) {
        item(&mut mixed, id, Some(tenant), "echo").await;
    }
    mixed.seal(3).await;
    let told = mixed.failures().await;
    assert!(told.iter().all(|t| t.code() == Some(Code::Forbidden)), "{told:?}");
    alike(&told[0], &told[1]);
    alike(&told[0], &told[2]);
    let mut whole = Vec::new();
    for tenant in ["initech", "nosuch", "gone"] {
        let mut batch = raw.batch_with(|open| open.tenant = Some(tenant)).await;
        item(&mut batch, 1, Some("acme"), "echo").await;
        let told = batch.failures().await;
        assert_eq!(told.len(), 1, "no item is looked at: {told:?}");
        assert_eq!((told[0].id, told[0].code()), (None, Some(Code::Forbidden)));
        whole.extend(told);
    }
    alike(&whole[0], &whole[1]);
    alike(&whole[0], &whole[2]);
    rig.idle().await;
}

#[tokio::test]
async fn a_tenant_named_for_the_batch_is_every_items_that_names_none() {
    let (rig, _stage, raw) = rig().await;
    let mut batch = raw.batch_with(|open| open.tenant = Some("acme")).await;
    item(&mut batch, 1, None, "who").await;
    item(&mut batch, 2, Some("globex"), "who").await;
    item(&mut batch, 3, Some("acme"), "who").await;
    item(&mut batch, 4, Some("initech"), "who").await;
    item(&mut batch, 5, None, "who").await;
    batch.request(6, &"x".repeat(129), b"").await;
    batch.seal(6).await;
    let all = [
        expected(1, "acme", Code::Ok, "acme -"),
        expected(2, "globex", Code::Ok, "globex -"),
        expected(3, "acme", Code::Ok, "acme -"),
        expected(4, "initech", Code::Forbidden, ""),
        expected(5, "acme", Code::Ok, "acme -"),
        expected(6, "acme", Code::ValidationError, ""),
    ];
    assert_eq!(results(&mut batch).await, all);
    assert_eq!((used(&rig, "acme"), used(&rig, "globex")), (3, 1));
    rig.idle().await;
}

/// A tenant is suspended while items of two tenants run.
async fn check_suspended(for_all: Option<&str>) {
    let (rig, stage, raw) = rig().await;
    let mut batch = raw
        .batch_with(|open| {
            open.tenant = match for_all {
                Some("acme") => Some("acme"),
                _ => None,
            }
        })
        .await;
    item(&mut batch, 1, Some("acme").filter(|_| for_all.is_none()), "gate").await;
    item(&mut batch, 2, Some("globex"), "gate").await;
    stage.running(2).await;
    rig.broker.tenants().suspend("acme", None).await.expect("there is one");
    batch.until("result 1 FORBIDDEN").await;
    item(&mut batch, 3, Some("acme").filter(|_| for_all.is_none()), "who").await;
    item(&mut batch, 4, Some("globex"), "who").await;
    batch.until("result 4 OK").await;
    stage.open(2);
    batch.seal(4).await;
    batch.until("summary Sealed 2/4").await;
    rig.idle().await;
}

#[tokio::test]
async fn a_tenant_suspended_midway_fails_its_own_items_only() {
    check_suspended(None).await;
}

#[tokio::test]
async fn a_suspended_tenant_that_was_named_for_the_batch_fails_its_own_items_only() {
    check_suspended(Some("acme")).await;
}

#[tokio::test]
async fn an_item_that_names_its_tenant_is_refused_and_never_waited_for() {
    let (rig, _stage, raw) = rig().await;
    // Its policy is to wait; here nobody waits for it.
    rig.broker
        .tenants()
        .update("acme", None, |s| s.policy = Policy::Pace)
        .await
        .expect("there is one");
    limit(&rig, "acme", |q| q.requests_per_second = at_most(1)).await;
    let mut batch = raw.batch().await;
    for id in 0..WINDOW_S + 2 {
        item(&mut batch, id, Some("acme"), "echo").await;
    }
    item(&mut batch, WINDOW_S + 2, Some("globex"), "echo").await;
    batch.seal(WINDOW_S + 3).await;
    let told = batch.failures().await;
    let quota = ("requests_per_second".to_owned(), Scope::Tenant, WINDOW_S, WINDOW_S);
    assert_eq!(told.len(), 2, "{told:?}");
    for (told, id) in told.iter().zip(WINDOW_S..) {
        assert_eq!((told.id, told.code()), (Some(id), Some(Code::RateLimited)));
        assert_eq!(told.quota, Some(quota.clone()));
        assert!(told.retry_after_ms.is_some());
    }
    rig.idle().await;
}

#[tokio::test]
async fn a_batch_for_one_tenant_is_paced_as_that_tenants() {
    let (rig, _stage, raw) = rig().await;
    limit(&rig, "acme", |q| q.requests_per_second = at_most(1)).await;
    let mut batch = raw.batch_with(|open| open.tenant = Some("acme")).await;
    for id in 0..WINDOW_S + 1 {
        item(&mut batch, id, None, "echo").await;
    }
    batch.until("throttled requests_per_second").await;
    limit(&rig, "acme", |q| q.requests_per_second = Limit::UNLIMITED).await;
    batch.seal(WINDOW_S + 1).await;
    batch.until(&format!("summary Sealed {0}/{0}", WINDOW_S + 1)).await;
    rig.idle().await;
}

#[tokio::test]
async fn a_client_that_names_a_tenant_is_refused_even_its_own() {
    let (rig, _stage, _gateway) = rig().await;
    let raw = rig.raw("acme").await;
    for tenant in ["acme", "globex", "nosuch"] {
        let mut batch = raw.batch_with(|open| open.tenant = Some(tenant)).await;
        let told = batch.failures().await;
        assert_eq!((told.len(), told[0].code()), (1, Some(Code::Forbidden)), "{tenant}");
    }
    let mut batch = raw.batch().await;
    item(&mut batch, 1, Some("acme"), "echo").await;
    item(&mut batch, 2, Some("globex"), "echo").await;
    item(&mut batch, 3, None, "who").await;
    batch.seal(3).await;
    let all = [
        expected(1, "", Code::Forbidden, ""),
        expected(2, "", Code::Forbidden, ""),
        expected(3, "", Code::Ok, "acme -"),
    ];
    assert_eq!(results(&mut batch).await, all);
    rig.idle().await;
}

#[tokio::test]
async fn the_id_of_an_open_batch_is_taken_within_its_tenant_only() {
    use tollgate_protocol::id::BatchId;
    let (rig, _stage, gateway) = rig().await;
    let raw = rig.raw("acme").await;
    let id = BatchId([7; 16]);
    let mut first = raw.batch_with(|open| open.batch_id = id).await;
    first.until("accepted").await;
    let other = rig.raw("acme").await;
    let told = other.batch_with(|open| open.batch_id = id).await.failures().await;
    assert_eq!((told.len(), told[0].code()), (1, Some(Code::Conflict)));
    let mut mixed = gateway.batch_with(|open| open.batch_id = id).await;
    mixed.until("accepted").await;
    let mut globex = rig.raw("globex").await.batch_with(|open| open.batch_id = id).await;
    globex.seal(0).await;
    assert_eq!(globex.transcript().await.len(), 2);
    first.seal(0).await;
    first.until("summary").await;
    let mut again = other.batch_with(|open| open.batch_id = id).await;
    again.until("accepted").await;
    drop((mixed, again));
    rig.idle().await;
}
