//! Tenants from outside: permits at their limits, charges, waiting in order, the registry.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::task::JoinHandle;
use tollgate_protocol::id::TenantId;

use super::*;

mod kept;
mod model;
mod pace;
mod permits;
mod profiles;
mod registry;
mod watched;

/// A tenant of no registry.
fn tenant(change: impl FnOnce(&mut Settings)) -> Arc<Tenant> {
    let mut settings = Settings::default();
    change(&mut settings);
    let quotas = Profiles::default().quotas(&settings);
    let (created_at, updated_at) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH);
    let settings = Arc::new(settings);
    let record = Record { settings, quotas, revision: 1, created_at, updated_at };
    let id = TenantId::parse("acme").expect("an id");
    Tenant::new(id, 0, Arc::new(tenant::Common::of(&Config::default())), record)
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// What a task comes to; an hour of the paused clock passes only when nothing else can happen.
async fn done<T>(task: JoinHandle<T>) -> T {
    let hour = Duration::from_secs(3_600);
    tokio::time::timeout(hour, task).await.expect("it is never woken").expect("no panic")
}
