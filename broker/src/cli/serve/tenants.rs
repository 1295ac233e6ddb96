//! The tenants of a trial: made when the broker starts, so that somebody is let in.

use std::str::FromStr;

use anyhow::Context;
use tollgate_broker::tenancy::{CreateError, NewTenant, Registry, Settings};
use tollgate_protocol::id::{NameError, TenantId};

/// A tenant that is created when it is missing, as `acme` or `acme=free`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FirstTenant {
    id: TenantId,
    profile: Option<String>,
}

impl FromStr for FirstTenant {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        let (id, profile) = match s.split_once('=') {
            Some((id, profile)) => (id, Some(profile.to_owned())),
            None => (s, None),
        };
        Ok(FirstTenant { id: TenantId::parse(id)?, profile })
    }
}

/// Creates those that are missing; what there is stays as it is.
pub(super) async fn create_missing(
    tenants: &Registry,
    wanted: &[FirstTenant],
) -> anyhow::Result<()> {
    for FirstTenant { id, profile } in wanted {
        let mut settings = Settings::default();
        if let Some(profile) = profile {
            settings.profile = profile.as_str().into();
        }
        let new = NewTenant { id: Some(id.clone()), settings };
        match tenants.create(new).await {
            Ok(_) | Err(CreateError::Exists(_)) => {}
            Err(e) => return Err(e).with_context(|| format!("cannot create the tenant {id}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tollgate_broker::tenancy::Config;

    use super::*;

    fn wanted(text: &str) -> FirstTenant {
        text.parse().expect("a tenant")
    }

    #[tokio::test]
    async fn what_is_missing_is_created_and_what_there_is_stays() {
        let tenants = Registry::in_memory(&Config::default());
        create_missing(&tenants, &[wanted("acme=free"), wanted("globex")]).await.expect("created");
        let profile = |id| tenants.get(id).expect("created").settings().profile.clone();
        assert_eq!((&*profile("acme"), &*profile("globex")), ("free", "default"));
        create_missing(&tenants, &[wanted("acme=pro")]).await.expect("there is one");
        assert_eq!(&*profile("acme"), "free");
        let error = create_missing(&tenants, &[wanted("new=gold")]).await.expect_err("no profile");
        assert!(format!("{error:#}").contains("`gold`"), "{error:#}");
        assert!("Acme".parse::<FirstTenant>().is_err());
    }
}
