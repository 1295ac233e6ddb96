//! What every batch of a broker shares.

use std::{io, sync::Arc};

use super::{
    catalog::Catalog,
    config::Config,
    directory::Directory,
    durable::Durables,
    pool::{Config as PoolConfig, Pool},
    slots::Slots,
    stopwatch::Counter,
    turns::Turns,
};
use crate::{metrics::Metrics, tenancy::Book};

/// What every batch of a broker shares. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Engine {
    pub catalog: Catalog,
    /// The catalog, and the recipes that come and go.
    pub directory: Directory,
    pub slots: Slots,
    pub pool: Pool,
    pub turns: Turns,
    pub metrics: Metrics,
    pub book: Book,
    pub durables: Durables,
    pub config: Arc<Config>,
    pub(super) counter: Counter,
}

impl Engine {
    /// An engine for the batches of the runtime that this is called on.
    ///
    /// # Errors
    /// When the system gives no thread for recipes that block.
    pub(crate) fn start(
        config: &Config,
        catalog: Catalog,
        metrics: Metrics,
        book: Book,
    ) -> io::Result<Engine> {
        let mut pool =
            PoolConfig { queue_per_tenant_max: config.blocking_queue_max, ..PoolConfig::default() };
        if config.blocking_threads > 0 {
            pool.threads = config.blocking_threads;
        }
        Ok(Engine {
            directory: Directory::new(catalog.clone()),
            catalog,
            slots: Slots::new(config.concurrency_max),
            pool: Pool::new(pool)?,
            turns: Turns::new(tokio::runtime::Handle::current().metrics().num_workers()),
            metrics,
            book,
            durables: Durables::default(),
            config: Arc::new(config.clone()),
            counter: Counter::new(),
        })
    }
}
