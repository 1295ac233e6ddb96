//! What those who embed the broker may watch: the start and the end of every item.
//!
//! Hooks never change an outcome, and one that panics is caught: it costs a log line, not a broker.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tollgate_protocol::{
    Code,
    id::{BatchId, RecipeName, TenantId},
};

/// Called by the broker around each attempt of an item.
///
/// The calls come from the thread that runs the item, so they must return within microseconds;
/// what takes longer belongs on a channel. Every method does nothing unless it is overridden.
pub trait Hooks: Send + Sync + 'static {
    /// An attempt is about to run.
    fn on_start(&self, request: &HookRequest<'_>) {
        let _ = request;
    }

    /// An attempt ended, with whatever outcome; `running` is the time since `on_start`.
    fn on_complete(&self, request: &HookRequest<'_>, outcome: &HookOutcome<'_>, running: Duration) {
        let _ = (request, outcome, running);
    }

    /// The recipe panicked; `on_complete` with [`Code::Panic`] follows.
    fn on_panic(&self, request: &HookRequest<'_>, message: &str) {
        let _ = (request, message);
    }
}

/// Which attempt a hook is told about.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct HookRequest<'a> {
    /// The tenant for whom the item runs.
    pub tenant: &'a TenantId,
    /// The batch the item belongs to.
    pub batch_id: BatchId,
    /// The item's id in its batch.
    pub item_id: u64,
    /// The recipe.
    pub recipe: &'a RecipeName,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The length of the payload, in bytes.
    pub payload_len: usize,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct HookOutcome<'a> {
    /// [`Code::Ok`], or why it failed.
    pub code: Code,
    /// The message of a failure; empty after a success.
    pub message: &'a str,
    /// The length of the result's payload, in bytes; 0 after a failure.
    pub result_len: usize,
}

/// The hooks of a catalog, safe to call: nothing happens when there are none, and a panic in one is
/// caught.
#[derive(Clone, Default)]
pub(crate) struct Guarded(Option<Arc<dyn Hooks>>);

impl Guarded {
    pub(crate) fn new(hooks: Option<Arc<dyn Hooks>>) -> Self {
        Guarded(hooks)
    }

    /// Whether anybody listens: without, the caller need not read the clock for the hooks' sake.
    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn on_start(&self, request: &HookRequest<'_>) {
        self.call("on_start", |h| h.on_start(request));
    }

    pub(crate) fn on_complete(
        &self,
        request: &HookRequest<'_>,
        outcome: &HookOutcome<'_>,
        running: Duration,
    ) {
        self.call("on_complete", |h| h.on_complete(request, outcome, running));
    }

    pub(crate) fn on_panic(&self, request: &HookRequest<'_>, message: &str) {
        self.call("on_panic", |h| h.on_panic(request, message));
    }

    fn call(&self, name: &'static str, f: impl FnOnce(&dyn Hooks)) {
        let Some(hooks) = &self.0 else { return };
        if catch_unwind(AssertUnwindSafe(|| f(&**hooks))).is_err() {
            tracing::error!(hook = name, "a hook panicked; the item goes on");
        }
    }
}

impl std::fmt::Debug for Guarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_set() { "Hooks" } else { "no hooks" })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn request<'a>(tenant: &'a TenantId, recipe: &'a RecipeName) -> HookRequest<'a> {
        let batch_id = BatchId([7; 16]);
        HookRequest { tenant, batch_id, item_id: 3, recipe, attempt: 1, payload_len: 5 }
    }

    #[derive(Default)]
    struct Faulty(AtomicU32);

    impl Hooks for Faulty {
        fn on_start(&self, request: &HookRequest<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("a hook of {}", request.tenant);
        }

        fn on_complete(&self, _: &HookRequest<'_>, outcome: &HookOutcome<'_>, running: Duration) {
            assert_eq!((outcome.code, outcome.result_len), (Code::Ok, 9));
            assert_eq!(running, Duration::from_millis(2));
            self.0.fetch_add(10, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_panicking_hook_is_caught_and_the_next_ones_are_called() {
        let (tenant, recipe) =
            (TenantId::parse("acme").expect("valid"), RecipeName::parse("echo").expect("valid"));
        let faulty = Arc::new(Faulty::default());
        let hooks = Guarded::new(Some(faulty.clone()));
        let request = request(&tenant, &recipe);
        hooks.on_start(&request);
        let outcome = HookOutcome { code: Code::Ok, message: "", result_len: 9 };
        hooks.on_complete(&request, &outcome, Duration::from_millis(2));
        hooks.on_panic(&request, "not overridden");
        assert_eq!(faulty.0.load(Ordering::Relaxed), 11);
    }

    #[test]
    fn without_hooks_nothing_is_called() {
        assert!(!Guarded::default().is_set());
    }
}
