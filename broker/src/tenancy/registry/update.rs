//! Changing a tenant: its settings, and whether it may do anything.

use std::{sync::Arc, time::SystemTime};

use super::{
    Registry, UpdateError,
    create::unknown_profile,
    staging::{Change, Verb},
};
use crate::tenancy::{
    settings::{Record, Settings, State},
    stored::stored_precision,
    tenant::Tenant,
};

impl Registry {
    /// Changes what is set for a tenant; with a revision, only if it still has that one. It is kept
    /// when this resolves, and in force at once, on what is open too. A change of nothing is none:
    /// the revision stays.
    ///
    /// # Errors
    /// [`UpdateError`] says why nothing was changed.
    pub async fn update(
        &self,
        id: &str,
        expected: Option<u64>,
        change: impl FnOnce(&mut Settings),
    ) -> Result<Arc<Tenant>, UpdateError> {
        let (tenant, landed) = {
            let mut staging = self.staging();
            let newest = self.newest(&staging, id).ok_or(UpdateError::Unknown)?;
            let (tenant, now) = (newest.tenant, newest.record);
            if let Some(expected) = expected.filter(|e| *e != now.revision) {
                return Err(UpdateError::Conflict { expected, revision: now.revision });
            }
            if newest.leaving {
                return Err(UpdateError::Leaving);
            }
            let mut settings = Settings::clone(&now.settings);
            change(&mut settings);
            settings.check()?;
            let profiles = self.profiles();
            // One whose profile is gone may still be changed otherwise.
            if settings.profile != now.settings.profile && !profiles.has(&settings.profile) {
                return Err(unknown_profile(&settings.profile, &profiles.names()).into());
            }
            profiles.intern(&mut settings);
            if settings == *now.settings {
                if !newest.staged {
                    return Ok(tenant);
                }
                // What it is to be is not kept yet.
                let landed = self.follow(&mut staging, &tenant.id);
                (tenant, landed)
            } else {
                let suspends =
                    now.settings.state == State::Active && settings.state == State::Suspended;
                let verb = if suspends { Verb::Suspend } else { Verb::Update };
                let change = Change::new(verb, tenant.clone(), next(&now, settings));
                (tenant, self.stage(&mut staging, change))
            }
        };
        landed.await?;
        Ok(tenant)
    }

    /// Stops a tenant from doing anything; its connections are closed by those who hold them. Its
    /// data is kept.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub async fn suspend(
        &self,
        id: &str,
        expected: Option<u64>,
    ) -> Result<Arc<Tenant>, UpdateError> {
        self.update(id, expected, |s| s.state = State::Suspended).await
    }

    /// Lets a suspended tenant go on.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub async fn activate(
        &self,
        id: &str,
        expected: Option<u64>,
    ) -> Result<Arc<Tenant>, UpdateError> {
        self.update(id, expected, |s| s.state = State::Active).await
    }
}

/// What follows a record when its settings become these.
pub(super) fn next(now: &Record, settings: Settings) -> Record {
    Record {
        settings: Arc::new(settings),
        revision: now.revision + 1,
        // A clock that was set back does not bring a tenant back.
        updated_at: stored_precision(SystemTime::now()).max(now.updated_at),
        ..now.clone()
    }
}
