//! JetStream beside a benchmark: a `nats-server` of its own with a stream in files, and just enough
//! of its protocol. With its defaults it acknowledges before it syncs.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::Outcome;

pub type Sent<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What is published: from so many connections, each with so many messages of so many bytes
/// unacknowledged, for so long.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub clients: u64,
    pub outstanding: u64,
    pub payload: usize,
    pub time: Duration,
}

/// A `nats-server` with a stream in files.
pub struct Nats {
    child: Child,
    addr: std::net::SocketAddr,
    _dir: tempfile::TempDir,
}

impl Nats {
    /// Starts one.
    pub fn start() -> Outcome<Nats> {
        let dir = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let conf = dir.path().join("nats.conf");
        let store = dir.path().join("js");
        fs::write(&conf, nats_conf(port, &store))?;
        let child = Command::new("nats-server")
            .arg("-c")
            .arg(&conf)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Nats { child, addr: port, _dir: dir })
    }

    async fn connect(&self) -> Sent<Wire> {
        let begin = Instant::now();
        let stream = loop {
            match TcpStream::connect(self.addr).await {
                Ok(stream) => break stream,
                Err(e) if begin.elapsed() > Duration::from_secs(10) => return Err(e.into()),
                // It is starting.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        stream.set_nodelay(true)?;
        let mut wire = Wire { stream: BufReader::new(stream), line: String::new() };
        wire.say("CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB inbox 1\r\n").await?;
        Ok(wire)
    }

    /// Publishes a second, each acknowledged.
    pub async fn publishes(&self, load: Load) -> Outcome<f64> {
        let Load { clients, outstanding: most, payload, time } = load;
        let mut admin = self.connect().await.map_err(|e| e.to_string())?;
        let config = "{\"name\":\"jobs\",\"subjects\":[\"jobs\"],\"storage\":\"file\"}";
        let len = config.len();
        let create = format!("PUB $JS.API.STREAM.CREATE.jobs inbox {len}\r\n{config}\r\n");
        admin.say(&create).await.map_err(|e| e.to_string())?;
        let answer = admin.message().await.map_err(|e| e.to_string())?;
        if answer.contains("\"error\"") {
            return Err(format!("no stream: {answer}").into());
        }
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut wires = Vec::new();
        for n in 0..clients {
            let mut wire = self.connect().await.map_err(|e| e.to_string())?;
            // Acknowledgements go to whoever listens: each has a subject of its own.
            let own = format!("UNSUB 1\r\nSUB acks.{n} 2\r\n");
            wire.say(&own).await.map_err(|e| e.to_string())?;
            wires.push(wire);
        }
        let begin = Instant::now();
        let mut tasks = Vec::new();
        for (n, mut wire) in wires.into_iter().enumerate() {
            let (stop, count) = (stop.clone(), count.clone());
            tasks.push(tokio::spawn(async move {
                let text = "z".repeat(payload);
                let publish = format!("PUB jobs acks.{n} {payload}\r\n{text}\r\n");
                let mut outstanding = 0;
                while !stop.load(Relaxed) || outstanding > 0 {
                    if !stop.load(Relaxed) && outstanding < most {
                        let more = (most - outstanding) as usize;
                        wire.say(&publish.repeat(more)).await?;
                        outstanding = most;
                    }
                    loop {
                        let ack = wire.message().await?;
                        if ack.contains("\"error\"") {
                            return Err(format!("refused: {ack}").into());
                        }
                        outstanding -= 1;
                        count.fetch_add(1, Relaxed);
                        if wire.stream.buffer().is_empty() || outstanding == 0 {
                            break;
                        }
                    }
                }
                Sent::Ok(())
            }));
        }
        tokio::time::sleep(time).await;
        let (count, elapsed) = (count.load(Relaxed), begin.elapsed());
        stop.store(true, Relaxed);
        for task in tasks {
            task.await?.map_err(|e| e.to_string())?;
        }
        Ok(count as f64 / elapsed.as_secs_f64())
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nats_conf(addr: std::net::SocketAddr, store: &Path) -> String {
    let store = store.display();
    format!("listen: \"{addr}\"\njetstream {{ store_dir: \"{store}\", max_file: 20GB }}\n")
}

/// A connection that speaks just enough of the protocol of NATS.
struct Wire {
    stream: BufReader<TcpStream>,
    line: String,
}

impl Wire {
    async fn say(&mut self, text: &str) -> Sent<()> {
        Ok(self.stream.get_mut().write_all(text.as_bytes()).await?)
    }

    /// The payload of the next message.
    async fn message(&mut self) -> Sent<String> {
        loop {
            self.line.clear();
            if self.stream.read_line(&mut self.line).await? == 0 {
                return Err("nats-server is gone".into());
            }
            if self.line.starts_with("PING") {
                self.say("PONG\r\n").await?;
            } else if self.line.starts_with("-ERR") {
                return Err(self.line.clone().into());
            } else if self.line.starts_with("MSG") {
                self.line.clear();
                self.stream.read_line(&mut self.line).await?;
                return Ok(self.line.clone());
            }
        }
    }
}
