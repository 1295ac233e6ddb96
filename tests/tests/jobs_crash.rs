//! `kill -9` under a load of jobs: none is lost, none ends twice, and each result is told the same
//! to whoever asks, however often.
//!
//! Clients of two tenants hand jobs over, to embedded recipes and through workers, and keep what they
//! were told; the process is killed at random moments. After the last start all of it comes to its
//! end, and a checker compares. `TOLLGATE_LONG=1` kills it 300 times.

#[path = "jobs_crash/check.rs"]
mod check;
#[path = "jobs_crash/load.rs"]
mod load;
#[path = "jobs_crash/works.rs"]
mod works;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::Notify;
use tollgate_client::{Client, ClientCredentials, JobFilter, JobId};
use tollgate_tests::{SOON, process::Served};

/// Clients of each tenant at once.
const CLIENTS: usize = 3;
const TENANTS: [&str; 2] = ["acme", "globex"];
/// Who waits for a broker that is killed again and again.
const PATIENCE: Duration = Duration::from_secs(120);

/// A sequence that its seed decides.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, n: u64) -> u64 {
        // Xorshift: good enough to choose.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A job as the client that handed it over knows it.
#[derive(Debug, Clone)]
struct Taken {
    recipe: &'static str,
    payload: String,
    key: Option<String>,
}

/// What was told to the clients of one tenant.
#[derive(Debug, Default)]
struct History {
    taken: BTreeMap<JobId, Taken>,
    /// Numbered frames, whoever saw them.
    frames: BTreeMap<(u64, u64), String>,
    /// The job of each key.
    keys: BTreeMap<String, JobId>,
    wrong: Vec<String>,
    /// When a client was told of a success.
    successes: Vec<Instant>,
    /// Keyed submissions that were answered with a job that was there.
    resubmitted: u64,
}

impl History {
    /// A numbered frame was seen: it is the only one of its number, and always the same.
    fn frame(&mut self, number: tollgate_client::Number, what: &str) {
        let number = (number.epoch, number.sequence);
        if number == (0, 0) {
            return;
        }
        let known = self.frames.entry(number).or_insert_with(|| what.to_owned());
        if known != what {
            self.wrong.push(format!("number {number:?} was `{known}` and is `{what}`"));
        }
    }

    /// A job was accepted.
    fn take(&mut self, id: JobId, taken: Taken) {
        if let Some(key) = &taken.key {
            let known = *self.keys.entry(key.clone()).or_insert(id);
            if known != id {
                self.wrong.push(format!("the key {key} is {known}, and is {id} now"));
            }
        }
        if let Some(known) = self.taken.get(&id)
            && known.payload != taken.payload
        {
            self.wrong.push(format!("{id} is {known:?} and {taken:?}"));
        }
        self.taken.insert(id, taken);
    }
}

/// What all of them share.
#[derive(Default)]
struct World {
    histories: [Mutex<History>; 2],
    starts: Mutex<BTreeMap<String, Vec<works::Start>>>,
    stop: AtomicBool,
    success: Notify,
}

impl World {
    fn history(&self, tenant: usize) -> MutexGuard<'_, History> {
        self.histories[tenant].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client was told of a success.
    fn succeeded(&self, tenant: usize) {
        self.history(tenant).successes.push(Instant::now());
        self.success.notify_one();
    }

    fn successes_since(&self, since: Instant) -> usize {
        let of = |tenant| self.history(tenant).successes.iter().filter(|at| **at >= since).count();
        of(0) + of(1)
    }

    fn first_success(&self, since: Instant) -> Option<Instant> {
        let of = |tenant| self.history(tenant).successes.iter().find(|at| **at >= since).copied();
        [of(0), of(1)].into_iter().flatten().min()
    }
}

/// A kill: when, and when the next process was ready.
#[derive(Debug, Clone, Copy)]
struct Kill {
    at: Instant,
    wall: SystemTime,
    ready: Instant,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_were_accepted_outlive_every_kill() {
    let (cycles, seed) = match std::env::var_os("TOLLGATE_LONG") {
        Some(_) => (300, 0x9e37_79b9_7f4a_7c15),
        None => (20, 0x2545_f491_4f6c_dd1d),
    };
    let mut random = Seeded(seed);
    let port = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let addr = port.local_addr().expect("bound").to_string();
    drop(port);
    let args = ["--tenant", TENANTS[1]];
    let dir = tempfile::tempdir().expect("a directory");
    let mut served = Served::start_in(dir, &addr, &args);
    let world = Arc::new(World::default());
    let mut workers = Vec::new();
    for n in 0..2 {
        let name = format!("w{n}");
        let certs = served.issue(&["--role", "platform-worker", "--name", &name]);
        workers.push(works::Running::start(&served, &certs, &world));
    }
    let mut clients = Vec::new();
    for (tenant, name) in TENANTS.iter().enumerate() {
        let certs = served.issue(&["--tenant", name]);
        for n in 0..CLIENTS {
            let client = connect(&served, &certs).await;
            let seed = 1 + random.below(u64::MAX - 1);
            let load = load::Load::new(client, tenant, n, seed, world.clone());
            clients.push(tokio::spawn(load.run()));
        }
    }

    let mut kills: Vec<Kill> = Vec::new();
    let mut ready = Instant::now();
    for cycle in 0..cycles {
        let until = random.below(24) as usize;
        while world.successes_since(ready) < until {
            let wait = tokio::time::timeout(SOON, world.success.notified());
            if wait.await.is_err() {
                panic!("cycle {cycle}: nothing succeeds: {}", standing(&served, &world).await);
            }
        }
        // Anywhere between two answers.
        tokio::time::sleep(Duration::from_micros(random.below(120_000))).await;
        let (at, wall) = (Instant::now(), SystemTime::now());
        let dir = served.kill();
        served = Served::start_in(dir, &addr, &args);
        ready = Instant::now();
        kills.push(Kill { at, wall, ready });
    }
    while world.successes_since(ready) == 0 {
        let wait = tokio::time::timeout(SOON, world.success.notified());
        if wait.await.is_err() {
            panic!("nothing succeeds in the end: {}", standing(&served, &world).await);
        }
    }
    world.stop.store(true, Relaxed);
    for client in clients {
        let ended = tokio::time::timeout(SOON * 3, client).await;
        ended.expect("what is under way comes to its end").expect("no client panics");
    }

    let mut figures = check::Figures::default();
    for (tenant, name) in TENANTS.iter().enumerate() {
        let certs = served.issue(&["--tenant", name, "--name", "checker"]);
        let client = connect(&served, &certs).await;
        check::tenant(&world, tenant, &client, &kills, &mut figures).await;
    }
    for worker in workers {
        worker.stop().await;
    }
    let mut recoveries: Vec<_> = kills
        .iter()
        .filter_map(|kill| Some(world.first_success(kill.ready)?.duration_since(kill.at)))
        .collect();
    recoveries.sort_unstable();
    let quantile = |q: f64| recoveries[((recoveries.len() - 1) as f64 * q) as usize];
    println!("{cycles} kills: {figures}");
    println!(
        "from a kill to the first success: median {:?}, p99 {:?}, longest {:?}",
        quantile(0.5),
        quantile(0.99),
        quantile(1.0)
    );
    let wrong = wrong(&world);
    assert!(
        wrong.is_empty(),
        "{} things are wrong, {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(20)]
    );
    figures.all_was_tried();
}

/// What there is when nothing goes on: the workers, and the jobs that are open.
async fn standing(served: &Served, world: &World) -> String {
    let mut said = format!("{:?}\n", wrong(world));
    said += &served.operate(&["worker", "list"]).stdout;
    for name in TENANTS {
        let certs = served.issue(&["--tenant", name, "--name", "looker"]);
        let client = connect(served, &certs).await;
        let jobs = client.jobs().list(&JobFilter::new()).await.expect("a list");
        for job in jobs.iter().filter(|job| !job.is_over()) {
            said += &format!("{job:?}\n");
        }
    }
    said
}

fn wrong(world: &World) -> Vec<String> {
    [0, 1].into_iter().flat_map(|tenant| world.history(tenant).wrong.clone()).collect()
}

async fn connect(served: &Served, certs: &str) -> Client {
    let builder = Client::builder(served.addr).server_name("localhost");
    let builder = builder.credentials(credentials(served, certs)).patience(PATIENCE);
    builder.connect().await.expect("a connection")
}

fn credentials(served: &Served, certs: &str) -> ClientCredentials {
    ClientCredentials::load_dir(&Path::new(served.dir.path()).join(certs)).expect("readable")
}
