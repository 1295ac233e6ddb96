//! The broker as a library, for measuring while there is no `tollgate` binary to run.
//!
//! `echo_broker CONFIG.toml` runs until it is killed. The command line and logging are left out;
//! everything a batch passes through is the broker's own.

use std::{error::Error, fs};

use tollgate_broker::{recipes, tenancy::Settings, Broker, Config};

/// What the real binary uses.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which configuration?")?;
    let config: Config = toml::from_str(&fs::read_to_string(path)?)?;
    let mut runtime = match config.runtime.threads() {
        1 => tokio::runtime::Builder::new_current_thread(),
        n => {
            let mut b = tokio::runtime::Builder::new_multi_thread();
            b.worker_threads(n);
            b
        }
    };
    // As `tollgate serve` has it.
    runtime.event_interval(31).enable_all().build()?.block_on(async {
        let mut broker = Broker::start(config, recipes::builtin().build()?).await?;
        // With the data directory of an earlier run there is one already.
        if broker.tenants().get("bench").is_none() {
            let settings = Settings { profile: "bench".into(), ..Settings::default() };
            broker.tenants().create_named("bench", settings).await?;
        }
        broker.failed().await;
        Err("the listener stopped".into())
    })
}
