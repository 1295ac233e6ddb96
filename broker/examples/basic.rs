//! The shortest way from nothing to results: a broker, a tenant, a certificate, a batch.
//!
//! ```sh
//! cargo run -p tollgate-broker --example basic
//! ```

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use tollgate_broker::{Broker, Config, recipes, tenancy::Settings};
use tollgate_certs::{Identity, IssueOptions};
use tollgate_client::{Client, ClientCredentials, Request};
use tollgate_protocol::id::TenantId;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // A broker within this process. A real one is a process of its own (`tollgate serve`); what
    // follows does not know the difference.
    let dir = tempfile::tempdir()?;
    let config = Config {
        // Port 0: the system chooses a free one, and `local_addr` tells which.
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        // No certificates are configured, so the broker makes a development authority in here.
        data_dir: Some(dir.path().into()),
        ..Config::default()
    };
    let broker = Broker::start(config, recipes::builtin().build()?).await?;

    // Who may come: a tenant, with the quotas of the profile `default`.
    broker.tenants().create_named("acme", Settings::default()).await?;

    // A client is whoever its certificate says. `tollgate cert issue --tenant acme --role client`
    // does the same for files.
    let authority = broker.dev_authority().context("certificates are configured")?;
    let identity = Identity::client(TenantId::parse("acme")?, None)?;
    let issued = authority.issue(&identity, &IssueOptions::default())?;
    let credentials = ClientCredentials::from_pem(
        issued.certificate_pem.as_bytes(),
        issued.key_pem.as_bytes(),
        issued.ca_pem.as_bytes(),
    )?;
    // "localhost" is the name that the broker's own certificate must carry.
    let client = Client::connect(broker.local_addr(), "localhost", credentials).await?;
    println!("connected to {}", client.version().await?.broker);

    for recipe in client.recipes().await? {
        println!("  {} (at most {:?})", recipe.name, recipe.timeout);
    }

    // A whole batch at once. The n-th request has the id n, from 0; the items run side by side.
    let words = ["to", "be", "or", "not", "to", "be"];
    let result = client.execute(words.map(|word| Request::new("sha256", word))).await?;

    // Results are in the order of the requests, one for each.
    for item in &result {
        match &item.outcome {
            Ok(payload) => println!("{}: {}", item.id, String::from_utf8_lossy(payload)),
            Err(failure) => println!("{}: {failure}", item.id),
        }
    }
    let summary = result.summary();
    println!("{} of {} succeeded in {:?}", summary.succeeded, summary.total, summary.duration);

    // `into_result` makes an error of the first failure, so that none is overlooked.
    let items = result.into_result()?;
    assert_eq!(items.len(), words.len());
    assert_eq!(items[0].payload(), items[4].payload(), "both are the digest of \"to\"");
    assert_ne!(items[0].payload(), items[1].payload());

    // One item as a typed call: JSON there and back.
    let echoed: Vec<u32> = client.call("echo", &[1, 2, 3]).await?;
    assert_eq!(echoed, [1, 2, 3]);

    // Good-byes: the client tells the broker, the broker would wait for what still runs.
    client.close().await;
    broker.shutdown(Duration::from_secs(1)).await;
    Ok(())
}
