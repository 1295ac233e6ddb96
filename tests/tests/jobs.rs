//! Jobs: accepted once they are kept, run until they are over, told to whoever asks.

#[path = "jobs/asked.rs"]
mod asked;
#[path = "jobs/batches.rs"]
mod batches;
#[path = "jobs/elsewhere.rs"]
mod elsewhere;
#[path = "jobs/hostile.rs"]
mod hostile;
#[path = "jobs/keys.rs"]
mod keys;
#[path = "jobs/life.rs"]
mod life;
#[path = "jobs/restarts.rs"]
mod restarts;

use std::time::Duration;

use tollgate_broker::batch::{Retry, Spec};
use tollgate_client::{Client, JobInfo, JobState};
use tollgate_protocol::id::JobId;
use tollgate_tests::{Rig, SOON, stage::Stage};

/// Retries that take no time worth mentioning.
pub fn at_once(attempts_max: u32) -> Spec {
    let wait = Duration::from_millis(2);
    Spec { retry: Retry { attempts_max, first: wait, factor: 1.0, cap: wait }, ..Spec::default() }
}

/// Waits until a job is in a state.
pub async fn until(client: &Client, id: JobId, state: JobState) -> JobInfo {
    let asked = async {
        loop {
            let info = client.jobs().get(id).await.expect("the job is there");
            if info.state == state {
                return info;
            }
            assert!(!info.is_over(), "{:?} instead of {state:?}: {info:?}", info.state);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, asked).await.expect("it comes to that")
}

/// A broker with the recipes of a stage, and a client of `acme`.
pub async fn staged() -> (Rig, Stage, Client) {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let client = rig.client("acme").await;
    (rig, stage, client)
}
