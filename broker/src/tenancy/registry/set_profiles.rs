//! Replacing the profiles, for all tenants that there are.

use std::{collections::BTreeMap, sync::Arc};

use super::{Filter, Registry, TURN};
use crate::tenancy::{profiles::Profiles, quotas::Overrides, settings::Record, tenant::Tenant};

impl Registry {
    /// Replaces the profiles: the built-in ones, with what `parts` change and add. When this
    /// resolves it acts on every tenant, whatever is open. A tenant whose profile is gone has the
    /// quotas of `default` until there is one of that name again.
    ///
    /// Items have their turn between tenants, and it goes on to the end when the caller no longer
    /// waits.
    pub async fn set_profiles(&self, parts: &BTreeMap<String, Overrides>) {
        let profiles = Profiles::new(parts);
        if *self.profiles() == profiles {
            return;
        }
        let publishing = self.publishing();
        self.0.profiles.store(Arc::new(profiles));
        drop(publishing);
        let registry = self.clone();
        let all = self.spawn(async move {
            let mut after = None;
            loop {
                let page = registry.page(after.as_ref(), TURN, Filter::default());
                page.iter().for_each(|tenant| registry.reprofile(tenant));
                match page.last() {
                    Some(last) => after = Some(last.id.clone()),
                    None => return,
                }
                tokio::task::yield_now().await;
            }
        });
        // Its end comes with the runtime's: then nothing is in force anyway.
        let _ = all.await;
    }

    /// Gives a tenant the quotas that its profile has now.
    fn reprofile(&self, tenant: &Tenant) {
        // Whoever publishes meanwhile takes the new profiles too.
        let _publishing = self.publishing();
        let now = tenant.record.load_full();
        let profiles = self.0.profiles.load();
        let quotas = profiles.quotas(&now.settings);
        if !profiles.has(&now.settings.profile) {
            let profile = &now.settings.profile;
            tracing::warn!(tenant = %tenant.id, %profile, "its profile is gone");
        }
        if *quotas != *now.quotas {
            tenant.put(Record { quotas, ..Record::clone(&now) });
        }
    }
}
