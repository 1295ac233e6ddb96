//! Child processes that die with us, and what the kernel says about them.
use anyhow::{bail, Context, Result};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub struct Server {
    pub name: String,
    child: Child,
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts a program that is killed when this process ends, however it ends.
    pub fn spawn(name: &str, mut cmd: Command) -> Result<Self> {
        unsafe {
            cmd.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = cmd.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Server { name: name.into(), child })
    }

    /// Starts `peers serve ...` and waits for its `ready ADDR` line.
    pub fn spawn_self(name: &str, args: &[String]) -> Result<(Self, SocketAddr)> {
        let mut cmd = Command::new(std::env::current_exe()?);
        cmd.args(args).stdout(Stdio::piped()).stdin(Stdio::null());
        let mut s = Self::spawn(name, cmd)?;
        let mut out = BufReader::new(s.child.stdout.take().context("no stdout")?);
        let mut line = String::new();
        out.read_line(&mut line)?;
        let Some(addr) = line.trim().strip_prefix("ready ") else {
            bail!("{name} did not start: {line:?}")
        };
        Ok((s, addr.parse()?))
    }

    pub fn wait_tcp(&self, addr: SocketAddr) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if TcpStream::connect(addr).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("{} does not listen on {addr}", self.name)
    }

    pub fn cpu(&self) -> f64 {
        cpu_of(self.pid())
    }

    pub fn rss_kib(&self) -> u64 {
        fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .ok()
            .and_then(|s| {
                let l = s.lines().find(|l| l.starts_with("VmRSS:"))?;
                l.split_whitespace().nth(1)?.parse().ok()
            })
            .unwrap_or(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hz() -> f64 {
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}

/// CPU seconds of a process, to the nanosecond: short cells use few of the ticks of `/proc`.
pub fn cpu_of(pid: u32) -> f64 {
    unsafe {
        let mut clock = 0;
        let mut t: libc::timespec = std::mem::zeroed();
        if libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) != 0
            || libc::clock_gettime(clock, &mut t) != 0
        {
            return 0.0;
        }
        t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
    }
}

pub fn cpu_self() -> f64 {
    cpu_of(std::process::id())
}

/// (busy, stolen) CPU seconds of the whole machine since boot.
pub fn host_cpu() -> (f64, f64) {
    let s = fs::read_to_string("/proc/stat").unwrap_or_default();
    let v: Vec<f64> = s
        .lines()
        .next()
        .unwrap_or("")
        .split_whitespace()
        .skip(1)
        .filter_map(|x| x.parse().ok())
        .collect();
    let g = |i: usize| v.get(i).copied().unwrap_or(0.0) / hz();
    // user nice system (idle iowait) irq softirq steal
    (g(0) + g(1) + g(2) + g(5) + g(6), g(7))
}

pub fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Binds this process to one core when asked for (`pin=0`, `pin=1`).
pub fn pin(core: Option<usize>) {
    if let Some(core) = core {
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(core, &mut set);
            libc::sched_setaffinity(0, std::mem::size_of_val(&set), &set);
        }
    }
}

/// A scratch directory, removed at the end.
pub struct TempDir(pub PathBuf);

impl TempDir {
    pub fn new() -> Result<Self> {
        let p = std::env::temp_dir().join(format!("peers-{}", std::process::id()));
        fs::create_dir_all(&p)?;
        Ok(TempDir(p))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
