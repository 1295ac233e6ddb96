//! The real binary `tollgate`, as people and service managers run it.
//!
//! It is not built here: `./test` builds it first, and it must lie where cargo puts it, beside the
//! folder of the test's own executable.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::SOON;

/// The binary.
///
/// # Panics
/// When it was not built.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let profile = test.parent().and_then(Path::parent).expect("target/<profile>/deps");
    let binary = profile.join("tollgate");
    let build = "cargo build -p tollgate-broker, with the profile of the tests";
    assert!(binary.exists(), "{} is missing: build it first ({build})", binary.display());
    binary
}

/// The binary, to be run in a directory, and with nothing of this process's own settings.
pub fn tollgate(dir: &Path) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(dir).env("NO_COLOR", "1");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("TOLLGATE_")) {
            command.env_remove(name);
        }
    }
    command
}

/// What a command that has ended leaves.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Its data.
    pub stdout: String,
    /// Its words to people.
    pub stderr: String,
}

/// Runs a command to its end, with text on its standard input.
///
/// # Panics
/// When it cannot be run, dies of a signal, or does not end.
pub fn run_with(command: &mut Command, stdin: &str) -> Ran {
    let pipe = Stdio::piped;
    command.stdin(pipe()).stdout(pipe()).stderr(pipe());
    let mut child = command.spawn().expect("the binary runs");
    let mut input = child.stdin.take().expect("piped");
    let text = stdin.to_owned();
    // Apart, because both sides may be waiting for each other's pipe. A reader that has gone is
    // its own business.
    std::thread::spawn(move || drop(input.write_all(text.as_bytes())));
    let stdout = collect(child.stdout.take().expect("piped"));
    let stderr = collect(child.stderr.take().expect("piped"));
    let status = ends(&mut child, SOON * 6);
    let text = |thread: std::thread::JoinHandle<String>| thread.join().expect("read");
    Ran { code: code(status), stdout: text(stdout), stderr: text(stderr) }
}

/// Runs `tollgate` with these arguments.
///
/// # Panics
/// As [`run_with`].
pub fn run(dir: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
    run_with(tollgate(dir).args(args), "")
}

impl Ran {
    /// Shows that it ended with a code, or what it said instead.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Its standard output as one JSON document.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }

    /// Its standard output as one JSON document a line.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let line = |l: &str| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"));
        self.stdout.lines().map(line).collect()
    }
}

fn collect(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("readable");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn ends(child: &mut Child, within: Duration) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        if begun.elapsed() > within {
            let _ = child.kill();
            panic!("the process did not end");
        }
        // Looking again: std has no wait with a bound.
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| panic!("ended by a signal: {status}"))
}

/// `tollgate serve` with the tenant `acme`, running. Killed when dropped.
pub struct Served {
    child: Child,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Where it runs; its data is in `data` there.
    pub dir: TempDir,
    /// What it told on standard output when it was ready.
    pub ready: serde_json::Value,
    log: mpsc::Receiver<String>,
}

impl Served {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(args: &[&str]) -> Served {
        let dir = tempfile::tempdir().expect("a directory");
        Served::start_in(dir, "127.0.0.1:0", args)
    }

    /// Starts one in a directory, on an address.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_in(dir: TempDir, listen: &str, args: &[&str]) -> Served {
        Served::start_with(dir, listen, args, &[])
    }

    /// Starts one in a directory, on an address, with variables.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_with(
        dir: TempDir,
        listen: &str,
        args: &[&str],
        variables: &[(&str, &str)],
    ) -> Served {
        let common = ["serve", "--listen", listen, "--data-dir", "data", "--output", "json"];
        let acme = ["--tenant", "acme"];
        let mut child = tollgate(dir.path())
            .args(common)
            .args(["--http", "127.0.0.1:0", "--log-format", "json"])
            .args(acme)
            .args(args)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let (tell, log) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
        });
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut line).expect("readable");
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| {
            panic!("not ready: {e}: {line:?}: {:?}", log.iter().collect::<Vec<_>>())
        });
        let addr = ready["listen"].as_str().and_then(|a| a.parse().ok()).expect("an address");
        Served { child, addr, dir, ready, log }
    }

    /// Issues a certificate by the broker's own authority; the directory it is in.
    ///
    /// # Panics
    /// When it is not issued.
    pub fn issue(&self, args: &[&str]) -> String {
        let out = format!("certs/{}", args.join("-").replace("--", ""));
        let common = ["cert", "issue", "--ca", "data/dev-ca", "--out", &out];
        run(self.dir.path(), common.iter().chain(args)).ends_with(0);
        out
    }

    /// Runs `tollgate` beside it: with its address, and a client's certificate.
    pub fn run(&self, certs: &str, args: &[&str]) -> Ran {
        run_with(self.command(certs).args(args), "")
    }

    /// Where its HTTP API listens.
    ///
    /// # Panics
    /// When it has none.
    pub fn http(&self) -> SocketAddr {
        self.ready["http"].as_str().and_then(|a| a.parse().ok()).expect("it has an API")
    }

    /// Runs `tollgate` beside it, with the address of its API and no certificate.
    pub fn operate(&self, args: &[&str]) -> Ran {
        run_with(self.operator().args(args), "")
    }

    /// As [`operate`](Self::operate), to be changed before it is run.
    pub fn operator(&self) -> Command {
        let mut command = tollgate(self.dir.path());
        command.env("TOLLGATE_API", format!("http://{}", self.http()));
        command
    }

    /// As [`run`](Self::run), to be changed before it is run.
    pub fn command(&self, certs: &str) -> Command {
        let mut command = tollgate(self.dir.path());
        command.env("TOLLGATE_ADDR", self.addr.to_string()).env("TOLLGATE_CERTS", certs);
        if let Some(http) = self.ready["http"].as_str() {
            command.env("TOLLGATE_API", format!("http://{http}"));
        }
        command
    }

    /// Memory of it that is in use now, in bytes.
    ///
    /// # Panics
    /// Where there is no `/proc`, and when it has ended.
    pub fn resident_bytes(&self) -> usize {
        crate::resident_bytes_of(&self.child.id().to_string())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a process id");
        #[expect(unsafe_code, reason = "std sends no signals but SIGKILL")]
        // SAFETY: no memory is touched, and the child has not been waited for, so the id is its.
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0, "the broker is there");
    }

    /// Waits for a line of its log that has this in it.
    ///
    /// # Panics
    /// When none comes.
    pub fn logs(&self, part: &str) -> String {
        loop {
            match self.log.recv_timeout(SOON) {
                Ok(line) if line.contains(part) => return line,
                Ok(_) => {}
                Err(e) => panic!("no line of the log has {part:?}: {e}"),
            }
        }
    }

    /// Waits for its end: its exit code, and its directory.
    pub fn ended(mut self) -> (i32, TempDir) {
        let status = ends(&mut self.child, SOON);
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a directory"));
        (code(status), dir)
    }

    /// Kills it as the system would; its directory stays.
    pub fn kill(mut self) -> TempDir {
        self.child.kill().expect("killed");
        self.child.wait().expect("it is gone");
        std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a directory"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
