//! Workers that are processes, one of them killed (-9) with a thousand calls in its hands.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Stdio},
};

use tollgate_certs::Identity;
use tollgate_client::{
    ClientCredentials, Event, Request, RetryPolicy, Worker,
    worker::{Call, Spec, WorkError},
};
use tollgate_protocol::Code;
use tollgate_tests::{Rig, SOON, eventually};

const ITEMS: usize = 1_000;

/// A process that works. Killed (-9) when dropped.
struct Process(Child);

impl Process {
    /// This program again, as nothing but [`a_worker`].
    fn start(rig: &Rig, certs: &Path, holds: bool) -> Process {
        let program = std::env::current_exe().expect("the test's own path");
        let mut command = Command::new(program);
        command
            .args(["--exact", "killed::a_worker", "--ignored"])
            .env(ADDR, rig.addr().to_string())
            .env(CERTS, certs)
            .env(HOLDS, holds.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Process(command.spawn().expect("it starts"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What waits for a process to be missed must not end before.
fn spec() -> Spec {
    Spec::new().timeout(SOON * 3)
}

/// No test: what a process of [`Process`] does. It does nothing when it is asked for by others.
#[tokio::test]
#[ignore = "the worker of the test below, in a process of its own"]
async fn a_worker() {
    let Ok(addr) = std::env::var(ADDR) else { return };
    let [certs, holds] = [CERTS, HOLDS].map(|name| std::env::var(name).expect("set with it"));
    let credentials = ClientCredentials::load_dir(Path::new(&certs)).expect("credentials");
    let answers = move |_: Call, payload| {
        let holds = holds == "true";
        async move {
            if holds {
                std::future::pending::<()>().await;
            }
            Ok::<_, WorkError>(payload)
        }
    };
    let worker = Worker::builder(addr.parse().expect("an address"))
        .server_name("localhost")
        .credentials(credentials)
        .concurrency(ITEMS as u32)
        .recipe("again", spec().idempotent(), answers.clone())
        .recipe("once", spec(), answers);
    worker.run().await.expect("it serves");
}

#[tokio::test]
async fn a_killed_processs_calls_end_on_another_or_are_lost_and_each_ends_once() {
    let rig = Rig::with(|c| {
        c.batch.concurrency_max = 4_096;
        // A killed process says no good-bye: it is missed when it has been silent for so long.
        c.limits.idle_timeout_ms = 5_000;
    })
    .await;
    rig.roomy_concurrency("acme", 4_096).await;
    let certs = rig.path("worker");
    let identity = Identity::platform_worker("w").expect("an identity");
    rig.issue(&identity, &Default::default()).write(&certs).expect("written");
    let serve = |n: usize| {
        let broker = &rig.broker;
        eventually("it serves both", move || {
            let workers = broker.workers();
            workers.len() == n && workers.iter().all(|w| w.recipes.len() == 2)
        })
    };
    let doomed = Process::start(&rig, &certs, true);
    serve(1).await;

    let client = rig.client("acme").await;
    let batch = client.batch().retry(RetryPolicy::none()).open().await.expect("a batch");
    let (mut items, mut events) = batch.split();
    for n in 0..ITEMS {
        let recipe = if n.is_multiple_of(2) { "again" } else { "once" };
        items.send(Request::new(recipe, n.to_string()).id(n as u64)).await.expect("sent");
    }
    items.finish().await.expect("sealed");
    let leased = || rig.broker.workers().iter().map(|w| w.leased).sum::<usize>();
    eventually("it has all of them", || leased() == ITEMS).await;
    let heir = Process::start(&rig, &certs, false);
    serve(2).await;
    assert_eq!(leased(), ITEMS);
    drop(doomed);

    let mut ended = BTreeMap::new();
    let mut summary = None;
    while let Some(event) = events.next().await {
        match event.expect("the batch goes on") {
            Event::Result(item) => {
                let how = match item.outcome {
                    Ok(payload) => {
                        assert_eq!(payload, item.id.to_string());
                        assert_eq!(item.attempts, 2);
                        None
                    }
                    Err(failure) => failure.code(),
                };
                assert_eq!(ended.insert(item.id, how), None, "item {} ends twice", item.id);
            }
            Event::Summary(s) => summary = Some((s.total, s.succeeded, s.failed)),
            _ => {}
        }
    }
    assert_eq!(ended.len(), ITEMS);
    for (id, how) in ended {
        let expected = (!id.is_multiple_of(2)).then_some(Code::WorkerLost);
        assert_eq!(how, expected, "item {id}");
    }
    assert_eq!(summary, Some((1_000, 500, vec![(Code::WorkerLost.number(), 500)])));
    serve(1).await;
    rig.idle().await;
    drop(heir);
}

const ADDR: &str = "TOLLGATE_TEST_WORKER_ADDR";
const CERTS: &str = "TOLLGATE_TEST_WORKER_CERTS";
const HOLDS: &str = "TOLLGATE_TEST_WORKER_HOLDS";
