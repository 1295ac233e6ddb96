//! Deleting a tenant: when nothing of it is open, or by force.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{
    DeleteError, NotKept, Registry,
    staging::{Change, Landed, Newest, Staging, Verb},
    update::next,
};
use crate::tenancy::{
    settings::{Settings, State},
    tenant::Tenant,
};

/// What of a tenant is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Open {
    /// Connections.
    pub connections: u64,
    /// Batches.
    pub batches: u64,
    /// Produce streams.
    pub producers: u64,
    /// Consume streams.
    pub consumers: u64,
    /// Bytes in flight: every item that runs, or waits to run, holds some.
    pub bytes: u64,
}

impl Open {
    /// Whether it is nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Open::default()
    }
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = [
            (self.connections, "open connection"),
            (self.batches, "open batch"),
            (self.producers, "open produce stream"),
            (self.consumers, "open consume stream"),
            (self.bytes, "byte in flight"),
        ];
        let mut first = true;
        for (n, what) in open.into_iter().filter(|(n, _)| *n > 0) {
            let many = match (n, what.ends_with("ch")) {
                (1, _) => "",
                (_, true) => "es",
                (_, false) => "s",
            };
            // Bytes in flight count as one thing: `2 bytes in flight`.
            let what = match what.split_once(' ') {
                Some(("byte", rest)) => format!("byte{many} {rest}"),
                _ => format!("{what}{many}"),
            };
            write!(f, "{}{n} {what}", if first { "" } else { ", " })?;
            first = false;
        }
        if first { f.write_str("nothing open") } else { Ok(()) }
    }
}

impl Registry {
    /// Deletes a tenant that is suspended and idle; with a revision, only if it still has that one.
    ///
    /// # Errors
    /// [`DeleteError`] says why it was not.
    pub async fn delete(&self, id: &str, expected: Option<u64>) -> Result<(), DeleteError> {
        let (tenant, landed) = {
            let mut staging = self.staging();
            let newest = self.deletable(&staging, id, expected)?;
            if newest.record.settings.state != State::Suspended {
                return Err(DeleteError::Active);
            }
            let open = newest.tenant.open();
            if !open.is_nothing() {
                return Err(DeleteError::Busy(open));
            }
            let mut settings = Settings::clone(&newest.record.settings);
            settings.state = State::Deleted;
            let record = next(&newest.record, settings);
            let change = Change::new(Verb::Delete, newest.tenant.clone(), record);
            (newest.tenant, self.stage(&mut staging, change))
        };
        let registry = self.clone();
        // It goes on to the end when the caller no longer waits.
        let all = self.spawn(async move {
            landed.await?;
            registry.drop_data(&tenant).await;
            Ok(())
        });
        all.await.map_err(|_| NotKept::Lost)?
    }

    /// Deletes a tenant whatever it does: nothing new begins, what runs may finish within
    /// `tenancy.delete_drain_ms`, what is left is closed, and its data is dropped. With a revision,
    /// only if it still has that one.
    ///
    /// It goes on to the end when the caller no longer waits.
    ///
    /// # Errors
    /// [`DeleteError`] when there is no such tenant, when it has changed since, when it is on its
    /// way out already, or when this could not be kept.
    pub async fn delete_now(&self, id: &str, expected: Option<u64>) -> Result<(), DeleteError> {
        let (tenant, landed) = self.begin_leaving(id, expected)?;
        let registry = self.clone();
        let all = self.spawn(async move {
            landed.await?;
            registry.leave(&tenant).await
        });
        all.await.map_err(|_| NotKept::Lost)?
    }

    /// Suspends a tenant, whose connections then end in good order instead of at once.
    fn begin_leaving(
        &self,
        id: &str,
        expected: Option<u64>,
    ) -> Result<(Arc<Tenant>, Landed), DeleteError> {
        let mut staging = self.staging();
        let newest = self.deletable(&staging, id, expected)?;
        let mut settings = Settings::clone(&newest.record.settings);
        settings.state = State::Suspended;
        let record = next(&newest.record, settings);
        let until = SystemTime::now() + self.0.delete_drain;
        let verb = Verb::BeginLeaving { until };
        let change = Change::new(verb, newest.tenant.clone(), record);
        Ok((newest.tenant, self.stage(&mut staging, change)))
    }

    /// A tenant that nobody deletes yet, if it has the revision that is expected: as the last
    /// change will have made it, so that none comes in between.
    fn deletable(
        &self,
        staging: &Staging,
        id: &str,
        expected: Option<u64>,
    ) -> Result<Newest, DeleteError> {
        let newest = self.newest(staging, id).ok_or(DeleteError::Unknown)?;
        let revision = newest.record.revision;
        if let Some(expected) = expected.filter(|e| *e != revision) {
            return Err(DeleteError::Conflict { expected, revision });
        }
        if newest.leaving { Err(DeleteError::Leaving) } else { Ok(newest) }
    }

    async fn leave(&self, tenant: &Arc<Tenant>) -> Result<(), DeleteError> {
        /// How long closed connections have to give back what they hold.
        const LAST_PERMITS: Duration = Duration::from_secs(1);
        idle(tenant, self.0.delete_drain).await;
        let landed = {
            let mut staging = self.staging();
            let newest = self.newest(&staging, tenant.id.as_str()).ok_or(DeleteError::Unknown)?;
            let mut settings = Settings::clone(&newest.record.settings);
            settings.state = State::Deleted;
            let record = next(&newest.record, settings);
            self.stage(&mut staging, Change::new(Verb::Delete, newest.tenant, record))
        };
        if let Err(error) = landed.await {
            // It stays, suspended.
            tenant.stay();
            return Err(error.into());
        }
        idle(tenant, LAST_PERMITS).await;
        self.drop_data(tenant).await;
        Ok(())
    }

    async fn drop_data(&self, tenant: &Tenant) {
        if let Some(ledger) = &self.0.ledger {
            ledger.drop_data(tenant.index()).await;
        }
    }
}

/// Waits until nothing of a tenant is open, or for as long as that.
async fn idle(tenant: &Tenant, limit: Duration) {
    /// Permits are given back without a word: it is looked at.
    const LOOK: Duration = Duration::from_millis(10);
    let deadline = Instant::now() + limit;
    while !tenant.is_idle() && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
}
