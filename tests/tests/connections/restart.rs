//! A broker that dies without a word and comes back on the same port and data directory.

use std::{net::SocketAddr, path::Path};

use quinn::ConnectionError;
use tokio::runtime::Runtime;
use tollgate_broker::{Broker, Config};
use tollgate_client::{BatchError, Client, Event, Request};
use tollgate_tests::{SOON, client_identity, credentials, held::Held, settings};

/// A broker with a runtime of its own, so that it can be torn away.
struct Mortal {
    broker: Broker,
    runtime: Runtime,
}

impl Mortal {
    /// Starts one; `listen` may still be let go by the one before it.
    fn start(dir: &Path, listen: SocketAddr, held: &Held) -> Mortal {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let begun = std::time::Instant::now();
        let broker = loop {
            let config = Config { listen, data_dir: Some(dir.into()), ..Config::default() };
            match runtime.block_on(Broker::start(config, held.catalog())) {
                Ok(broker) => break broker,
                Err(error) => assert!(begun.elapsed() < SOON, "{error}"),
            }
        };
        // The one before it may have left it.
        if broker.tenants().get("acme").is_none() {
            let acme = broker.tenants().create_named("acme", settings());
            runtime.block_on(acme).expect("a tenant");
        }
        Mortal { broker, runtime }
    }

    /// Ends it as `kill -9` would: its tasks stop where they are, its socket closes.
    fn kill(self) {
        self.runtime.shutdown_timeout(SOON);
    }
}

#[test]
fn a_client_notices_a_restart_by_the_brokers_reset_and_connects_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let held = Held::default();
    let first = Mortal::start(dir.path(), ([127, 0, 0, 1], 0).into(), &held);
    let addr = first.broker.local_addr();
    let issued = first
        .broker
        .dev_authority()
        .expect("an authority")
        .issue(&client_identity("acme"), &tollgate_certs::IssueOptions::default())
        .expect("issued");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let builder = Client::builder(addr).server_name("localhost").credentials(credentials(&issued));
    let client = runtime.block_on(builder.connect()).expect("a connection");
    let mut batch = runtime.block_on(client.batch().open()).expect("a batch");
    runtime.block_on(async {
        batch.send(Request::new("held", "x")).await.expect("sent");
        batch.flush().await.expect("sent");
        held.begun(1).await;
    });

    first.kill();
    let second = Mortal::start(dir.path(), addr, &held);

    runtime.block_on(async {
        let lost = async {
            loop {
                match batch.next().await.expect("not a regular end") {
                    Ok(event) => assert!(!matches!(event, Event::Result(_)), "{event:?}"),
                    Err(error) => return error,
                }
            }
        };
        let error = tokio::time::timeout(SOON, lost).await.expect("the client notices");
        let BatchError::Disconnected(lost) = &error else { panic!("not lost: {error}") };
        // Not by falling silent until the idle time-out: by a stateless reset.
        assert_eq!(lost.transport(), &ConnectionError::Reset, "{error}");
        assert!(error.to_string().contains("restarted"), "{error}");
        let again: String = client.call("echo", "again").await.expect("it connects again");
        assert_eq!(again, "again");
        assert_eq!(held.runs().len(), 1, "what was cut is not run again by itself");
    });
    drop(runtime);
    second.kill();
}
