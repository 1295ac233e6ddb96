//! A client without manners: quinn and bytes, to send what no client would.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use quinn::{
    Connection, Endpoint, ReadError, RecvStream, SendStream, VarInt,
    crypto::rustls::QuicClientConfig,
};
use tokio::time::timeout;
use tollgate_certs::{ClientCredentials, client_config};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Code, Splitter,
    batch::{BatchOpen, Body, Failure, Request, Scope},
    close::StreamCode,
    encode,
    id::BatchId,
};

use crate::SOON;

/// A connection with nothing around it.
pub struct Raw {
    /// Kept, because its sockets end with it.
    pub endpoint: Endpoint,
    /// The connection.
    pub conn: Connection,
}

/// Connects; the broker may still turn the certificate away afterwards.
pub async fn connect(addr: SocketAddr, credentials: &ClientCredentials) -> Raw {
    let mut transport = quinn::TransportConfig::default();
    // Silence is a test's to judge, not the idle time-out's.
    transport.keep_alive_interval(Some(std::time::Duration::from_secs(2)));
    connect_with(addr, credentials, transport).await
}

/// Connects with windows and time-outs of one's own.
pub async fn connect_with(
    addr: SocketAddr,
    credentials: &ClientCredentials,
    transport: quinn::TransportConfig,
) -> Raw {
    let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a socket");
    let tls = client_config(credentials).expect("a TLS configuration");
    let crypto = QuicClientConfig::try_from(tls).expect("a QUIC configuration");
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    let connecting = endpoint.connect_with(config, addr, "localhost").expect("a connection");
    let conn = connecting.await.expect("a handshake");
    Raw { endpoint, conn }
}

/// One stream, in frames or in bytes. What reads it, it reads as [`RawReader`].
pub struct RawStream {
    /// Towards the broker.
    pub send: SendStream,
    /// From the broker.
    pub reader: RawReader,
}

/// The broker's side of a stream.
pub struct RawReader {
    /// From the broker.
    pub recv: RecvStream,
    splitter: Splitter,
}

impl Deref for RawStream {
    type Target = RawReader;

    fn deref(&self) -> &RawReader {
        &self.reader
    }
}

impl DerefMut for RawStream {
    fn deref_mut(&mut self) -> &mut RawReader {
        &mut self.reader
    }
}

impl Raw {
    /// Opens a stream.
    pub async fn stream(&self) -> RawStream {
        let (send, recv) = self.conn.open_bi().await.expect("a stream");
        RawStream { send, reader: RawReader { recv, splitter: Splitter::new(17 << 20) } }
    }

    /// Opens a batch with every choice at its default.
    pub async fn batch(&self) -> RawStream {
        self.batch_with(|_| {}).await
    }

    /// Opens a batch with changed choices.
    pub async fn batch_with<'a>(&self, change: impl FnOnce(&mut BatchOpen<'a>)) -> RawStream {
        let mut open = BatchOpen::new(BatchId::random());
        change(&mut open);
        let mut stream = self.stream().await;
        stream.frame(&ClientFrame::Batch(open)).await;
        stream
    }

    /// Whether a small batch succeeds on this connection.
    pub async fn serves(&self) -> bool {
        let mut stream = self.batch().await;
        stream.request(1, "echo", b"well").await;
        stream.seal(1).await;
        stream.transcript().await == ["accepted", "result 1 OK well", "summary Sealed 1/1"]
    }

    /// Waits until the broker has closed the connection: the code.
    pub async fn closed(&self) -> Option<u64> {
        match timeout(SOON, self.conn.closed()).await.expect("the broker closes") {
            quinn::ConnectionError::ApplicationClosed(c) => Some(c.error_code.into_inner()),
            _ => None,
        }
    }
}

/// How the broker's side of a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With a FIN.
    Finished,
    /// With a reset.
    Reset(StreamCode),
    /// In another way.
    Lost,
}

/// A failure as it was told, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which item; none for the batch.
    pub id: Option<u64>,
    /// Its number in the table of codes.
    pub code: u16,
    /// How often it was started.
    pub attempts: u32,
    /// As in the frame.
    pub message: String,
    /// As in the frame.
    pub retryable: bool,
    /// As in the frame.
    pub side_effect_free: bool,
    /// As in the frame.
    pub retry_after_ms: Option<u64>,
    /// Name, whose, current, limit.
    pub quota: Option<(String, Scope, u64, u64)>,
    /// As in the frame.
    pub details: BTreeMap<String, String>,
}

impl Told {
    /// What a failure tells.
    pub fn new(id: Option<u64>, code: u16, attempts: u32, f: &Failure<'_>) -> Self {
        let owned = |(k, v): (&str, &str)| (k.to_owned(), v.to_owned());
        Told {
            id,
            code,
            attempts,
            message: f.message.to_owned(),
            retryable: f.retryable,
            side_effect_free: f.side_effect_free,
            retry_after_ms: f.retry_after_ms,
            quota: f.quota.map(|q| (q.quota.to_owned(), q.scope, q.current, q.limit)),
            details: f.details.iter().map(owned).collect(),
        }
    }

    /// What a frame tells of a failure, if it does.
    pub fn of(frame: &BrokerFrame<'_>) -> Option<Told> {
        match frame {
            BrokerFrame::Result(r) => match &r.body {
                Body::Failure(f) => Some(Told::new(Some(r.id), r.code, r.attempts, f)),
                Body::Payload(_) => None,
            },
            BrokerFrame::Error { code, failure } => Some(Told::new(None, *code, 0, failure)),
            _ => None,
        }
    }

    /// The code.
    pub fn code(&self) -> Option<Code> {
        Code::from_number(self.code)
    }

    /// A detail; empty when there is none.
    pub fn detail(&self, key: &str) -> &str {
        self.details.get(key).map_or("", String::as_str)
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

    /// Waits for the broker to stop the client's side: the code.
    pub async fn stopped(&mut self) -> Option<StreamCode> {
        let stopped = timeout(SOON, self.send.stopped()).await.expect("the broker stops reading");
        stopped.ok().flatten().and_then(|code| StreamCode::from_number(code.into_inner()))
    }

    /// Ends the client's side well.
    pub fn fin(&mut self) {
        self.send.finish().expect("not finished before");
    }

    /// Resets the client's side.
    pub fn reset(&mut self, code: u32) {
        self.send.reset(VarInt::from_u32(code)).expect("not ended before");
    }
}

impl RawReader {
    /// Reads one frame and shows it; `None` at the end of the stream, or when it was reset.
    pub async fn next<T>(&mut self, see: impl FnOnce(BrokerFrame<'_>) -> T) -> Option<T> {
        self.try_next(see).await.ok()
    }

    /// Reads one frame and shows it, or says how the stream ended. Empty frames are passed over.
    pub async fn try_next<T>(
        &mut self,
        see: impl FnOnce(BrokerFrame<'_>) -> T,
    ) -> Result<T, Ending> {
        self.try_bytes(|f| see(BrokerFrame::decode(f).expect("the broker's frames decode"))).await
    }

    /// Reads one frame as bytes and shows it, or says how the stream ended.
    pub async fn try_bytes<T>(&mut self, see: impl FnOnce(&[u8]) -> T) -> Result<T, Ending> {
        timeout(SOON, self.arrive()).await.expect("the broker says something in time")?;
        let frame = self.splitter.peek().expect("not too large").expect("there is one");
        let seen = see(frame);
        self.splitter.advance();
        Ok(seen)
    }

    /// Reads until a frame that is not empty is there.
    async fn arrive(&mut self) -> Result<(), Ending> {
        loop {
            match self.splitter.peek().expect("no frame is too large") {
                Some([]) => self.splitter.advance(),
                Some(_) => return Ok(()),
                None => match self.recv.read_chunks(self.splitter.buffers()).await {
                    Ok(Some(n)) => self.splitter.filled(n),
                    Ok(None) => return Err(Ending::Finished),
                    Err(ReadError::Reset(code)) => {
                        let code = StreamCode::from_number(code.into_inner());
                        return Err(code.map_or(Ending::Lost, Ending::Reset));
                    }
                    Err(_) => return Err(Ending::Lost),
                },
            }
        }
    }

    /// Reads up to a line that begins so; the lines, that one last.
    ///
    /// # Panics
    /// When the stream ends before.
    pub async fn until(&mut self, begins: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.try_next(|f| line(&f)).await {
                Ok(Some(line)) => {
                    let found = line.starts_with(begins);
                    lines.push(line);
                    if found {
                        return lines;
                    }
                }
                Ok(None) => {}
                Err(end) => panic!("{end:?} before {begins:?}: {lines:?}"),
            }
        }
    }

    /// Reads to the end: every failure that was told.
    pub async fn failures(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some(failure) = self.next(|f| Told::of(&f)).await {
            told.extend(failure);
        }
        told
    }

    /// Reads to the end, and says how it came.
    pub async fn ending(&mut self) -> Ending {
        loop {
            if let Err(end) = self.try_next(|_| ()).await {
                return end;
            }
        }
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
    let name = |n| Code::from_number(n).map_or("?", Code::name);
    Some(match frame {
        BrokerFrame::Alive => return None,
        BrokerFrame::Accepted(_) => "accepted".into(),
        BrokerFrame::Progress(p) => format!("progress {} {}/{}", p.id, p.done, p.total),
        BrokerFrame::Result(r) => match r.body {
            Body::Payload(p) if p.len() > 64 => format!("result {} OK {} bytes", r.id, p.len()),
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
