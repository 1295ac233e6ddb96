//! Reading a tenant's jobs back: the view, then the events that it does not know yet.

use crate::{
    rules::job::{
        Event, Jobs,
        plant::{self, Bug},
    },
    store::{ClaimError, Fence, Offset, Page, ReadError, Scope},
};

use super::record::{self, BadRecord, JOBS, Kept};

/// Why a tenant's jobs could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a record at {offset}: {source}")]
    Record { offset: Offset, source: BadRecord },
    #[error("the view: {0}")]
    View(BadRecord),
}

/// What was read.
pub(super) struct Loaded {
    pub fence: Fence,
    pub jobs: Jobs,
    /// The epoch of its numbers; none when nothing was ever kept.
    pub epoch: Option<u64>,
    /// After the last event.
    pub next: u64,
    /// After the last event that the view knows.
    pub viewed: u64,
    /// What happened after that: the view is to learn it.
    pub since: Vec<Event>,
}

/// Reads them, and becomes their owner.
pub(super) async fn load(scope: &Scope, mut jobs: Jobs) -> Result<Loaded, LoadError> {
    let fence = scope.claim().await?;
    let mut view = scope.restore(JOBS).await?;
    let viewed = view.upto().0;
    let mut epoch = None;
    loop {
        let pairs = view.next(Page::default()).await?;
        if pairs.is_empty() {
            break;
        }
        for pair in pairs {
            match record::kept(&pair.key, &pair.value).map_err(LoadError::View)? {
                Kept::Job(job) => jobs.insert(*job),
                Kept::Batch(id, batch) => jobs.insert_batch(id, *batch),
                Kept::Epoch(kept) => epoch = Some(kept),
            }
        }
    }
    let (mut next, mut since) = (viewed, Vec::new());
    loop {
        let records = scope.read(JOBS, Offset(next), Page::default()).await?;
        let Some(last) = records.last() else { break };
        next = last.offset.next().0;
        for stored in &records {
            let offset = stored.offset;
            if let Some(kept) = record::epoch(stored) {
                epoch = Some(kept);
                continue;
            }
            let event =
                record::event(stored).map_err(|source| LoadError::Record { offset, source })?;
            jobs.apply(&event, offset.0 + u64::from(plant::is(Bug::NumbersShift)));
            since.push(event);
        }
    }
    if plant::is(Bug::ForgetKeys) {
        jobs.forget_keys();
    }
    Ok(Loaded { fence, jobs, epoch, next, viewed, since })
}
