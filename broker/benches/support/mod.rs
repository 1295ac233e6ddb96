//! A broker in a process of its own for the benchmarks that measure one from outside: started,
//! administered by its command line, and read from `/proc`.

#![allow(dead_code, reason = "each benchmark that has this module uses a part of it")]

pub mod nats;

use std::{
    error::Error,
    ffi::{OsStr, OsString},
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tollgate_certs::{Authority, ClientCredentials, Identity, IssueOptions};
use tollgate_client::Client;

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// A running broker; killed when dropped.
pub struct Server {
    binary: OsString,
    child: Child,
    addr: SocketAddr,
    api: String,
    dir: TempDir,
}

impl Server {
    /// Starts one of this build, or another binary. It is configured as it comes, but for the bound
    /// on streams without a completed operation: a connection whose batches are all refused meets it
    /// within seconds, and is closed as abuse; and but for what `set` says, as `--set` does.
    pub fn start(binary: Option<OsString>, set: &[String]) -> Outcome<Server> {
        let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_tollgate").into());
        Server::start_in(tempfile::tempdir()?, binary, set)
    }

    /// Kills it, and starts another on what it kept, configured as it comes.
    pub fn restart(mut self) -> Outcome<Server> {
        self.child.kill()?;
        self.child.wait()?;
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir()?);
        Server::start_in(dir, self.binary.clone(), &[])
    }

    fn start_in(dir: TempDir, binary: OsString, set: &[String]) -> Outcome<Server> {
        let mut child = tollgate(&binary, dir.path())
            .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .args(["--data-dir", "data", "--log-level", "error", "--output", "json"])
            .args(["--set", "limits.unfinished_per_second=1000000"])
            .args(["--set", "limits.unfinished_burst=1000000"])
            .args(set.iter().flat_map(|set| ["--set", set]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let ready: serde_json::Value = serde_json::from_str(&line)?;
        let text = |key: &str| ready[key].as_str().ok_or("it does not say where it listens");
        let (addr, api) = (text("listen")?.parse()?, format!("http://{}", text("http")?));
        Ok(Server { binary, child, addr, api, dir })
    }

    /// Runs a command of its operator, such as `tenant create acme`.
    pub fn operate(&self, args: &str) -> Outcome<()> {
        let mut command = tollgate(&self.binary, self.dir.path());
        command.env("TOLLGATE_API", &self.api).args(args.split(' '));
        let ran = command.stdin(Stdio::null()).output()?;
        match ran.status.success() {
            true => Ok(()),
            false => Err(format!("{args}: {}", String::from_utf8_lossy(&ran.stderr)).into()),
        }
    }

    /// A connection with a certificate of this identity.
    pub async fn connect(&self, identity: &Identity) -> Outcome<Client> {
        let authority = Authority::load(&self.dir.path().join("data/dev-ca"))?;
        let certs = self.dir.path().join("certs");
        authority.issue(identity, &IssueOptions::default())?.write(&certs)?;
        let credentials = ClientCredentials::load_dir(&certs)?;
        let builder = Client::builder(self.addr).server_name("localhost").credentials(credentials);
        Ok(builder.connect().await?)
    }

    /// The time that its threads have had on a core, to the nanosecond.
    pub fn cpu(&self) -> Outcome<Duration> {
        let mut ns = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            ns += text.split(' ').next().ok_or("no time")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(ns))
    }

    /// Memory of it that is in use now, in KiB.
    pub fn resident_kib(&self) -> Outcome<u64> {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.child.id()))?;
        let pages: u64 = text.split(' ').nth(1).ok_or("no pages")?.parse()?;
        Ok(pages * 4)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tollgate(binary: &OsStr, dir: &Path) -> Command {
    let mut command = Command::new(binary);
    command.current_dir(dir).env("NO_COLOR", "1");
    command
}

/// The value of `--key value` on the command line, or what is meant without it.
pub fn arg(key: &str, default: u64) -> Outcome<u64> {
    Ok(text(key).map_or(Ok(default), |text| text.parse())?)
}

/// The same, as text.
pub fn text(key: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != key).nth(1)
}

/// The middle of some figures, with the least and the most of them.
pub fn spread(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    let n = figures.len();
    let middle = (figures[n / 2] + figures[(n - 1) / 2]) / 2.0;
    (middle, figures[0], figures[n - 1])
}

/// How many writes of so many bytes, each synced, the disk does a second.
pub fn syncs(time: Duration, bytes: usize) -> Outcome<f64> {
    use std::io::Write;
    let block = vec![0x5a; bytes];
    let dir = tempfile::tempdir()?;
    let mut file = fs::File::create(dir.path().join("raw"))?;
    let (begin, mut syncs) = (std::time::Instant::now(), 0);
    while begin.elapsed() < time {
        file.write_all(&block)?;
        file.sync_data()?;
        syncs += 1;
    }
    Ok(f64::from(syncs) / begin.elapsed().as_secs_f64())
}
