//! The stage: a broker of this process, its throwaway authority, two tenants and their clients.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use tollgate_broker::{
    Broker, Config, DevAuthority,
    config::Http,
    recipes,
    tenancy::{Limit, Overrides, Policy, Settings},
};
use tollgate_certs::{Identity, IssueOptions, Issued};
use tollgate_client::{Client, ClientBuilder, ClientCredentials};
use tollgate_protocol::id::TenantId;

use super::show::Show;

/// Items a second that globex may send.
pub(super) const GLOBEX_REQUESTS: u64 = 400;
/// Connections that globex may have.
pub(super) const GLOBEX_CONNECTIONS: u64 = 2;
/// Bytes of one payload of globex.
pub(super) const GLOBEX_PAYLOAD: u64 = 64 << 10;

/// What the scenes play on. Dropping it ends the broker and removes its directory.
pub(super) struct Stage {
    pub broker: Broker,
    pub addr: SocketAddr,
    /// A client of the roomy tenant.
    pub acme: Client,
    /// A client of the small one.
    pub globex: Client,
    /// Where the broker keeps what is to be forgotten.
    pub dir: tempfile::TempDir,
}

impl Stage {
    /// Makes the authority, starts the broker, creates the tenants and connects.
    pub(super) async fn build() -> anyhow::Result<Stage> {
        let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
        let config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: Some(dir.path().to_owned()),
            http: Http::anywhere(),
            ..Config::default()
        };
        let broker = Broker::start(config, recipes::builtin().build()?).await?;
        let acme = Settings { name: "Acme".into(), ..Settings::default() };
        let globex = Settings {
            name: "Globex".into(),
            policy: Policy::Pace,
            overrides: Overrides {
                requests_per_second: Some(Limit::at_most(GLOBEX_REQUESTS)),
                bytes_per_second: Some(Limit::at_most(1 << 20)),
                payload_bytes: Some(Limit::at_most(GLOBEX_PAYLOAD)),
                connections: Some(Limit::at_most(GLOBEX_CONNECTIONS)),
                ..Overrides::NOTHING
            },
            ..Settings::default()
        };
        broker.tenants().create_named("acme", acme).await?;
        broker.tenants().create_named("globex", globex).await?;
        let addr = broker.local_addr();
        let authority = authority(&broker)?;
        let acme = connect(addr, &issue(authority, "acme", "demo")?).await?;
        let globex = connect(addr, &issue(authority, "globex", "demo")?).await?;
        Ok(Stage { broker, addr, acme, globex, dir })
    }

    /// Says what there is.
    pub(super) fn introduce(&self, show: &Show) -> anyhow::Result<()> {
        show.line(format_args!(
            "broker    QUIC on {}, TLS 1.3, certificates both ways",
            self.addr
        ))?;
        if let Some(http) = self.broker.http_addr() {
            show.line(format_args!("          HTTP API for whoever runs it on {http}"))?;
        }
        show.line("acme      quotas of the profile `default`: 50,000 items/s, 10 MiB/s")?;
        show.line(format_args!(
            "globex    {GLOBEX_REQUESTS} items/s, 1 MiB/s, {GLOBEX_CONNECTIONS} connections"
        ))?;
        Ok(())
    }

    /// The authority, made for this demo.
    pub(super) fn authority(&self) -> anyhow::Result<&DevAuthority> {
        authority(&self.broker)
    }
}

fn authority(broker: &Broker) -> anyhow::Result<&DevAuthority> {
    broker.dev_authority().context("a broker without certificates has an authority of its own")
}

/// Issues a client's certificate for an hour.
pub(super) fn issue(authority: &DevAuthority, tenant: &str, name: &str) -> anyhow::Result<Issued> {
    let identity = Identity::client(TenantId::parse(tenant)?, Some(name))?;
    Ok(authority.issue(&identity, &IssueOptions::valid_for(Duration::from_secs(3_600)))?)
}

/// A client that is set up with a certificate.
pub(super) fn client(addr: SocketAddr, issued: &Issued) -> anyhow::Result<ClientBuilder> {
    let credentials = ClientCredentials::from_pem(
        issued.certificate_pem.as_bytes(),
        issued.key_pem.as_bytes(),
        issued.ca_pem.as_bytes(),
    )?;
    Ok(Client::builder(addr).server_name("localhost").credentials(credentials))
}

/// Connects with a certificate.
pub(super) async fn connect(addr: SocketAddr, issued: &Issued) -> anyhow::Result<Client> {
    Ok(client(addr, issued)?.connect().await?)
}
