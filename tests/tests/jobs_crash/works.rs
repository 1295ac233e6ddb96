//! Workers that remember every start they see.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, task::JoinHandle};
use tollgate_client::{
    Backoff, Worker,
    worker::{Call, JobRetry, Spec, WorkError},
};
use tollgate_tests::process::Served;

use crate::{TENANTS, World, credentials};

/// An attempt that began here.
#[derive(Debug, Clone)]
pub struct Start {
    pub attempt: u32,
    pub at: Instant,
    /// Unlike any other: it is in the answer.
    pub serial: u64,
    /// Whether it failed on purpose.
    pub fails: bool,
}

/// Of each recipe how long it takes in milliseconds, and whether its first attempt fails.
pub const RECIPES: [(&str, u64, bool); 3] =
    [("work.quick", 3, false), ("work.slow", 110, false), ("work.flaky", 8, true)];

/// A worker, in this process.
pub struct Running {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Running {
    pub fn start(served: &Served, certs: &str, world: &Arc<World>) -> Running {
        let reconnect = Backoff {
            first: Duration::from_millis(50),
            max: Duration::from_millis(500),
            tries_max: u32::MAX,
        };
        let mut builder = Worker::builder(served.addr)
            .server_name("localhost")
            .credentials(credentials(served, certs))
            .reconnect(reconnect)
            .concurrency(8);
        for (name, ms, flaky) in RECIPES {
            let wait = Duration::from_millis(5);
            let retry = JobRetry { attempts_max: 100, first: wait, factor_percent: 100, cap: wait };
            let world = world.clone();
            let handler = move |call: Call, payload: bytes::Bytes| {
                let world = world.clone();
                async move { work(&world, &call, &payload, ms, flaky).await }
            };
            builder = builder.recipe(name, Spec::new().retry(retry), handler);
        }
        let (stop, stopped) = oneshot::channel::<()>();
        let worker = builder.build().expect("good settings");
        let task = tokio::spawn(async move {
            worker.run_until(stopped).await.expect("it serves to the end");
        });
        Running { task, stop }
    }

    pub async fn stop(self) {
        drop(self.stop);
        self.task.await.expect("it ends well");
    }
}

async fn work(
    world: &World,
    call: &Call,
    payload: &[u8],
    ms: u64,
    flaky: bool,
) -> Result<String, WorkError> {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    let payload = String::from_utf8_lossy(payload).into_owned();
    let own = TENANTS.iter().position(|t| *t == call.tenant());
    if let Some(own) = own
        && !payload.contains(&crate::load::canary(own))
    {
        world.history(own).wrong.push(format!("{} runs `{payload}`", call.tenant()));
    }
    let (attempt, serial) = (call.attempt(), SERIAL.fetch_add(1, Relaxed));
    let fails = flaky && attempt == 1;
    let start = Start { attempt, at: Instant::now(), serial, fails };
    {
        let mut starts = world.starts.lock().unwrap_or_else(PoisonError::into_inner);
        starts.entry(payload.clone()).or_default().push(start);
    }
    tokio::time::sleep(Duration::from_millis(ms)).await;
    if fails {
        return Err(WorkError::failed("not the first time"));
    }
    Ok(answer(&payload, attempt, serial))
}

/// What a worker answers.
pub fn answer(payload: &str, attempt: u32, serial: u64) -> String {
    format!("{payload}|{attempt}|{serial}")
}
