//! Following certificate files: a change becomes a new [`Snapshot`], without a restart.
//!
//! A set of files that does not work as a whole is refused and the last good one stays in force.
//! Nobody who was revoked comes back because a file went missing. Files are read on the blocking
//! pool; the runtime's workers never wait for a disk.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use crate::{deny::DenyList, identity::TrustDomain, server::ServerCredentials, verify::Trust};

mod source;

pub use source::RotateError;
use source::{Source, Stamp};

/// The files that make up a broker's side of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The broker's certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose clients are let in.
    pub roots: Vec<PathBuf>,
    /// Revocation lists; one that is not there yet revokes nobody.
    pub crls: Vec<PathBuf>,
    /// The deny list; one that is not there yet denies nobody.
    pub deny: Option<PathBuf>,
    /// The trust domain whose identities are accepted.
    pub domain: TrustDomain,
}

/// What the files said when they were last good. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The broker's own certificate and key.
    pub server: Arc<ServerCredentials>,
    /// Whom to let in.
    pub trust: Arc<Trust>,
    /// Rises by one with every change, from one.
    pub generation: u64,
}

/// Watches the files: spawn [`Rotator::run`], which does all the work.
#[derive(Debug)]
pub struct Rotator {
    paths: Arc<Paths>,
    poll: Duration,
    snapshots: watch::Sender<Snapshot>,
    requests: mpsc::Receiver<Request>,
    /// What is denied besides what the files say.
    besides: Arc<DenyList>,
    /// A hash of what the published snapshot was made of.
    digest: [u8; 32],
    /// Which of the files were there then.
    present: Vec<bool>,
    /// The files as they were when a set that had settled was taken over.
    loaded: Option<Vec<Stamp>>,
    /// The files at the last poll.
    seen: Option<Vec<Stamp>>,
    /// The files that were refused, and logged as such.
    refused: Option<Vec<Stamp>>,
}

/// The other end of a [`Rotator`]: reads snapshots and asks for reloads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    snapshots: watch::Receiver<Snapshot>,
    requests: mpsc::Sender<Request>,
}

/// Something to be done, and where its outcome goes: the generation that is then in force.
#[derive(Debug)]
struct Request {
    besides: Option<DenyList>,
    reply: oneshot::Sender<Result<u64, RotateError>>,
}

/// Reads the files once. Blocks on the disk.
///
/// # Errors
/// [`RotateError`] names the file that is missing or cannot be used.
pub fn load(paths: &Paths) -> Result<Snapshot, RotateError> {
    Source::read(paths)?.snapshot(paths, FIRST_GENERATION)
}

/// Whether lists are there that somebody has named: a name that is mistyped must not let in whom the
/// list keeps out. (Lists that may come later are given to the [`Rotator`] alone.)
///
/// # Errors
/// [`RotateError::Missing`], for the first that is not.
pub fn require<'a>(lists: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), RotateError> {
    match lists.into_iter().find(|path| !path.exists()) {
        Some(path) => Err(RotateError::Missing(path.clone())),
        None => Ok(()),
    }
}

impl Rotator {
    /// Reads the files for the first time, which must work. Blocks on the disk, once.
    ///
    /// # Errors
    /// As [`load`].
    pub fn new(paths: Paths) -> Result<(Rotator, Handle), RotateError> {
        Rotator::with_poll(paths, POLL)
    }

    /// As [`Rotator::new`], looking at the files at another interval than four times a second.
    ///
    /// # Errors
    /// As [`load`].
    pub fn with_poll(paths: Paths, poll: Duration) -> Result<(Rotator, Handle), RotateError> {
        let source = Source::read(&paths)?;
        let snapshot = source.snapshot(&paths, FIRST_GENERATION)?;
        let (snapshots, receiver) = watch::channel(snapshot);
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let rotator = Rotator {
            digest: source.digest(),
            present: source.present(),
            paths: Arc::new(paths),
            poll: poll.max(Duration::from_millis(1)),
            snapshots,
            requests,
            besides: Arc::default(),
            loaded: None,
            seen: None,
            refused: None,
        };
        Ok((rotator, Handle { snapshots: receiver, requests: sender }))
    }

    /// Denies these too, besides what the files say, and no longer those that were denied so before;
    /// gives the generation that is then in force.
    ///
    /// # Errors
    /// [`RotateError::Trust`] when an entry would refuse nobody; then nothing changes.
    pub fn deny(&mut self, besides: DenyList) -> Result<u64, RotateError> {
        let current = self.snapshots.borrow().clone();
        if *self.besides == besides {
            return Ok(current.generation);
        }
        let besides = Arc::new(besides);
        let trust = Arc::new(current.trust.denying_besides(besides.clone())?);
        self.besides = besides;
        let generation = current.generation + 1;
        self.snapshots.send_replace(Snapshot { trust, generation, ..current });
        Ok(generation)
    }

    /// Follows the files until it is dropped.
    pub async fn run(mut self) {
        let mut ticks = interval(self.poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Fair: neither a flood of reloads nor the ticks can keep the other waiting.
            tokio::select! {
                _ = ticks.tick() => self.poll().await,
                Some(Request { besides, reply }) = self.requests.recv() => {
                    let outcome = match besides {
                        Some(besides) => self.deny(besides),
                        None => self.reload().await,
                    };
                    // Whoever asked may have gone; the outcome holds all the same.
                    let _ = reply.send(outcome);
                }
            }
        }
    }

    /// Looks at the files, and takes them over once they have been still for one interval: a list
    /// that is half written may well be a good, shorter list.
    async fn poll(&mut self) {
        let stamps = self.stamps().await;
        if self.loaded.as_ref() == Some(&stamps) {
            return;
        }
        if self.seen.as_ref() != Some(&stamps) {
            self.seen = Some(stamps);
            return;
        }
        let outcome = self.take_over().await;
        let after = self.stamps().await;
        if after != stamps {
            // Changed while they were read: what was read may be a mixture.
            self.seen = Some(after);
            return;
        }
        match outcome {
            Ok(_) => {
                self.loaded = Some(stamps);
                self.refused = None;
            }
            Err(error) if self.refused.as_ref() != Some(&stamps) => {
                tracing::error!(%error, "certificate files refused, the last good ones stay");
                self.refused = Some(stamps);
            }
            Err(_) => {}
        }
    }

    /// Takes the files over as they are now. They count as unsettled still, so that the next polls
    /// read them again: a write in the same tick of the disk's clock leaves no other trace.
    async fn reload(&mut self) -> Result<u64, RotateError> {
        self.loaded = None;
        self.seen = None;
        self.take_over().await
    }

    /// Publishes what the files say if it is good and new.
    async fn take_over(&mut self) -> Result<u64, RotateError> {
        let current = self.snapshots.borrow().generation;
        let (paths, digest, besides) = (self.paths.clone(), self.digest, self.besides.clone());
        let present = self.present.clone();
        let read = move || -> Result<_, RotateError> {
            let source = Source::read(&paths)?;
            source.refuse_vanished(&paths, &present)?;
            if source.digest() == digest {
                return Ok(None);
            }
            let mut snapshot = source.snapshot(&paths, current + 1)?;
            snapshot.trust = Arc::new(snapshot.trust.denying_besides(besides)?);
            Ok(Some((source.digest(), source.present(), snapshot)))
        };
        let Some((digest, present, snapshot)) = blocking(read).await? else {
            return Ok(current);
        };
        (self.digest, self.present) = (digest, present);
        tracing::info!(generation = snapshot.generation, "certificate files taken over");
        self.snapshots.send_replace(snapshot);
        Ok(current + 1)
    }

    async fn stamps(&self) -> Vec<Stamp> {
        let paths = self.paths.clone();
        blocking(move || source::stamps(&paths)).await
    }
}

impl Handle {
    /// The snapshot in force.
    pub fn current(&self) -> Snapshot {
        self.snapshots.borrow().clone()
    }

    /// A receiver that sees every snapshot from now on, or the newest when it is slow.
    pub fn subscribe(&self) -> watch::Receiver<Snapshot> {
        let mut receiver = self.snapshots.clone();
        receiver.mark_unchanged();
        receiver
    }

    /// Takes the files over at once (SIGHUP, or a list that was just written) and says which
    /// generation is then in force: the same as before when nothing has changed.
    ///
    /// # Errors
    /// [`RotateError`] when the files cannot be used, and the last good ones stay;
    /// [`RotateError::Stopped`] when the [`Rotator`] is gone.
    pub async fn reload(&self) -> Result<u64, RotateError> {
        self.ask(None).await
    }

    /// As [`Rotator::deny`], while the [`Rotator`] runs.
    ///
    /// # Errors
    /// As [`Rotator::deny`]; [`RotateError::Stopped`] when the [`Rotator`] is gone.
    pub async fn deny(&self, besides: DenyList) -> Result<u64, RotateError> {
        self.ask(Some(besides)).await
    }

    async fn ask(&self, besides: Option<DenyList>) -> Result<u64, RotateError> {
        let (reply, outcome) = oneshot::channel();
        let request = Request { besides, reply };
        self.requests.send(request).await.map_err(|_| RotateError::Stopped)?;
        outcome.await.map_err(|_| RotateError::Stopped)?
    }
}

/// Runs on the blocking pool. A panic there is our own bug and goes on here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

const FIRST_GENERATION: u64 = 1;
/// With the interval for which files must be still, a change acts within half a second.
const POLL: Duration = Duration::from_millis(250);
/// Reloads waiting: each reads all files, so a few are as good as many.
const REQUESTS_MAX: usize = 4;
