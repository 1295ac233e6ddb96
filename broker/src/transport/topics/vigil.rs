//! What every long stream about topics does beside its work: heeds its connection, shows that the
//! broker is alive, and ends when its reader takes nothing.

use std::{
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant, UNIX_EPOCH},
};

use tokio::time::timeout;
use tollgate_protocol::{
    BrokerFrame, Code,
    batch::{Notice, NoticeKind},
};

use super::super::{
    config::ms,
    connection::Peer,
    signals::{State, Watch},
    stream::Stream,
};
use crate::batch::Failure;

/// What a stream heeds of its connection.
pub(super) struct Vigil<'a> {
    watch: Watch<'a>,
    heeded: State,
    alive: Duration,
    reader: Duration,
    frame: Duration,
    /// When something was last written.
    last_write: Instant,
}

/// The reader takes nothing, or is gone.
pub(super) struct Gone;

/// What came from the client.
pub(super) enum Input {
    Bytes,
    /// Its side is over.
    Fin,
    Gone,
}

impl<'a> Vigil<'a> {
    pub(super) fn new(peer: &'a Arc<Peer>) -> Vigil<'a> {
        let limits = &peer.services.config.limits;
        Vigil {
            watch: Watch::new(&peer.signals),
            heeded: State::default(),
            alive: ms(limits.alive_interval_ms),
            reader: ms(limits.reader_timeout_ms),
            frame: ms(limits.frame_timeout_ms),
            last_write: Instant::now(),
        }
    }

    /// When the client is to be shown that the broker is alive.
    pub(super) fn alive_at(&self) -> tokio::time::Instant {
        (self.last_write + self.alive).into()
    }

    /// Something was written.
    pub(super) fn wrote(&mut self) {
        self.last_write = Instant::now();
    }

    /// Until when the rest of a frame must have come that began at this time.
    pub(super) fn frame_due(&self, since: Instant) -> tokio::time::Instant {
        (since + self.frame).into()
    }

    /// What is said of a frame whose rest did not come.
    pub(super) fn stalled(&self) -> Failure {
        let message = format!("a frame stalled for {} ms", self.frame.as_millis());
        Failure::new(Code::Timeout, message).detail("config_key", "limits.frame_timeout_ms")
    }

    /// Resolves when something of the connection changed.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn changed(&mut self) -> State {
        poll_fn(|cx| match self.watch.changed() {
            Some(state) => Poll::Ready(state),
            None if self.watch.register(cx.waker()) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Pending,
        })
        .await
    }

    /// Tells the client what is about to happen. Whether the stream is to end.
    pub(super) fn heed(&mut self, state: State, stream: &mut Stream) -> Option<Failure> {
        let before = std::mem::replace(&mut self.heeded, state);
        let mut notice = |kind, at: std::time::SystemTime, message| {
            let at_unix_ms = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
            stream.output.frame(&BrokerFrame::Notice(Notice { kind, at_unix_ms, message }));
        };
        if let Some(at) = state.draining.filter(|_| before.draining.is_none()) {
            let message = "the broker is shutting down: come back when it is there again";
            notice(NoticeKind::Draining, at, message);
            // It would never come to an end by itself.
            return Some(Failure::new(Code::Draining, "the broker is shutting down"));
        }
        if let Some(at) = state.expiring.filter(|_| before.expiring.is_none()) {
            let message = "the certificate is about to expire: connect again with a new one";
            notice(NoticeKind::CertificateExpiring, at, message);
        }
        if state.over {
            return Some(Failure::new(Code::Draining, "the broker is shutting down"));
        }
        state.leaving.then(|| Failure::new(Code::Forbidden, "the tenant is being deleted"))
    }

    /// Writes what there is.
    ///
    /// # Errors
    /// [`Gone`] when the reader has taken nothing for too long.
    pub(super) async fn write(&mut self, stream: &mut Stream) -> Result<(), Gone> {
        if stream.output.is_empty() {
            return Ok(());
        }
        let Stream { send, output, .. } = stream;
        while !output.is_empty() {
            // However much there is, something of it must be taken in time.
            let some = poll_fn(|cx| match output.write(send, cx) {
                Err(_) => Poll::Ready(Err(Gone)),
                Ok(0) if !output.is_empty() => Poll::Pending,
                Ok(_) => Poll::Ready(Ok(())),
            });
            match timeout(self.reader, some).await {
                Ok(Ok(())) => {}
                Ok(Err(gone)) => return Err(gone),
                Err(_) => return Err(Gone),
            }
        }
        self.last_write = Instant::now();
        Ok(())
    }
}

/// Reads what arrives.
///
/// # Cancel safety
/// Safe.
pub(super) async fn read(
    stream: (&mut quinn::RecvStream, &mut tollgate_protocol::Splitter),
) -> Input {
    let (recv, splitter) = stream;
    match recv.read_chunks(splitter.buffers()).await {
        Ok(Some(n)) => {
            splitter.filled(n);
            Input::Bytes
        }
        Ok(None) => Input::Fin,
        Err(_) => Input::Gone,
    }
}
