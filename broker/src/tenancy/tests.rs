//! Tenants from outside: permits at their limits, charges, waiting in order, the file, the registry.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use super::*;

mod file;
mod pace;
mod permits;
mod registry;

/// A tenant of a registry of its own, with these quotas over those of `default`.
fn tenant(change: impl FnOnce(&mut Settings)) -> Arc<Tenant> {
    let mut settings = Settings::default();
    change(&mut settings);
    Registry::new(&Config::default()).create("acme", settings).expect("a valid id")
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// What a task comes to; an hour of the paused clock passes only when nothing else can happen.
async fn done<T>(task: JoinHandle<T>) -> T {
    let hour = Duration::from_secs(3_600);
    tokio::time::timeout(hour, task).await.expect("it is never woken").expect("no panic")
}
