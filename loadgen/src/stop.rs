//! Ctrl-C and SIGTERM: the first ends a run early, with a report of what was measured; the second ends
//! the process.

use std::process::exit;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// What shells expect of a program that was interrupted.
const INTERRUPTED: i32 = 130;

/// Becomes true with the first signal. Must be called within a runtime.
pub fn on_signal() -> watch::Receiver<bool> {
    let (tell, told) = watch::channel(false);
    tokio::spawn(async move {
        let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
        // Where there are no signals, there is nobody to stop it.
        let (Ok(mut interrupt), Ok(mut terminate)) = signals else { return };
        for n in 0.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if n > 0 {
                exit(INTERRUPTED);
            }
            // Nobody may be left to be told.
            let _ = tell.send(true);
        }
    });
    told
}
