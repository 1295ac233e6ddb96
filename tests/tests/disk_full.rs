//! A disk that fills up under the real binary: new jobs are refused, those that were accepted come to
//! their ends, and what is purged makes room, all without a restart.
//!
//! The disk is a file system in memory of a bounded size; where none may be mounted, nothing is tried
//! and that is said.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tollgate_client::{
    Client, ClientCredentials, Code, Job, JobError, JobFilter, JobState, Worker, worker::Spec,
};
use tollgate_tests::{SOON, process::Served};

/// What the disk has: room for what the store never uses, for its journal, and for some segments.
const DISK: &str = "320m";
/// A job's payload: close to what a frame takes.
const PAYLOAD_BYTES: usize = 1_000_000;
/// More jobs than the disk has room for.
const JOBS_MAX: usize = 600;

/// A small disk. Unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Option<Disk> {
        let size = format!("size={DISK}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tollgate-test"]).arg(at);
        let ran = mount.output();
        if ran.as_ref().is_ok_and(|ran| ran.status.success()) {
            return Some(Disk(at.to_owned()));
        }
        println!("not tried: no file system may be mounted here: {ran:?}");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the last of the processes may not be gone yet.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

async fn submit(client: &Client, recipe: &str, payload: Vec<u8>) -> Result<Job, JobError> {
    let sent = tokio::time::timeout(SOON, client.submit_bytes(recipe, payload)).await;
    sent.expect("an answer comes, whatever it is")
}

/// Submits until the disk is full; the jobs that were accepted.
async fn fill(client: &Client) -> Vec<Job> {
    let mut jobs = Vec::new();
    while jobs.len() < JOBS_MAX {
        match submit(client, "sha256", vec![b'x'; PAYLOAD_BYTES]).await {
            Ok(job) => jobs.push(job),
            Err(error) => {
                assert_eq!(error.code(), Some(Code::StorageFull), "{error}");
                return jobs;
            }
        }
    }
    panic!("the disk has room for {} jobs", jobs.len());
}

fn worker(served: &Served, certs: &str) -> Worker {
    let credentials = credentials(served, certs);
    let builder = Worker::builder(served.addr).server_name("localhost").credentials(credentials);
    let upper = |_, payload: bytes::Bytes| async move { Ok(payload.to_ascii_uppercase()) };
    builder.recipe("upper", Spec::new(), upper).build().expect("a worker")
}

fn credentials(served: &Served, certs: &str) -> ClientCredentials {
    ClientCredentials::load_dir(&served.dir.path().join(certs)).expect("readable")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_jobs_ends_those_it_has_and_recovers_without_a_restart() {
    let mounted = tempfile::tempdir().expect("a directory");
    let Some(_disk) = Disk::mount(mounted.path()) else { return };
    let dir = tempfile::tempdir_in(mounted.path()).expect("a directory");
    let served = Served::start_in(dir, "127.0.0.1:0", &[]);
    let certs = served.issue(&["--tenant", "acme"]);
    let works = served.issue(&["--role", "platform-worker", "--name", "w"]);
    let builder = Client::builder(served.addr).server_name("localhost");
    let client =
        builder.credentials(credentials(&served, &certs)).connect().await.expect("connects");

    // The recipe is known, and then nobody serves it: its jobs are open while the disk fills up.
    let known = worker(&served, &works);
    let first = known.run_until(async {
        let job = loop {
            // Nothing tells a client that a recipe has become known.
            match submit(&client, "upper", b"known".to_vec()).await {
                Err(error) => assert_eq!(error.code(), Some(Code::RecipeNotFound), "{error}"),
                job => break job.expect("accepted"),
            }
        };
        assert!(job.result_within(SOON).await.expect("over").is_success());
    });
    first.await.expect("it served");
    let mut open = Vec::new();
    for n in 0..8 {
        open.push(submit(&client, "upper", format!("open {n}").into_bytes()).await.expect("room"));
    }

    let filled = fill(&client).await;
    println!("the disk is full with {} jobs of 1 MB", filled.len());
    assert!(filled.len() > 50, "{}", filled.len());
    for job in &filled {
        let result = job.result_within(SOON).await.expect("what was accepted ends");
        assert!(result.is_success(), "{result:?}");
    }
    let again = worker(&served, &works);
    let ends = again.run_until(async {
        for (n, job) in open.iter().enumerate() {
            let result = job.result_within(SOON).await.expect("what was accepted ends");
            let payload = result.payload().map(|p| String::from_utf8_lossy(p).into_owned());
            assert_eq!(payload, Some(format!("OPEN {n}")));
        }
    });
    ends.await.expect("it served");
    // On a full disk it can be looked at, and a batch of items that are no jobs runs.
    let all = client.jobs().list(&JobFilter::new().state(JobState::Succeeded)).await;
    assert_eq!(all.expect("a list").len(), filled.len() + open.len() + 1);
    let plain = client.execute([tollgate_client::Request::new("echo", "x")]).await;
    assert_eq!(plain.expect("a batch").successes().count(), 1);

    // All but the oldest: those stay where they are.
    let kept = open.len() + 1;
    for job in &filled {
        assert_eq!(client.jobs().purge(job.id()).await.expect("purged"), 1);
    }
    let room = async {
        loop {
            match submit(&client, "sha256", vec![b'x'; PAYLOAD_BYTES]).await {
                Ok(job) => return job,
                Err(error) => assert_eq!(error.code(), Some(Code::StorageFull), "{error}"),
            }
            // The broker looks at its disk again by itself, and says nothing when it does.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let job = tokio::time::timeout(SOON, room).await.expect("what was purged makes room");
    assert!(job.result_within(SOON).await.expect("over").is_success());
    let more = fill(&client).await;
    println!("and again with {} more", more.len());
    assert!(more.len() > filled.len() / 2, "{} after {}", more.len(), filled.len());
    let left = client.jobs().list(&JobFilter::new().recipe("upper")).await.expect("a list");
    assert_eq!(left.len(), kept, "what was not purged is there");
    let result = open[0].result_within(SOON).await.expect("kept");
    assert_eq!(result.payload().map(|p| &p[..]), Some(&b"OPEN 0"[..]));
}
