//! What most examples have in common: a broker of their own, and clients for it.
//!
//! `basic` and `embedding` do the same with every call in the open; read those first.

#![allow(dead_code, reason = "each example uses a part of it")]

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use tempfile::TempDir;
use tollgate_broker::{Broker, Config, batch::Catalog};
use tollgate_certs::{Identity, IssueOptions};
use tollgate_client::{Client, ClientCredentials};
use tollgate_protocol::id::TenantId;

/// A broker on a free port of the loopback, with a data directory that goes when it goes.
pub struct Local {
    pub broker: Broker,
    dir: TempDir,
}

impl Local {
    /// Starts a broker that offers these recipes and has no tenants yet.
    pub async fn start(catalog: Catalog) -> anyhow::Result<Local> {
        Local::start_with(catalog, |_| {}).await
    }

    /// Starts a broker, with some settings changed.
    pub async fn start_with(
        catalog: Catalog,
        change: impl FnOnce(&mut Config),
    ) -> anyhow::Result<Local> {
        let dir = tempfile::tempdir()?;
        let mut config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: Some(dir.path().into()),
            ..Config::default()
        };
        change(&mut config);
        let broker = Broker::start(config, catalog).await?;
        Ok(Local { broker, dir })
    }

    /// Connects as a client of a tenant.
    pub async fn client(&self, tenant: &str) -> anyhow::Result<Client> {
        self.client_as(&Identity::client(TenantId::parse(tenant)?, None)?).await
    }

    /// Connects as whoever a new certificate says.
    pub async fn client_as(&self, identity: &Identity) -> anyhow::Result<Client> {
        let authority = self.broker.dev_authority().context("certificates are configured")?;
        let issued = authority.issue(identity, &IssueOptions::default())?;
        let credentials = ClientCredentials::from_pem(
            issued.certificate_pem.as_bytes(),
            issued.key_pem.as_bytes(),
            issued.ca_pem.as_bytes(),
        )?;
        Ok(Client::connect(self.broker.local_addr(), "localhost", credentials).await?)
    }

    /// Ends the broker well, and then removes its directory.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.broker.shutdown(Duration::from_secs(1)).await;
        Ok(self.dir.close()?)
    }
}
