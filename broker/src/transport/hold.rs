//! How much of a connection's window may be kept by streams that are not read.
//!
//! A stream that is not read keeps up to one stream window of the connection's. Half of the
//! connection's window may be kept so; beyond that the broker reads on and refuses, so that one
//! stream's wait is never another's.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

/// The held streams of one connection.
#[derive(Debug)]
pub(super) struct Holds {
    held: AtomicU32,
    max: AtomicU32,
}

impl Holds {
    /// For a connection with such windows, in bytes.
    pub(super) fn new(stream_window: u32, connection_window: u32) -> Arc<Self> {
        let holds = Holds { held: AtomicU32::new(0), max: AtomicU32::new(0) };
        holds.resize(stream_window, connection_window);
        Arc::new(holds)
    }

    /// The connection's window was raised.
    pub(super) fn resize(&self, stream_window: u32, connection_window: u32) {
        self.max.store((connection_window / 2 / stream_window.max(1)).max(1), Relaxed);
    }

    /// Whether any stream is held now.
    pub(super) fn any(&self) -> bool {
        self.held.load(Relaxed) > 0
    }

    /// The right to stop reading a stream, if the connection can afford it.
    pub(super) fn try_hold(self: &Arc<Self>) -> Option<Hold> {
        let max = self.max.load(Relaxed);
        let take = |n| if n < max { Some(n + 1) } else { None };
        self.held.fetch_update(Relaxed, Relaxed, take).ok()?;
        Some(Hold(self.clone()))
    }
}

/// A stream that is not read; it is again once this is dropped.
#[derive(Debug)]
pub(super) struct Hold(Arc<Holds>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_connections_window_may_be_held() {
        let holds = Holds::new(256, 1024);
        let (a, b) = (holds.try_hold().expect("one"), holds.try_hold().expect("two"));
        assert!(holds.try_hold().is_none());
        drop(a);
        assert!(holds.any() && holds.try_hold().is_some());
        drop(b);
        assert!(!holds.any());
        holds.resize(256, 4096);
        let many: Vec<_> = std::iter::from_fn(|| holds.try_hold()).collect();
        assert_eq!(many.len(), 8);
    }
}
