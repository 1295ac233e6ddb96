//! The broker with nothing but `echo`, for measuring while there is no `tollgate` binary to run.
//!
//! `echo_broker CONFIG.toml` runs until it is killed. The command line, logging and the other
//! recipes are left out; everything a batch passes through is the broker's own.

use std::{error::Error, fs};

use tollgate_broker::{
    batch::{self, Catalog, Inline, InlineContext, Reply, Spec},
    Broker, Config,
};

/// What the real binary uses.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Echo;

impl Inline for Echo {
    fn run(
        &self,
        _: &InlineContext<'_>,
        payload: &[u8],
        out: &mut Reply,
    ) -> Result<(), batch::Error> {
        out.extend_from_slice(payload);
        Ok(())
    }
}

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
    runtime.enable_all().build()?.block_on(async {
        let catalog = Catalog::builder().inline("echo", Spec::default(), Echo).build()?;
        let mut broker = Broker::start(config, catalog).await?;
        broker.failed().await;
        Err("the listener stopped".into())
    })
}
