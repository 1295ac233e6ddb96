//! An HTTP service that a test scripts byte by byte: what it is asked, what it answers, and whether
//! anybody still listens, is the test's to see and to say.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tollgate_broker::{
    Config,
    upstream::{Recipe, Upstream},
};

use crate::SOON;

/// A service that runs. Ends when dropped.
pub struct Service {
    /// Where it listens.
    pub addr: SocketAddr,
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

struct Inner {
    script: Box<Script>,
    seen: watch::Sender<Seen>,
    gate: Semaphore,
}

/// What it does when it is asked.
type Script = dyn Fn(&Asked) -> Vec<Step> + Send + Sync;

/// What it was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// As in `POST`.
    pub method: String,
    /// The path and the query, as they came.
    pub target: String,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Which connection it came on, from 0.
    pub connection: usize,
}

impl Asked {
    /// The value of a header; of several, all of them.
    pub fn header(&self, name: &str) -> Option<String> {
        let all = self.headers.iter().filter(|(n, _)| n == name);
        let all: Vec<_> = all.map(|(_, value)| value.as_str()).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}

/// What was seen of those who ask.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// What it was asked, in the order in which it came.
    pub asked: Vec<Asked>,
    /// Connections that were made.
    pub connections: usize,
    /// Requests that are being answered, and the most that ever were at once.
    pub running: usize,
    /// See `running`.
    pub most: usize,
    /// Requests whose asker hung up before the answer was whole.
    pub hung_up: usize,
}

/// What it does to answer.
pub enum Step {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Waits for [`Service::open`].
    Gate,
    /// Sends a byte every 10 ms, again and again, until nobody listens.
    Drip(Vec<u8>),
    /// Sends as fast as it is taken, again and again, until nobody listens.
    Flood(Vec<u8>),
    /// Sends nothing until nobody listens.
    Hang,
    /// Closes the connection.
    Close,
}

/// A whole answer, after which the connection is good for another.
pub fn whole(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<Step> {
    let body = body.as_ref();
    let mut bytes = head(status, headers);
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    vec![Step::Send(bytes)]
}

/// The head of an answer whose body comes in chunks.
pub fn chunked(status: u16, headers: &[(&str, &str)]) -> Step {
    let mut bytes = head(status, headers);
    bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
    Step::Send(bytes)
}

/// A chunk; an empty one is the end.
pub fn chunk(bytes: impl AsRef<[u8]>) -> Step {
    let bytes = bytes.as_ref();
    Step::Send([format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat())
}

/// The head of a streamed answer of lines.
pub fn ndjson() -> Step {
    chunked(200, &[("content-type", "application/x-ndjson")])
}

fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} Reason\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes
}

impl Service {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Service {
        Service::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), None, script).await
    }

    /// Starts one on an address, behind TLS if it is given.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start_on(
        addr: SocketAddr,
        tls: Option<TlsAcceptor>,
        script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static,
    ) -> Service {
        let listener = TcpListener::bind(addr).await.expect("a socket");
        let addr = listener.local_addr().expect("an address");
        let inner = Arc::new(Inner {
            script: Box::new(script),
            seen: watch::Sender::default(),
            gate: Semaphore::new(0),
        });
        let task = tokio::spawn(accept(listener, tls, inner.clone()));
        Service { addr, inner, task }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.inner.seen.borrow().clone()
    }

    /// The only request that came.
    ///
    /// # Panics
    /// When it was not one.
    #[track_caller]
    pub fn asked(&self) -> Asked {
        let mut asked = self.seen().asked;
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }

    /// Lets `n` answers go on that wait at the gate, now or later.
    pub fn open(&self, n: usize) {
        self.inner.gate.add_permits(n);
    }

    /// Waits until what was seen is so.
    ///
    /// # Panics
    /// When it never is.
    pub async fn until(&self, what: &str, holds: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.inner.seen.subscribe();
        match timeout(SOON, seen.wait_for(holds)).await {
            Ok(Ok(seen)) => seen.clone(),
            _ => panic!("never came to hold: {what}: {:?}", self.seen()),
        }
    }

    /// A recipe of it, and nothing else of its own.
    pub fn upstream(&self, recipe: &str, change: impl FnOnce(&mut Recipe)) -> Upstream {
        upstream(&self.url(), recipe, change)
    }
}

/// An upstream with one recipe.
pub fn upstream(url: &str, recipe: &str, change: impl FnOnce(&mut Recipe)) -> Upstream {
    let mut of = Recipe::default();
    change(&mut of);
    let recipes = [(recipe.to_owned(), of)].into();
    Upstream { url: url.to_owned(), recipes, ..Upstream::default() }
}

/// Adds an upstream called `service` to a broker's settings.
pub fn adds(upstream: Upstream) -> impl FnOnce(&mut Config) {
    move |config| drop(config.upstreams.insert("service".to_owned(), upstream))
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, inner: Arc<Inner>) {
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.expect("a connection");
        let mut connection = 0;
        inner.seen.send_modify(|s| {
            connection = s.connections;
            s.connections += 1;
        });
        tasks.spawn(serve(socket, tls.clone(), inner.clone(), connection));
    }
}

async fn serve(socket: TcpStream, tls: Option<TlsAcceptor>, inner: Arc<Inner>, n: usize) {
    match tls {
        None => answer(socket, inner, n).await,
        Some(tls) => {
            // Who does not trust it ends here.
            let Ok(socket) = tls.accept(socket).await else { return };
            answer(socket, inner, n).await;
        }
    }
}

async fn answer(mut socket: impl AsyncRead + AsyncWrite + Unpin, inner: Arc<Inner>, n: usize) {
    while let Some(asked) = read(&mut socket, n).await {
        let steps = (inner.script)(&asked);
        inner.seen.send_modify(|s| {
            s.asked.push(asked);
            s.running += 1;
            s.most = s.most.max(s.running);
        });
        let goes_on = run(&mut socket, steps, &inner).await;
        inner.seen.send_modify(|s| {
            s.running -= 1;
            s.hung_up += usize::from(goes_on.is_err());
        });
        if goes_on != Ok(true) {
            return;
        }
    }
}

/// Nobody listens any more.
#[derive(Debug, PartialEq, Eq)]
struct HungUp;

/// Whether the connection is good for another request.
async fn run(
    socket: &mut (impl AsyncRead + AsyncWrite + Unpin),
    steps: Vec<Step>,
    inner: &Inner,
) -> Result<bool, HungUp> {
    for step in steps {
        match step {
            Step::Send(bytes) => send(socket, &bytes).await?,
            Step::Gate => {
                let permit = tokio::select! {
                    permit = inner.gate.acquire() => permit.expect("never closed"),
                    () = gone(socket) => return Err(HungUp),
                };
                permit.forget();
            }
            Step::Drip(bytes) => {
                for byte in bytes.iter().cycle() {
                    send(socket, &[*byte]).await?;
                    let pause = tokio::time::sleep(Duration::from_millis(10));
                    tokio::select! {
                        () = pause => {}
                        () = gone(socket) => return Err(HungUp),
                    }
                }
            }
            Step::Flood(bytes) => {
                // Bounded, so that an asker without a bound fails a test instead of the machine.
                let begun = Instant::now();
                while begun.elapsed() < SOON {
                    send(socket, &bytes).await?;
                }
            }
            Step::Hang => {
                gone(socket).await;
                return Err(HungUp);
            }
            Step::Close => {
                let _ = socket.shutdown().await;
                return Ok(false);
            }
        }
    }
    Ok(true)
}

async fn send(socket: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), HungUp> {
    socket.write_all(bytes).await.map_err(|_| HungUp)?;
    socket.flush().await.map_err(|_| HungUp)
}

/// Waits until the other side has gone.
async fn gone(socket: &mut (impl AsyncRead + Unpin)) {
    let mut byte = [0];
    while matches!(socket.read(&mut byte).await, Ok(1)) {}
}

/// Reads a request; none when the connection ends.
async fn read(socket: &mut (impl AsyncRead + Unpin), connection: usize) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head).expect("a head in UTF-8");
    let mut lines = text.split("\r\n");
    let mut words = lines.next().expect("a request line").split(' ').map(str::to_owned);
    let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
    let fields = lines.filter_map(|line| line.split_once(": "));
    let headers = fields.map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).collect();
    let mut asked = Asked { method, target, headers, body: Vec::new(), connection };
    let len = asked.header("content-length").map_or(0, |n| n.parse().expect("a number"));
    asked.body = vec![0; len];
    socket.read_exact(&mut asked.body).await.ok()?;
    Some(asked)
}
