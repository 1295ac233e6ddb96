//! Tenants from outside: permits at their limits, charges, waiting in order, the file, the registry.

use std::{sync::Arc, time::Instant};

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
