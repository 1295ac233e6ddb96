//! Connections as they are accepted: a bounded number, TLS with an optional client certificate, and
//! an end for those that take nothing or are trusted no more.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Extension, middleware::AddExtension};
use axum_server::{
    accept::Accept,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Sleep,
};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tollgate_certs::Snapshot;
use tower_layer::Layer;

use super::trust::{Certificate, Entered, Holders};

/// What accepts connections.
#[derive(Clone)]
pub(super) struct Doorman {
    pub room: Arc<Semaphore>,
    pub handshake_timeout: Duration,
    pub write_timeout: Duration,
    pub tls: Option<Tls>,
}

/// What TLS needs.
#[derive(Clone)]
pub(super) struct Tls {
    pub config: RustlsConfig,
    pub trust: watch::Receiver<Snapshot>,
    pub holders: Holders,
}

/// A connection's certificate, for its requests: none without TLS, or when none was presented.
pub(super) type Presented = Option<Certificate>;

impl<S: Send + 'static> Accept<TcpStream, S> for Doorman {
    type Stream = Io;
    type Service = AddExtension<S, Presented>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Io, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let room = this.room.clone().try_acquire_owned();
            let room = room.map_err(|_| io::Error::other("as many connections as may be"))?;
            stream.set_nodelay(true)?;
            let (wire, certificate) = match &this.tls {
                None => (Wire::Plain(stream), None),
                Some(tls) => tls.shake(stream, this.handshake_timeout).await?,
            };
            let entered = this.tls.as_ref().zip(certificate.clone());
            let entered = entered.map(|(tls, certificate)| tls.holders.enter(certificate));
            let ended = certificate.as_ref().map(|c| Box::pin(c.ended().clone().cancelled_owned()));
            let io = Io {
                wire,
                ended,
                write_timeout: this.write_timeout,
                stalled: None,
                _entered: entered,
                _room: room,
            };
            Ok((io, Extension(certificate).layer(service)))
        })
    }
}

impl Tls {
    async fn shake(&self, stream: TcpStream, limit: Duration) -> io::Result<(Wire, Presented)> {
        let acceptor = RustlsAcceptor::new(self.config.clone()).handshake_timeout(limit);
        let (stream, _) = acceptor.accept(stream, ()).await?;
        let chain = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
        let trust = self.trust.clone();
        let judge = |chain| Certificate::judge(chain, trust).map_err(io::Error::other);
        let certificate = chain.map(judge).transpose()?;
        Ok((Wire::Tls(Box::new(stream)), certificate))
    }
}

type TlsStream = <RustlsAcceptor as Accept<TcpStream, ()>>::Stream;

enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

/// A connection.
pub(super) struct Io {
    wire: Wire,
    /// Resolves when its certificate is good no more.
    ended: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    write_timeout: Duration,
    /// Runs while the peer takes nothing of what waits for it.
    stalled: Option<Pin<Box<Sleep>>>,
    _entered: Option<Entered>,
    _room: OwnedSemaphorePermit,
}

impl Io {
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.ended.as_mut().map(|ended| ended.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => Err(io::ErrorKind::ConnectionAborted.into()),
            _ => Ok(()),
        }
    }

    /// Watches how long writing makes no headway.
    fn headway<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        self.poll_ended(cx)?;
        let limit = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn on_wire<T>(
        &mut self,
        cx: &mut Context<'_>,
        plain: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
        tls: impl FnOnce(Pin<&mut TlsStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut self.wire {
            Wire::Plain(stream) => plain(Pin::new(stream), cx),
            Wire::Tls(stream) => tls(Pin::new(&mut **stream), cx),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_ended(cx)?;
        match &mut this.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Wire::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written =
            this.on_wire(cx, |s, cx| s.poll_write(cx, buf), |s, cx| s.poll_write(cx, buf));
        this.headway(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = this.on_wire(
            cx,
            |s, cx| s.poll_write_vectored(cx, bufs),
            |s, cx| s.poll_write_vectored(cx, bufs),
        );
        this.headway(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = this.on_wire(cx, |s, cx| s.poll_flush(cx), |s, cx| s.poll_flush(cx));
        this.headway(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = this.on_wire(cx, |s, cx| s.poll_shutdown(cx), |s, cx| s.poll_shutdown(cx));
        this.headway(cx, shut)
    }
}
