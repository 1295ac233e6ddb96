//! Telling those who act for a tenant that it changed: each tenant for itself, and only while
//! somebody listens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::tenant::Tenant;

/// Who is told of a tenant's changes. Empty while nobody is.
#[derive(Debug, Default)]
pub(super) struct Listeners(Mutex<Option<watch::Sender<()>>>);

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, Option<watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of a change.
    pub(super) fn tell(&self) {
        if let Some(sender) = &*self.lock() {
            sender.send_replace(());
        }
    }
}

/// Tells of one tenant's changes, from the moment it was made.
#[derive(Debug)]
pub struct Changes {
    tenant: Arc<Tenant>,
    receiver: watch::Receiver<()>,
}

impl Changes {
    /// Resolves when the tenant changed since it did so last. Cancel-safe.
    pub async fn changed(&mut self) {
        // The sender lives as long as there is a receiver.
        let _ = self.receiver.changed().await;
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        let mut sender = self.tenant.listeners.lock();
        // This one still counts.
        if sender.as_ref().is_some_and(|s| s.receiver_count() <= 1) {
            *sender = None;
        }
    }
}

impl Tenant {
    /// Listens to changes of this tenant: its settings, its quotas, its end.
    pub fn subscribe(self: &Arc<Self>) -> Changes {
        let mut sender = self.listeners.lock();
        let receiver = sender.get_or_insert_with(|| watch::Sender::new(())).subscribe();
        drop(sender);
        Changes { tenant: self.clone(), receiver }
    }

    #[cfg(test)]
    pub(super) fn is_listened_to(&self) -> bool {
        self.listeners.lock().is_some()
    }
}
