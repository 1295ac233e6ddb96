//! The profiles: quotas under a name, for tenants to share.
//!
//! Some are built in; the configuration changes these and adds others.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    quotas::{Overrides, PROFILES, Quotas},
    settings::{DEFAULT_PROFILE, Settings},
};

/// Every profile there is, with all its quotas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profiles(BTreeMap<Arc<str>, Arc<Quotas>>);

impl Profiles {
    /// The built-in ones with what `parts` change and add. What a profile leaves out takes the
    /// value of `default`.
    pub fn new(parts: &BTreeMap<String, Overrides>) -> Profiles {
        let mut all: BTreeMap<&str, Overrides> = PROFILES.iter().copied().collect();
        for (name, part) in parts {
            let before = all.get(name.as_str()).copied().unwrap_or_default();
            all.insert(name, before.with(part));
        }
        let default = Quotas::DEFAULT.with(&all[DEFAULT_PROFILE]);
        Profiles(all.iter().map(|(n, part)| ((*n).into(), Arc::new(default.with(part)))).collect())
    }

    /// The quotas of a profile.
    pub fn get(&self, name: &str) -> Option<&Quotas> {
        self.0.get(name).map(|quotas| &**quotas)
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Every profile, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Quotas)> {
        self.0.iter().map(|(name, quotas)| (&**name, &**quotas))
    }

    /// The names, for people.
    pub(super) fn names(&self) -> String {
        self.0.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }

    /// What a tenant with these settings may use. One whose profile is gone has `default`'s: its
    /// quotas must not depend on when the broker was started. Those who have nothing their own way
    /// share one allocation.
    pub(super) fn quotas(&self, settings: &Settings) -> Arc<Quotas> {
        let profile = self.0.get(&settings.profile).unwrap_or_else(|| &self.0[DEFAULT_PROFILE]);
        if settings.overrides == Overrides::NOTHING {
            return profile.clone();
        }
        Arc::new(profile.with(&settings.overrides))
    }

    /// The one copy of a profile's name.
    pub(super) fn intern(&self, settings: &mut Settings) {
        if let Some((name, _)) = self.0.get_key_value(&settings.profile) {
            settings.profile = name.clone();
        }
    }
}

impl Default for Profiles {
    fn default() -> Self {
        Profiles::new(&BTreeMap::new())
    }
}
