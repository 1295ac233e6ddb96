//! Workers of the broker's: the process that W1 goes through, and hands that take a known time.
use anyhow::{Context, Result};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tollgate_client::{
    worker::{Call, Spec, Stopper, WorkError, WorkerBuilder},
    ClientCredentials, Worker,
};

use crate::tune::Tune;

/// The recipe that gives its payload back.
pub const ECHO: &str = "answer";
/// The recipe that takes so many milliseconds as its payload says.
pub const TAKES: &str = "takes";

fn builder(dir: &Path, addr: SocketAddr) -> Result<WorkerBuilder> {
    let credentials = ClientCredentials::load_dir(dir)?;
    Ok(Worker::builder(addr).server_name("localhost").credentials(credentials))
}

/// Serves `answer` until it is killed: what the responder is for NATS.
pub async fn serve(dir: &Path, t: &Tune, addr: SocketAddr) -> Result<()> {
    let worker = builder(dir, addr)?
        .concurrency(t.get("credit", 1_024))
        .recipe(ECHO, Spec::new(), |_, payload| async move { Ok(payload) })
        .build()?;
    println!("ready {addr}");
    worker.run().await?;
    Ok(())
}

/// What a tenant was given.
#[derive(Clone, Copy, Default)]
pub struct Given {
    pub calls: u64,
    pub busy: Duration,
}

pub type Shares = BTreeMap<String, Given>;

/// A worker on a thread of its own that notes whose calls it ran, and for how long. Ends when it is
/// dropped.
pub struct Hands {
    given: Arc<Mutex<Shares>>,
    stopper: Stopper,
    thread: Option<thread::JoinHandle<()>>,
}

impl Hands {
    /// So many calls at once.
    pub fn start(dir: &Path, addr: SocketAddr, hands: u32) -> Result<Self> {
        let given = Arc::new(Mutex::new(Shares::new()));
        let noted = given.clone();
        let handler = move |call: Call, payload: Bytes| {
            let noted = noted.clone();
            async move {
                let began = Instant::now();
                let ms = std::str::from_utf8(&payload)?.parse()?;
                if ms > 0 {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                }
                let mut all = noted.lock().unwrap_or_else(PoisonError::into_inner);
                let of = match all.get_mut(call.tenant()) {
                    Some(of) => of,
                    None => all.entry(call.tenant().to_owned()).or_default(),
                };
                of.calls += 1;
                of.busy += began.elapsed();
                drop(all);
                Ok::<_, WorkError>("")
            }
        };
        let builder = builder(dir, addr)?.concurrency(hands).recipe(TAKES, Spec::new(), handler);
        let (tell, told) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let worker = builder.build().expect("in order");
                let _ = tell.send(worker.stopper());
                worker.run().await.expect("it serves");
            });
        });
        let stopper = told.recv().context("the worker did not start")?;
        Ok(Hands { given, stopper, thread: Some(thread) })
    }

    /// What was given up to now.
    pub fn given(&self) -> Shares {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
