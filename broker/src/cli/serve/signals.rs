//! Signals, and the words that a service manager waits for.

use std::io;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask a broker to end.
pub(super) struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

/// The signal that asks it to reload.
pub(super) struct ReloadSignal(Signal);

/// Heeds them from now on.
///
/// # Errors
/// When the system refuses.
pub(super) fn heed() -> io::Result<(EndSignals, ReloadSignal)> {
    let end = EndSignals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    };
    Ok((end, ReloadSignal(signal(SignalKind::hangup())?)))
}

impl EndSignals {
    /// The next of them. Cancel-safe.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl ReloadSignal {
    /// The next one. Cancel-safe.
    pub(super) async fn next(&mut self) {
        self.0.recv().await;
    }
}

/// Tells the service manager, when there is one; it is none of our business if that fails.
pub(super) fn tell(state: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(state);
}

/// Tells the service manager that a reload began.
pub(super) fn tell_reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}
