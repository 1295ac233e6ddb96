//! Tenants by the hundred thousand, put into a data directory before a broker finds them there.
use anyhow::{anyhow, Result};
use futures::{stream, StreamExt};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use tollgate_broker::{
    events::Events,
    store::Store,
    tenancy::{NewTenant, Registry, Settings},
    Config,
};
use tollgate_protocol::id::TenantId;

/// Changes under way at once: what one commit gathers.
const AT_ONCE: usize = 256;

/// Creates them through the registry, each kept on its own; how long it took.
pub fn fill(store: &Path, count: usize) -> Result<Duration> {
    std::fs::create_dir_all(store)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut config = Config::default();
        config.tenancy.tenants_max = count + 1;
        let store = Store::open(Some(store), &config.store)?;
        let fence = store.system().claim().await?;
        let registry = Registry::open(&config.tenancy, store, fence, Events::default()).await?;
        let begun = Instant::now();
        let mut all =
            stream::iter(0..count).map(|n| registry.create(customer(n))).buffer_unordered(AT_ONCE);
        while let Some(created) = all.next().await {
            created.map_err(|e| anyhow!("a tenant: {e}"))?;
        }
        Ok(begun.elapsed())
    })
}

fn customer(n: usize) -> NewTenant {
    NewTenant {
        id: TenantId::parse(&format!("customer-{n:08x}")).ok(),
        settings: Settings { name: format!("Customer number {n}"), ..Settings::default() },
    }
}
