//! A JSON merge patch (RFC 7396) of a tenant: null takes a field back to its default.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::{
    super::{
        problem::{Answer, Problem},
        quotas::QuotasPatch,
    },
    Policy,
};
use crate::tenancy::{Limit, Overrides, Quota, Settings};

/// What is to be changed of a tenant: what is left out stays, null is the default.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = TenantPatch)]
#[derive(Default)]
pub(super) struct Patch {
    /// For people.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    name: Option<Option<String>>,
    /// The profile that its quotas come from.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    profile: Option<Option<String>>,
    /// The quotas that it has its own way; one that is null falls back to the profile's.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<QuotasPatch>)]
    quotas: Option<Option<BTreeMap<String, Option<Limit>>>>,
    /// What happens to items beyond a rate.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<Policy>)]
    policy: Option<Option<Policy>>,
    /// Items that run at once.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    concurrency: Option<Option<u32>>,
    /// Items that run at once for its bindings, each.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    workers: Option<Option<u32>>,
    /// Its share among tenants that wait, against theirs.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    weight: Option<Option<u32>>,
    /// The gateways that may act for it.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>)]
    gateways: Option<Option<Vec<String>>>,
    /// Whatever the operator likes to note; a key that is null is taken away.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    metadata: Option<Option<BTreeMap<String, Option<String>>>>,
}

/// What is there, null or not: what is not there never gets here.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

impl Patch {
    /// Refuses what can be seen without the tenant.
    pub(super) fn check(&self) -> Answer<()> {
        let named = self.quotas.iter().flatten().flat_map(BTreeMap::keys);
        match named.into_iter().find(|name| Quota::from_name(name).is_none()) {
            Some(unknown) => {
                let field = format!("quotas.{unknown}");
                Err(Problem::validation(&field, format!("there is no quota `{unknown}`")))
            }
            None => Ok(()),
        }
    }

    pub(super) fn apply(self, s: &mut Settings) {
        fn put<T>(to: &mut T, from: Option<Option<T>>, default: T) {
            if let Some(given) = from {
                *to = given.unwrap_or(default);
            }
        }
        let default = Settings::default();
        put(&mut s.name, self.name, default.name);
        put(&mut s.profile, self.profile.map(|p| p.map(Into::into)), default.profile);
        put(&mut s.policy, self.policy.map(|p| p.map(Into::into)), default.policy);
        put(&mut s.concurrency, self.concurrency, default.concurrency);
        put(&mut s.workers, self.workers, default.workers);
        put(&mut s.weight, self.weight, default.weight);
        put(&mut s.gateways, self.gateways, default.gateways);
        match self.metadata {
            None => {}
            Some(None) => s.metadata = default.metadata,
            Some(Some(changes)) => {
                for (key, value) in changes {
                    match value {
                        Some(value) => s.metadata.insert(key, value),
                        None => s.metadata.remove(&key),
                    };
                }
            }
        }
        match self.quotas {
            None => {}
            Some(None) => s.overrides = Overrides::NOTHING,
            Some(Some(changes)) => {
                for (name, limit) in changes {
                    if let Some(quota) = Quota::from_name(&name) {
                        s.overrides.set(quota, limit);
                    }
                }
            }
        }
    }
}
