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
    sync::watch,
    time::Sleep,
};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tollgate_certs::{Role, Snapshot};
use tower_layer::Layer;

use super::{
    places::{Known, Place, Places},
    trust::{Certificate, Entered, Holders},
};

/// What accepts connections.
#[derive(Clone)]
pub(super) struct Doorman {
    pub places: Places,
    /// For TLS and the head of the first request.
    pub first_timeout: Duration,
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

/// What a connection's requests are to know of it.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// None without TLS, or when none was presented.
    pub certificate: Option<Certificate>,
    pub place: Arc<Place>,
}

impl<S: Send + 'static> Accept<TcpStream, S> for Doorman {
    type Stream = Io;
    type Service = AddExtension<S, Peer>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Io, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let late = Box::pin(tokio::time::sleep(this.first_timeout));
            let place = this.places.enter(stream.peer_addr()?.ip());
            let place = place.ok_or_else(|| io::Error::other("as many connections as may be"))?;
            stream.set_nodelay(true)?;
            let (wire, certificate) = match &this.tls {
                None => (Wire::Plain(stream), None),
                Some(tls) => tokio::select! {
                    shaken = tls.shake(stream, this.first_timeout) => shaken?,
                    () = place.ended().cancelled() => {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                },
            };
            let known = certificate.as_ref().map(|c| match c.identity().role() {
                Role::Operator => Known::Operator,
                _ => Known::Other,
            });
            if known.is_some_and(|known| !place.is(known)) {
                return Err(io::Error::other("as many connections of tenants as may be"));
            }
            let entered = this.tls.as_ref().zip(certificate.clone());
            let entered = entered.map(|(tls, certificate)| tls.holders.enter(certificate));
            let ended = certificate.as_ref().map(|c| Box::pin(c.ended().clone().cancelled_owned()));
            let io = Io {
                wire,
                ended,
                write_timeout: this.write_timeout,
                stalled: None,
                replaced: Box::pin(place.ended().clone().cancelled_owned()),
                late: Some(late),
                place: place.clone(),
                _entered: entered,
            };
            Ok((io, Extension(Peer { certificate, place }).layer(service)))
        })
    }
}

impl Tls {
    async fn shake(
        &self,
        stream: TcpStream,
        limit: Duration,
    ) -> io::Result<(Wire, Option<Certificate>)> {
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
    /// Resolves when another connection gets its place.
    replaced: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Resolves when the first request must be there; none once it is.
    late: Option<Pin<Box<Sleep>>>,
    place: Arc<Place>,
    _entered: Option<Entered>,
}

impl Io {
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let ended = self.ended.as_mut().is_some_and(|ended| ended.as_mut().poll(cx).is_ready());
        if ended || self.replaced.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if self.place.has_asked() {
            self.late = None;
        }
        match self.late.as_mut().map(|late| late.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => Err(io::ErrorKind::TimedOut.into()),
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
