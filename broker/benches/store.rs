//! Durable commits a second, beside what the disk itself does at the same group size.
//!
//! Not a test and not criterion: a plain program that prints a table. Each row measures the store and
//! right after it the disk (write and fdatasync of as many bytes as all writers have under way), so
//! that both see about the same weather. The disk's file grows as it is written; the store's journal
//! was filled before, so the store can be the quicker one.
//!
//!     cargo bench -p tollgate-broker --bench store [-- --seconds 3 --dir DIR]

use std::{
    error::Error,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tollgate_broker::{
    config,
    store::{Kind, Record, ScopeId, Store, Stream},
};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A row of the table.
struct Case {
    writers: usize,
    /// Commits that each has under way.
    outstanding: usize,
    /// Records of a commit, of 1 KiB each.
    records: usize,
}

const BODY: usize = 1_024;

const CASES: &[Case] = &[
    Case { writers: 1, outstanding: 1, records: 1 },
    Case { writers: 16, outstanding: 1, records: 1 },
    Case { writers: 256, outstanding: 1, records: 1 },
    Case { writers: 16, outstanding: 64, records: 1 },
    Case { writers: 16, outstanding: 2, records: 64 },
    Case { writers: 32, outstanding: 64, records: 1 },
    Case { writers: 32, outstanding: 2, records: 64 },
];

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().collect();
    let value = |key: &str| args.iter().position(|arg| arg == key).and_then(|at| args.get(at + 1));
    let seconds = value("--seconds").map_or(Ok(3), |text| text.parse())?;
    let root = value("--dir").map_or_else(|| PathBuf::from("target/bench-store"), PathBuf::from);
    let time = Duration::from_secs(seconds);
    println!(
        "writers  each  records   commits/s  records/s    MB/s   p50 ms  p99 ms  disk MB/s  ratio"
    );
    for case in CASES {
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root)?;
        let run = store(&root.join("store"), case, time)?;
        let bytes = case.records * BODY;
        let rate = run.commits as f64 / run.elapsed.as_secs_f64();
        let mb = rate * bytes as f64 / 1e6;
        // What a group has at most: everything that is under way.
        let group = (case.writers * case.outstanding * bytes).min(4 << 20);
        let disk = disk(&root.join("raw"), group, time.min(Duration::from_secs(2)))? / 1e6;
        println!(
            "{:7} {:5} {:8} {:11.0} {:10.0} {:7.1} {:8.2} {:7.2} {:10.1} {:6.2}",
            case.writers,
            case.outstanding,
            case.records,
            rate,
            rate * case.records as f64,
            mb,
            run.quantile(0.5),
            run.quantile(0.99),
            disk,
            mb / disk,
        );
    }
    fs::remove_dir_all(&root)?;
    Ok(())
}

/// The disk's own rate: bytes a second of `write` and `fdatasync`, `group` bytes at a time.
fn disk(path: &Path, group: usize, time: Duration) -> Outcome<f64> {
    let mut file = fs::File::create(path)?;
    let bytes = vec![0x5a; group];
    let begin = Instant::now();
    let mut written = 0;
    while begin.elapsed() < time {
        file.write_all(&bytes)?;
        file.sync_data()?;
        written += group;
    }
    Ok(written as f64 / begin.elapsed().as_secs_f64())
}

struct Run {
    commits: u64,
    elapsed: Duration,
    /// Milliseconds, sorted.
    latencies: Vec<f64>,
}

impl Run {
    fn quantile(&self, q: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * q) as usize).copied().unwrap_or(0.0)
    }
}

fn store(dir: &Path, case: &Case, time: Duration) -> Outcome<Run> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let store = Store::open(Some(dir), &config::Store::default())?;
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let (elapsed, latencies) = runtime.block_on(async {
        let mut tasks = Vec::new();
        let begin = Instant::now();
        for writer in 0..case.writers {
            let scope = store.scope(ScopeId(1 + writer as u64));
            let fence = scope.claim().await?;
            for _ in 0..case.outstanding {
                let (scope, fence) = (scope.clone(), fence.clone());
                let (stop, count, records) = (stop.clone(), count.clone(), case.records);
                tasks.push(tokio::spawn(async move {
                    let body = bytes::Bytes::from(vec![0x5a; BODY]);
                    let mut latencies = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let record = |_| Record::new(Stream(1), Kind::Tenant, body.clone());
                        let begin = Instant::now();
                        scope.commit(&fence, (0..records).map(record).collect()).await?;
                        latencies.push(begin.elapsed().as_secs_f64() * 1e3);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok::<_, tollgate_broker::store::CommitError>(latencies)
                }));
            }
        }
        tokio::time::sleep(time).await;
        stop.store(true, Ordering::Relaxed);
        let elapsed = begin.elapsed();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await??);
        }
        Ok::<_, Box<dyn Error>>((elapsed, latencies))
    })?;
    let mut latencies = latencies;
    latencies.sort_by(f64::total_cmp);
    Ok(Run { commits: count.load(Ordering::Relaxed), elapsed, latencies })
}
