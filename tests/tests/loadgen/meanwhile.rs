//! A run during which something happens.

use std::{
    io::{BufRead, BufReader, Lines, Read},
    process::{Child, ChildStderr, Stdio},
};

use super::*;

/// A run as `acme` that makes load.
pub struct Meanwhile {
    child: Child,
    seen: Lines<BufReader<ChildStderr>>,
    told: Vec<String>,
}

/// What a run came to, what was told meanwhile, and whether it passed.
pub struct Came {
    pub report: Value,
    pub told: Vec<String>,
    pub passed: bool,
}

impl Meanwhile {
    /// Starts it, and waits until it measures.
    pub fn start(served: &Served, flags: &str) -> Meanwhile {
        let acme = served.issue(&["--tenant", "acme"]);
        let mut c = loadgen(served.dir.path());
        c.env("TOLLGATE_ADDR", served.addr.to_string()).args(["run", "--certs", &acme]);
        c.args("--warm-up 0s --progress plain --output json".split(' '));
        c.args(flags.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = c.spawn().expect("it runs");
        let seen = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut running = Meanwhile { child, seen, told: Vec::new() };
        running.tells(|line| line.contains("measuring"));
        running
    }

    /// Waits until it tells this.
    pub fn tells(&mut self, what: impl Fn(&str) -> bool) {
        loop {
            match self.seen.next() {
                Some(Ok(line)) if what(&line) => return,
                Some(Ok(line)) => self.told.push(line),
                other => panic!("it ends before ({other:?}): {:?}", self.told),
            }
        }
    }

    /// Ends it early.
    pub fn interrupt(self) -> Came {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill runs").success());
        self.end()
    }

    /// Waits for its end.
    pub fn end(mut self) -> Came {
        let rest = std::thread::spawn(move || self.seen.map_while(Result::ok).collect::<Vec<_>>());
        let mut stdout = String::new();
        self.child.stdout.take().expect("piped").read_to_string(&mut stdout).expect("text");
        let passed = self.child.wait().expect("it ends").success();
        self.told.extend(rest.join().expect("read"));
        let told = self.told;
        let report = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {told:?}"));
        Came { report, told, passed }
    }
}

impl Came {
    /// Wrong answers of a kind.
    pub fn wrong(&self, kind: &str) -> u64 {
        number(&self.report["total"]["wrong"][kind])
    }

    /// Shows that nothing was wrong.
    #[track_caller]
    pub fn is_good(&self) {
        let wrong = &self.report["total"]["wrong"];
        let sum: u64 = wrong.as_object().expect("counts").values().map(number).sum();
        assert_eq!(sum, 0, "{wrong}: {:?}", self.told);
        assert!(self.passed, "{:?}", self.told);
    }

    /// Shows that it failed, and said this.
    #[track_caller]
    pub fn failed(&self, part: &str) {
        let said = self.told.iter().any(|line| line.contains(part));
        assert!(!self.passed && said, "{part:?} is not said: {:?}", self.told);
    }
}

/// Kills the broker while a run makes load, does something to its data, and starts it again.
pub fn killed(flags: &str, between: impl Fn(&Path)) -> Came {
    let served = Served::start(&[]);
    let running = Meanwhile::start(&served, flags);
    let listen = served.addr.to_string();
    let dir = served.kill();
    between(&dir.path().join("data"));
    let served = Served::start_in(dir, &listen, &[]);
    let came = running.end();
    drop(served);
    came
}
