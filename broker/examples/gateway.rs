//! A gateway: one certificate and one connection that act for several tenants.
//!
//! A tenant lists the gateways that may act for it; all others are refused. Work is charged to the
//! tenant it is for, and runs as that tenant's.
//!
//! ```sh
//! cargo run -p tollgate-broker --example gateway
//! ```

use anyhow::Context;
use tollgate_broker::{
    batch::{InlineContext, Reply, Spec, typed},
    recipes,
    tenancy::Settings,
};
use tollgate_certs::Identity;
use tollgate_client::{Client, Code, Request};

mod support;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // A recipe learns its tenant from the broker, never from a payload.
    let whoami = typed::inline_bytes(|ctx: &InlineContext<'_>, payload: &[u8], out: &mut Reply| {
        out.extend_from_slice(format!("{}: ", ctx.tenant()).as_bytes());
        out.extend_from_slice(payload);
        Ok(())
    });
    let catalog = recipes::builtin().inline("whoami", Spec::bytes(), whoami).build()?;
    let local = support::Local::start(catalog).await?;

    // Two tenants trust the gateway `edge`, one does not.
    let trusting = Settings { gateways: vec!["edge".into()], ..Settings::default() };
    local.broker.tenants().create_named("acme", trusting.clone()).await?;
    local.broker.tenants().create_named("globex", trusting).await?;
    local.broker.tenants().create_named("initech", Settings::default()).await?;

    let gateway = local.client_as(&Identity::gateway("edge")?).await?;
    a_batch_for_one_tenant(&gateway).await?;
    a_mixed_batch(&gateway).await?;
    a_foreign_tenant_is_refused(&gateway).await?;

    // A tenant's own client never names a tenant: its certificate has done so.
    let acme = local.client("acme").await?;
    let refused = acme.batch().tenant("globex").execute([Request::new("whoami", "x")]).await;
    assert_eq!(refused.err().and_then(|e| e.code()), Some(Code::Forbidden));

    acme.close().await;
    gateway.close().await;
    local.stop().await
}

/// The tenant is named once, for the whole batch.
async fn a_batch_for_one_tenant(gateway: &Client) -> anyhow::Result<()> {
    let requests = ["a", "b"].map(|payload| Request::new("whoami", payload));
    let items = gateway.batch().tenant("acme").execute(requests).await?.into_result()?;
    let answers: Vec<_> = items.iter().filter_map(|item| item.payload()).collect();
    assert_eq!(answers, ["acme: a", "acme: b"]);
    // Calls and questions name it the same way.
    let answer = gateway.call_bytes("whoami", "c").tenant("globex").await?;
    assert_eq!(answer, "globex: c");
    let limits = gateway.describe().tenant("acme").limits().await?;
    println!("acme may have {} items in a batch", limits.batch_items_max);
    Ok(())
}

/// The tenant is named per item: one stream, several tenants. An item for a tenant that does not
/// list the gateway fails alone.
async fn a_mixed_batch(gateway: &Client) -> anyhow::Result<()> {
    let result = gateway
        .execute([
            Request::new("whoami", "1").tenant("acme"),
            Request::new("whoami", "2").tenant("globex"),
            Request::new("whoami", "3").tenant("initech"),
            Request::new("whoami", "4").tenant("acme"),
        ])
        .await?;
    for item in &result {
        let tenant = item.tenant.as_deref().unwrap_or("nobody");
        match &item.outcome {
            Ok(payload) => println!("{} for {tenant}: {payload:?}", item.id),
            Err(failure) => println!("{} for {tenant}: {failure}", item.id),
        }
    }
    let of = |tenant| result.for_tenant(tenant).filter_map(|i| i.payload()).collect::<Vec<_>>();
    assert_eq!(of("acme"), ["acme: 1", "acme: 4"]);
    assert_eq!(of("globex"), ["globex: 2"]);
    let refused = result.get(2).context("the third item has the id 2")?;
    assert_eq!(refused.code(), Some(Code::Forbidden));
    assert_eq!(result.summary().succeeded, 3);
    Ok(())
}

/// A whole batch for a foreign tenant is refused before any payload is read. A tenant that does not
/// exist answers alike, so nobody learns which tenants there are.
async fn a_foreign_tenant_is_refused(gateway: &Client) -> anyhow::Result<()> {
    for tenant in ["initech", "no-such-tenant"] {
        let refused = gateway.batch().tenant(tenant).execute([Request::new("whoami", "x")]).await;
        let error = refused.err().context("it is refused")?;
        println!("{tenant}: {error}");
        assert_eq!(error.code(), Some(Code::Forbidden));
    }
    Ok(())
}
