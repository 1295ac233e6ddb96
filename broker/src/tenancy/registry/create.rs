//! Creating a tenant.

use std::{sync::Arc, time::SystemTime};

use tollgate_protocol::id::TenantId;
use uuid::Uuid;

use super::{
    CreateError, Once, Registry, Used,
    staging::{Change, Verb},
};
use crate::tenancy::{
    settings::{BadSetting, Record, Settings},
    stored::stored_precision,
    tenant::Tenant,
};

/// A tenant to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTenant {
    /// Its id; left out, it gets a UUID of version 7.
    pub id: Option<TenantId>,
    /// What is set for it.
    pub settings: Settings,
}

impl Registry {
    /// Creates a tenant. It is kept when this resolves.
    ///
    /// # Errors
    /// [`CreateError`] when its id is in use (that of a deleted one is free), or a setting is out
    /// of bounds.
    pub async fn create(&self, new: NewTenant) -> Result<Arc<Tenant>, CreateError> {
        self.make(new, None).await
    }

    pub(super) async fn make(
        &self,
        new: NewTenant,
        once: Option<Once>,
    ) -> Result<Arc<Tenant>, CreateError> {
        let NewTenant { id, mut settings } = new;
        settings.check()?;
        let profiles = self.profiles();
        if !profiles.has(&settings.profile) {
            return Err(unknown_profile(&settings.profile, &profiles.names()).into());
        }
        profiles.intern(&mut settings);
        let id = id.map_or_else(|| TenantId::parse(&Uuid::now_v7().to_string()), Ok)?;
        let (tenant, landed) = {
            let mut staging = self.staging();
            if let Some(once) = &once
                && staging.keys.get(&once.key, SystemTime::now()).is_some()
            {
                // Another request with the same key came in between.
                return Err(CreateError::KeyUsed);
            }
            if self.newest(&staging, id.as_str()).is_some() {
                return Err(CreateError::Exists(id));
            }
            let max = self.0.tenants_max;
            if self.len() + staging.creating() >= max {
                return Err(CreateError::TooMany { max });
            }
            let now = stored_precision(SystemTime::now());
            let record = Record {
                quotas: profiles.quotas(&settings),
                settings: Arc::new(settings),
                revision: 1,
                created_at: now,
                updated_at: now,
            };
            let number = staging.number().ok_or(CreateError::TooMany { max })?;
            let used = once.map(|once| Used { once, tenant: id.clone(), number, at: now });
            let tenant = Tenant::new(id, number, self.0.common.clone(), record.clone());
            let mut change = Change::new(Verb::Create, tenant.clone(), record);
            change.used = used;
            (tenant, self.stage(&mut staging, change))
        };
        landed.await?;
        Ok(tenant)
    }

    /// Creates a tenant of an id that is still to be judged.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn create_named(
        &self,
        id: &str,
        settings: Settings,
    ) -> Result<Arc<Tenant>, CreateError> {
        self.create(NewTenant { id: Some(TenantId::parse(id)?), settings }).await
    }
}

pub(super) fn unknown_profile(found: &str, known: &str) -> BadSetting {
    BadSetting::new("profile", format!("there is no `{found}`, there are {known}"))
}
