//! A client without manners: quinn and bytes, to send what no client would.

use std::{net::SocketAddr, sync::Arc};

use quinn::{Connection, Endpoint, RecvStream, SendStream, crypto::rustls::QuicClientConfig};
use tollgate_certs::{ClientCredentials, client_config};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Splitter,
    batch::{BatchOpen, Request},
    encode,
    id::BatchId,
};

/// A connection with nothing around it.
pub struct Raw {
    /// Kept, because its sockets end with it.
    pub endpoint: Endpoint,
    /// The connection.
    pub conn: Connection,
}

/// Connects; the broker may still turn the certificate away afterwards.
pub async fn connect(addr: SocketAddr, credentials: &ClientCredentials) -> Raw {
    let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a socket");
    let tls = client_config(credentials).expect("a TLS configuration");
    let crypto = QuicClientConfig::try_from(tls).expect("a QUIC configuration");
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint.connect_with(config, addr, "localhost").expect("a connection");
    let conn = connecting.await.expect("a handshake");
    Raw { endpoint, conn }
}

/// One stream, in frames or in bytes.
pub struct RawStream {
    /// Towards the broker.
    pub send: SendStream,
    /// From the broker.
    pub recv: RecvStream,
    splitter: Splitter,
}

impl Raw {
    /// Opens a stream.
    pub async fn stream(&self) -> RawStream {
        let (send, recv) = self.conn.open_bi().await.expect("a stream");
        RawStream { send, recv, splitter: Splitter::new(17 << 20) }
    }

    /// Opens a batch with every choice at its default.
    pub async fn batch(&self) -> RawStream {
        let mut stream = self.stream().await;
        stream.frame(&ClientFrame::Batch(BatchOpen::new(BatchId::random()))).await;
        stream
    }
}

impl RawStream {
    /// Sends bytes.
    pub async fn bytes(&mut self, bytes: &[u8]) {
        self.send.write_all(bytes).await.expect("sent");
    }

    /// Sends a frame.
    pub async fn frame(&mut self, frame: &ClientFrame<'_>) {
        let mut out = Vec::new();
        encode(frame, &mut out);
        self.bytes(&out).await;
    }

    /// Sends a request.
    pub async fn request(&mut self, id: u64, recipe: &str, payload: &[u8]) {
        self.frame(&ClientFrame::Request(Request::new(id, recipe, payload))).await;
    }

    /// Sends a seal.
    pub async fn seal(&mut self, items: u64) {
        self.frame(&ClientFrame::Seal { items }).await;
    }

    /// Reads one frame and shows it; `None` at the end of the stream, or when it was reset.
    pub async fn next<T>(&mut self, see: impl FnOnce(BrokerFrame<'_>) -> T) -> Option<T> {
        loop {
            if self.splitter.peek().expect("no frame is too large").is_some() {
                break;
            }
            match self.recv.read_chunks(self.splitter.buffers()).await {
                Ok(Some(n)) => self.splitter.filled(n),
                Ok(None) | Err(_) => return None,
            }
        }
        let frame = self.splitter.peek().expect("not too large").expect("there is one");
        let seen = see(BrokerFrame::decode(frame).expect("the broker's frames decode"));
        self.splitter.advance();
        Some(seen)
    }

    /// Reads to the end of the stream: a line a frame, empty frames left out.
    pub async fn transcript(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.next(|f| line(&f)).await {
            lines.extend(line);
        }
        lines
    }
}

/// A frame as a short line.
pub fn line(frame: &BrokerFrame<'_>) -> Option<String> {
    use tollgate_protocol::{Code, batch::Body};
    let name = |n| Code::from_number(n).map_or("?", Code::name);
    Some(match frame {
        BrokerFrame::Alive => return None,
        BrokerFrame::Accepted(_) => "accepted".into(),
        BrokerFrame::Progress(p) => format!("progress {} {}/{}", p.id, p.done, p.total),
        BrokerFrame::Result(r) => match r.body {
            Body::Payload(p) => format!("result {} OK {}", r.id, String::from_utf8_lossy(p)),
            Body::Failure(_) => format!("result {} {}", r.id, name(r.code)),
        },
        BrokerFrame::Throttled(t) => format!("throttled {}", t.quota),
        BrokerFrame::Notice(n) => format!("notice {:?}", n.kind),
        BrokerFrame::Summary(s) => {
            format!("summary {:?} {}/{}", s.ended, s.succeeded, s.total)
        }
        BrokerFrame::Error { code, .. } => format!("error {}", name(*code)),
        other => format!("{other:?}"),
    })
}
