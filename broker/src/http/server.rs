//! The listener's start and end: a thread with a runtime of its own, so that load on QUIC can not
//! starve it.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::{Builder, JoinHandle},
    time::Duration,
};

use axum::Router;
use axum_server::{Handle, tls_rustls::RustlsConfig};
use tokio::{runtime, sync::watch};
use tollgate_certs::{Paths, Rotator, Snapshot, rotate, server::https_config};

use super::{
    api::Api,
    auth::{TokenError, Tokens},
    config::{BadHttp, Config},
    io::{Doorman, Tls},
    openapi,
    places::Places,
    router,
    trust::Holders,
};
use crate::broker::Services;

/// Why the HTTP listener can not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// A setting can not be honoured.
    #[error(transparent)]
    Setting(#[from] BadHttp),
    /// The address can not be bound.
    #[error("cannot listen on {addr} for HTTP (http.listen): {source}")]
    Bind {
        /// Which address.
        addr: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A bearer token can not be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The certificates can not be loaded.
    #[error("http: {0}")]
    Certificates(#[from] rotate::RotateError),
    /// The certificate and the trust do not make a TLS configuration.
    #[error("http: cannot use the certificates: {0}")]
    Tls(#[from] rustls::Error),
    /// The thread can not be started.
    #[error("cannot start the thread for HTTP: {0}")]
    Thread(io::Error),
}

/// A listener that is bound and not serving yet: what its configuration says was judged.
pub(crate) struct Listener {
    socket: TcpListener,
    addr: SocketAddr,
    tokens: Arc<Tokens>,
    trust: Option<Trust>,
}

/// The listener, while it serves. Dropping it ends it at once.
pub(crate) struct Server {
    addr: SocketAddr,
    tokens: Arc<Tokens>,
    handle: Handle<SocketAddr>,
    ended: watch::Receiver<bool>,
    thread: Option<JoinHandle<()>>,
    files: Option<rotate::Handle>,
}

impl Listener {
    /// Binds the address. `paths` are the files that the broker's own TLS is made of, and `shared`
    /// is what they say.
    ///
    /// # Errors
    /// [`HttpError`].
    pub(crate) fn bind(
        config: &Config,
        paths: Paths,
        shared: watch::Receiver<Snapshot>,
    ) -> Result<Listener, HttpError> {
        config.check()?;
        let tokens = Arc::new(Tokens::load(config)?);
        let trust = config.is_tls().then(|| Trust::new(config, paths, shared)).transpose()?;
        let addr = config.listen;
        let bind = |source| HttpError::Bind { addr, source };
        let socket = TcpListener::bind(addr).map_err(bind)?;
        let addr = socket.local_addr().map_err(bind)?;
        Ok(Listener { socket, addr, tokens, trust })
    }

    /// Serves, on a thread of its own.
    ///
    /// # Errors
    /// [`HttpError`].
    pub(crate) fn serve(self, services: &Arc<Services>) -> Result<Server, HttpError> {
        let Listener { socket, addr, tokens, trust } = self;
        let tls = trust.map(|trust| trust.secure(services)).transpose()?;
        let files = tls.as_ref().and_then(|tls| tls.files.clone());
        let (routes, document) = router::routes();
        let api = Api::new(
            services.clone(),
            runtime::Handle::current(),
            tokens.clone(),
            openapi::bytes(&document),
        );
        let handle = Handle::new();
        let (ended, is_ended) = watch::channel(false);
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let app = router::router(routes, api);
        let serve = {
            let (handle, services) = (handle.clone(), services.clone());
            move || {
                // Told even when the thread panics.
                let _ended = Ended(ended);
                let runtime = runtime::Builder::new_current_thread().enable_all().build();
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(e) => return drop(ready.send(Err(e))),
                };
                let _ = ready.send(Ok(()));
                if let Err(error) = runtime.block_on(serve(socket, services, tls, app, handle)) {
                    tracing::error!(%error, "the HTTP listener has failed");
                }
                runtime.shutdown_background();
            }
        };
        let thread = Builder::new().name("tollgate-http".into()).spawn(serve);
        let thread = thread.map_err(HttpError::Thread)?;
        // The thread says so at once, or is gone.
        let ended_at_once = |_| io::Error::other("it ended at once");
        is_ready.recv().map_err(ended_at_once).flatten().map_err(HttpError::Thread)?;
        Ok(Server { addr, tokens, handle, ended: is_ended, thread: Some(thread), files })
    }
}

impl Server {
    /// The address it listens on; the port is a real one even when 0 was configured.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Reads tokens and certificates again.
    ///
    /// # Errors
    /// What could not be read; it stays as it was.
    pub(crate) async fn reload(&self, config: &Config) -> Result<(), HttpError> {
        self.tokens.reload(config)?;
        if let Some(files) = &self.files {
            files.reload().await?;
        }
        Ok(())
    }

    /// Resolves when it serves no more.
    pub(crate) async fn ended(&mut self) {
        // A sender that is gone says the same.
        let _ = self.ended.wait_for(|ended| *ended).await;
    }

    /// Ends it: nothing new is taken, what is under way may finish within `limit`.
    pub(crate) async fn stop(mut self, limit: Duration) {
        self.handle.graceful_shutdown(Some(limit));
        self.ended().await;
        if let Some(thread) = self.thread.take() {
            // It has said that it is over: this does not block.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

/// Says that the thread has ended when it is dropped.
struct Ended(watch::Sender<bool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// Who is trusted before what was revoked is known.
enum Trust {
    /// Whom the broker trusts.
    Shared(watch::Receiver<Snapshot>),
    /// The listener has files of its own.
    Own(Rotator, rotate::Handle),
}

/// What TLS needs, and what follows its files.
struct Secured {
    tls: Tls,
    /// Set when the listener has files of its own.
    rotator: Option<Rotator>,
    files: Option<rotate::Handle>,
}

impl Trust {
    fn new(
        config: &Config,
        mut paths: Paths,
        shared: watch::Receiver<Snapshot>,
    ) -> Result<Trust, HttpError> {
        if config.certificate.is_none() && config.client_roots.is_empty() {
            rustls_config(&shared.borrow())?;
            return Ok(Trust::Shared(shared));
        }
        if let (Some(certificate), Some(key)) = (&config.certificate, &config.key) {
            (paths.certificate, paths.key) = (certificate.clone(), key.clone());
        }
        if !config.client_roots.is_empty() {
            paths.roots.clone_from(&config.client_roots);
        }
        let (rotator, files) = Rotator::new(paths)?;
        rustls_config(&files.current())?;
        Ok(Trust::Own(rotator, files))
    }

    /// The same, without whom the broker denies.
    fn secure(self, services: &Services) -> Result<Secured, HttpError> {
        let (trust, rotator, files) = match self {
            Trust::Shared(trust) => (trust, None, None),
            Trust::Own(mut rotator, files) => {
                rotator.deny(services.revocations.entries().collect())?;
                (files.subscribe(), Some(rotator), Some(files))
            }
        };
        let rustls = rustls_config(&trust.borrow())?;
        let config = RustlsConfig::from_config(Arc::new(rustls));
        Ok(Secured { tls: Tls { config, trust, holders: Holders::default() }, rotator, files })
    }
}

fn rustls_config(snapshot: &Snapshot) -> Result<rustls::ServerConfig, rustls::Error> {
    https_config(&snapshot.server, &snapshot.trust)
}

/// Serves until it is told to stop. Runs on the thread's own runtime.
async fn serve(
    listener: TcpListener,
    services: Arc<Services>,
    secured: Option<Secured>,
    app: Router,
    handle: Handle<SocketAddr>,
) -> io::Result<()> {
    let config = services.config.http.clone();
    let tls = secured.as_ref().map(|s| s.tls.clone());
    if let Some(Secured { tls, rotator, files }) = secured {
        if let (Some(rotator), Some(files)) = (rotator, files) {
            tokio::spawn(rotator.run());
            tokio::spawn(deny_too(services, files));
        }
        tokio::spawn(tls.holders.watch(tls.trust.clone()));
        tokio::spawn(follow(tls.config, tls.trust));
    }
    let doorman = Doorman {
        places: Places::new(config.connections_max, config.source_connections_max),
        first_timeout: Duration::from_millis(config.first_request_timeout_ms),
        write_timeout: Duration::from_millis(config.write_timeout_ms),
        tls,
    };
    let mut server = axum_server::from_tcp(listener)?.http1_only().handle(handle);
    server
        .http_builder()
        .http1()
        .header_read_timeout(Duration::from_millis(config.header_timeout_ms))
        .max_buf_size(HEAD_BYTES_MAX);
    server.acceptor(doorman).serve(app.into_make_service()).await
}

/// Denies whom the broker denies where the listener has files of its own.
async fn deny_too(services: Arc<Services>, files: rotate::Handle) {
    let mut trust = services.trust.clone();
    while trust.changed().await.is_ok() {
        if let Err(error) = files.deny(services.revocations.entries().collect()).await {
            tracing::error!(%error, "revocations are not in force for HTTP");
        }
    }
}

/// Puts new certificates in force for handshakes to come.
async fn follow(config: RustlsConfig, mut trust: watch::Receiver<Snapshot>) {
    while trust.changed().await.is_ok() {
        let made = rustls_config(&trust.borrow_and_update());
        match made {
            Ok(new) => config.reload_from_config(Arc::new(new)),
            Err(error) => tracing::error!(%error, "new certificates can not be used for HTTP"),
        }
    }
}

/// The largest head of a request; bodies are read in pieces of no more.
const HEAD_BYTES_MAX: usize = 64 << 10;
