//! The one connection that a client's operations share: opened when needed, opened again when lost.
//!
//! Many operations that find no connection wait for the same attempt. No task runs here: an attempt
//! makes progress while somebody waits for it, and is dropped when nobody does.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, TransportConfig, VarInt};
use tollgate_certs::ClientCredentials;
use tollgate_protocol::close::CloseCode;

use crate::{
    describe,
    error::{ConnectError, DescribeError, Disconnected},
    retry::{self, Backoff},
};

/// A connection, and what was learned on it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connection: Connection,
    /// The broker's frame limit in bytes, as the last batch was told; 0 until then.
    frame_bytes_max: AtomicU32,
    /// What the last batch that was written in one go took, in bytes; 0 until there was one.
    usual_bytes: AtomicU32,
    /// The longest frame taken from the broker, in bytes.
    pub(crate) receive_frame_max: usize,
}

impl Session {
    pub(crate) fn frame_bytes_max(&self) -> Option<usize> {
        match self.frame_bytes_max.load(Ordering::Relaxed) {
            0 => None,
            n => Some(n as usize),
        }
    }

    pub(crate) fn learn_frame_bytes_max(&self, n: u32) {
        // Relaxed: a hint that stands alone.
        self.frame_bytes_max.store(n, Ordering::Relaxed);
    }

    /// What the requests of a batch usually take, in bytes: batches of one client are much alike.
    pub(crate) fn usual_bytes(&self) -> usize {
        self.usual_bytes.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn learn_usual_bytes(&self, n: usize) {
        // Relaxed: a hint that stands alone. Read more often than it changes.
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        if self.usual_bytes.load(Ordering::Relaxed) != n {
            self.usual_bytes.store(n, Ordering::Relaxed);
        }
    }

    fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }
}

/// How connections are opened.
#[derive(Debug, Clone)]
pub(crate) struct Dialing {
    pub(crate) endpoint: Endpoint,
    pub(crate) addr: SocketAddr,
    pub(crate) server_name: Arc<str>,
    pub(crate) transport: Arc<TransportConfig>,
    pub(crate) connect_timeout: Duration,
    pub(crate) confirm: bool,
    pub(crate) receive_frame_max: usize,
}

type Attempt = Shared<BoxFuture<'static, Result<Arc<Session>, ConnectError>>>;

pub(crate) struct Link {
    pub(crate) dialing: Dialing,
    backoff: Backoff,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    tls: ClientConfig,
    /// Changes with the credentials: an attempt made with older ones does not count.
    generation: u64,
    /// Attempts that failed in a row, and when the next may be made.
    failures: u32,
    not_before: Option<Instant>,
}

enum Phase {
    Down,
    Trying(Attempt),
    Up(Arc<Session>),
    Closed,
}

impl Link {
    pub(crate) fn new(
        dialing: Dialing,
        backoff: Backoff,
        credentials: &ClientCredentials,
    ) -> Result<Self, ConnectError> {
        let tls = tls(credentials, &dialing)?;
        let state = State { phase: Phase::Down, tls, generation: 0, failures: 0, not_before: None };
        Ok(Link { dialing, backoff, state: Mutex::new(state) })
    }

    /// The first connection: one attempt, no waiting.
    pub(crate) async fn connect(&self) -> Result<Arc<Session>, ConnectError> {
        self.session_within(1).await
    }

    /// The connection there is, or a new one.
    pub(crate) async fn session(&self) -> Result<Arc<Session>, ConnectError> {
        self.session_within(self.backoff.tries_max.max(1)).await
    }

    async fn session_within(&self, tries: u32) -> Result<Arc<Session>, ConnectError> {
        loop {
            let (attempt, generation) = {
                let mut state = self.lock();
                let attempt = match &state.phase {
                    Phase::Closed => return Err(ConnectError::ClientClosed),
                    Phase::Up(session) if session.is_open() => return Ok(session.clone()),
                    // Only we hold it: nobody has polled it since its waiters went away, and its
                    // time-outs speak of that time.
                    Phase::Trying(a) if a.strong_count().is_some_and(|n| n > 1) => a.clone(),
                    _ => self.attempt(&mut state, tries),
                };
                (attempt, state.generation)
            };
            let result = attempt.clone().await;
            let mut state = self.lock();
            if matches!(state.phase, Phase::Closed) {
                return Err(ConnectError::ClientClosed);
            }
            if state.generation != generation {
                continue;
            }
            // The first of the waiters to come here records it.
            if matches!(&state.phase, Phase::Trying(a) if a.ptr_eq(&attempt)) {
                self.settle(&mut state, &result);
            }
            return result;
        }
    }

    fn settle(&self, state: &mut State, result: &Result<Arc<Session>, ConnectError>) {
        match result {
            Ok(session) => {
                state.phase = Phase::Up(session.clone());
                (state.failures, state.not_before) = (0, None);
            }
            Err(_) => {
                state.phase = Phase::Down;
                state.failures = state.failures.saturating_add(1);
                let wait = self.backoff.wait(state.failures, retry::spread());
                state.not_before = Some(Instant::now() + wait);
            }
        }
    }

    fn attempt(&self, state: &mut State, tries: u32) -> Attempt {
        let (dialing, tls, backoff) = (self.dialing.clone(), state.tls.clone(), self.backoff);
        let not_before = state.not_before;
        let attempt = async move {
            if let Some(at) = not_before {
                tokio::time::sleep_until(at.into()).await;
            }
            let mut failures = 0;
            loop {
                match dialing.dial(tls.clone()).await {
                    Err(e) if e.retryable() && failures + 1 < tries => {
                        failures += 1;
                        let wait = backoff.wait(failures, retry::spread());
                        tracing::debug!(error = %e, ?wait, "connecting again");
                        tokio::time::sleep(wait).await;
                    }
                    result => return result,
                }
            }
        };
        let attempt = attempt.boxed().shared();
        state.phase = Phase::Trying(attempt.clone());
        attempt
    }

    /// New operations go over a new connection with these credentials; what runs on the old one
    /// keeps it open until it is done.
    pub(crate) fn set_credentials(&self, c: &ClientCredentials) -> Result<(), ConnectError> {
        let tls = tls(c, &self.dialing)?;
        let mut state = self.lock();
        if matches!(state.phase, Phase::Closed) {
            return Err(ConnectError::ClientClosed);
        }
        state.tls = tls;
        state.generation += 1;
        state.phase = Phase::Down;
        (state.failures, state.not_before) = (0, None);
        Ok(())
    }

    pub(crate) fn connection(&self) -> Option<Connection> {
        match &self.lock().phase {
            Phase::Up(session) if session.is_open() => Some(session.connection.clone()),
            _ => None,
        }
    }

    /// Closes the connection, if there is one, and opens no other.
    pub(crate) fn close(&self) -> Option<Connection> {
        let phase = std::mem::replace(&mut self.lock().phase, Phase::Closed);
        let Phase::Up(session) = phase else { return None };
        session.connection.close(VarInt::from_u32(CloseCode::Done.number()), b"");
        Some(session.connection.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dialing {
    async fn dial(&self, tls: ClientConfig) -> Result<Arc<Session>, ConnectError> {
        let after = self.connect_timeout;
        tokio::time::timeout(after, self.dial_patiently(tls))
            .await
            .unwrap_or(Err(ConnectError::Timeout { after }))
    }

    async fn dial_patiently(&self, tls: ClientConfig) -> Result<Arc<Session>, ConnectError> {
        let connecting = self
            .endpoint
            .connect_with(tls, self.addr, &self.server_name)
            .map_err(|e| ConnectError::Config(e.to_string().into()))?;
        let connection = connecting.await.map_err(Disconnected)?;
        let session = Arc::new(Session {
            connection,
            frame_bytes_max: AtomicU32::new(0),
            usual_bytes: AtomicU32::new(0),
            receive_frame_max: self.receive_frame_max,
        });
        if self.confirm {
            match describe::confirm(&session).await {
                // Any answer shows that the broker knows who we are.
                Ok(_) | Err(DescribeError::Failed(_)) => {}
                Err(DescribeError::Connect(e)) => return Err(e),
                Err(DescribeError::Disconnected(lost)) => return Err(lost.into()),
                Err(e) => {
                    let message = format!("the broker did not answer the first question: {e}");
                    return Err(ConnectError::Config(message.into()));
                }
            }
        }
        Ok(session)
    }
}

fn tls(credentials: &ClientCredentials, dialing: &Dialing) -> Result<ClientConfig, ConnectError> {
    let config = |e: &dyn std::fmt::Display| ConnectError::Config(e.to_string().into());
    let tls = tollgate_certs::client_config(credentials).map_err(|e| config(&e))?;
    let crypto = QuicClientConfig::try_from(tls).map_err(|e| config(&e))?;
    let mut client = ClientConfig::new(Arc::new(crypto));
    client.transport_config(dialing.transport.clone());
    Ok(client)
}
