//! The life of a worker: connect, serve, and again when that was lost.

use std::time::Duration;

use tollgate_protocol::{Code, close::CloseCode};

use super::{
    Served, Stopper, Worker, WorkerError,
    stream::{self, Ended},
};
use crate::{
    link::Link,
    retry::{self, Backoff},
};

/// Between two streams of work when the broker ended the first.
const AGAIN: Backoff =
    Backoff { first: Duration::from_millis(100), max: Duration::from_secs(2), tries_max: u32::MAX };

pub(super) async fn run(worker: Worker) -> Result<Served, WorkerError> {
    let mut served = Served::default();
    let result = serve(&worker, &mut served).await;
    close(&worker.link, worker.own_endpoint).await;
    result.map(|()| served)
}

async fn serve(worker: &Worker, served: &mut Served) -> Result<(), WorkerError> {
    let (mut failures, mut conflicts) = (0, 0);
    loop {
        let connected = tokio::select! {
            biased;
            () = worker.stopper.stopped() => return Ok(()),
            connected = worker.link.session() => connected,
        };
        let session = match connected {
            Ok(session) => session,
            Err(e) if e.retryable() => {
                // The link itself waits before the next attempt.
                tracing::warn!(error = %e, "no connection, trying on");
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        let (ended, did) = stream::serve(
            &session,
            &worker.recipes,
            worker.concurrency,
            worker.stop_timeout,
            &worker.stopper,
        )
        .await;
        served.add(did);
        if did.connections > 0 {
            (failures, conflicts) = (0, 0);
        }
        match ended {
            Ended::Stopped => return Ok(()),
            Ended::Broken(violation) => return Err(violation.into()),
            Ended::Lost(lost) if lost.retryable() => {
                tracing::warn!(error = %lost, "the connection was lost");
            }
            Ended::Lost(lost) => return Err(WorkerError::Connect(lost.into())),
            Ended::Cut => tracing::warn!("the broker cut the stream of work"),
            Ended::Refused(failure) => {
                conflicts += u32::from(failure.code() == Some(Code::Conflict));
                if !passes(&failure, conflicts < worker.conflict_tries) {
                    return Err(WorkerError::Refused(failure));
                }
                tracing::warn!(error = %failure, "the broker ended the stream of work");
            }
        }
        failures += 1;
        if wait(failures, &worker.stopper).await {
            return Ok(());
        }
    }
}

/// Whether trying again makes sense.
fn passes(failure: &crate::item::Failure, patient: bool) -> bool {
    match failure.code() {
        // The others' spec may go with them.
        Some(Code::Conflict) => patient,
        _ => failure.retryable,
    }
}

/// Waits before the next stream; true when the worker was stopped meanwhile.
async fn wait(failures: u32, stopper: &Stopper) -> bool {
    let wait = AGAIN.wait(failures, retry::spread());
    tokio::time::timeout(wait, stopper.stopped()).await.is_ok()
}

/// Says good-bye, and waits until the broker was told.
async fn close(link: &Link, own_endpoint: bool) {
    let connection = link.close();
    if own_endpoint {
        link.dialing.endpoint.close(CloseCode::Done.number().into(), b"");
        link.dialing.endpoint.wait_idle().await;
    } else if let Some(connection) = connection {
        connection.closed().await;
    }
}

impl Served {
    fn add(&mut self, more: Served) {
        self.succeeded += more.succeeded;
        self.failed += more.failed;
        self.cancelled += more.cancelled;
        self.lost += more.lost;
        self.connections += more.connections;
    }
}
