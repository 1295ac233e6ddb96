//! A recipe that runs until the test lets it go, and that counts how often each item was run.
//!
//! So a test knows that an item runs: it waits for the count, never for a time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tollgate_broker::batch::{Catalog, Context, Error, Recipe, Reply, Spec};

/// The test's side of the recipe `held`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Held(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    may_end: Semaphore,
    runs: Mutex<BTreeMap<u64, u32>>,
}

impl Default for Held {
    fn default() -> Held {
        Held(Arc::new(Inner { may_end: Semaphore::new(0), runs: Mutex::default() }))
    }
}

impl Held {
    /// The built-in recipes and `held`, which answers with its payload.
    ///
    /// # Panics
    /// When the catalog cannot be built.
    pub fn catalog(&self) -> Catalog {
        let spec = Spec { timeout: Some(crate::SOON * 3), ..Spec::bytes() };
        let builder = tollgate_broker::recipes::builtin();
        builder.recipe("held", spec, self.clone()).build().expect("a catalog")
    }

    /// How often each item was begun, by its id.
    pub fn runs(&self) -> BTreeMap<u64, u32> {
        self.0.runs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets `n` items end.
    pub fn release(&self, n: usize) {
        self.0.may_end.add_permits(n);
    }

    /// Waits until `n` items were begun.
    pub async fn begun(&self, n: usize) {
        crate::eventually("the items are begun", || self.runs().len() >= n).await;
    }
}

impl Recipe for Held {
    async fn run(&self, ctx: Context, payload: Bytes) -> Result<Reply, Error> {
        *self
            .0
            .runs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(ctx.item_id())
            .or_default() += 1;
        let permit = self.0.may_end.acquire().await.expect("the semaphore is never closed");
        permit.forget();
        Ok(payload.into())
    }
}
