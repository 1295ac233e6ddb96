//! What is committed together, and what follows once it is.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use tollgate_protocol::id::JobId;

use super::{
    inbox::Inbox,
    record::{self, Beside},
    result,
    shelf::{Answer, Command, Permits},
};
use crate::{
    batch::Outcome,
    rules::job::{
        Event,
        plant::{self, Bug},
    },
    store::Record,
    tenancy::BytesPermit,
};

/// Events of a group at most; a commit may have twice as many records.
const EVENTS_MAX: usize = 1_024;
/// Bytes of a group from which on nothing is added to it.
const BYTES_MAX: usize = 1 << 20;

/// Events that are decided and not committed.
#[derive(Default)]
pub(super) struct Group {
    /// What happens to jobs that were accepted: it must find room.
    pub changes: Vec<Entry>,
    /// What is new, and may be refused.
    pub submissions: Vec<Entry>,
    bytes: usize,
    /// Told once all of it is durable.
    pub answers: Vec<(Answer, u64)>,
}

/// An event, its record, and what follows it.
pub(super) struct Entry {
    pub event: Event,
    pub record: Record,
    pub then: Then,
}

/// What follows an event that is durable.
pub(super) enum Then {
    Nothing,
    /// Somebody waits for the item to be a job.
    Accept(Box<Accept>),
    /// A durable batch is open.
    Opened(oneshot::Sender<Result<Option<u64>, crate::batch::Failure>>),
    /// An attempt may go on.
    Gate(oneshot::Sender<()>),
    /// The result, as it was committed.
    Finish(Bytes),
}

/// Who waits for an item to be a job, and what it holds until then.
pub(super) struct Accept {
    pub inbox: Arc<Inbox>,
    pub item: u64,
    pub job: JobId,
    pub permits: Permits,
    /// Given back once the payload is kept.
    pub room: BytesPermit,
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.submissions.is_empty()
    }

    /// Whether one more may be added.
    pub(super) fn has_room(&self) -> bool {
        self.changes.len() + self.submissions.len() < EVENTS_MAX && self.bytes < BYTES_MAX
    }

    /// Adds an event about something that is there.
    pub(super) fn change(&mut self, event: Event, then: Then) {
        let record = record::record(&event, &Beside::default(), &[]);
        self.add(Entry { event, record, then });
    }

    /// Adds the end of a job.
    pub(super) fn end(&mut self, mut event: Event, facts: result::Facts, outcome: &Outcome) {
        let bytes = Bytes::from(result::encoded(facts, outcome));
        if let Event::Ended { result_len, .. } = &mut event {
            let len = outcome.as_ref().map_or(0, |reply| reply.payload().len());
            *result_len = u32::try_from(len).unwrap_or(u32::MAX);
        }
        let record = match event.job() {
            Some(job) if plant::is(Bug::EndNotKept) => {
                let event = Event::Progressed { job, progress: Default::default() };
                record::record(&event, &Beside::default(), &[])
            }
            _ => record::record(&event, &Beside::default(), &bytes),
        };
        self.add(Entry { event, record, then: Then::Finish(bytes) });
    }

    /// Adds what a record keeps of a job, to be kept here from now on.
    pub(super) fn moved(&mut self, event: Event, body: &[u8]) {
        let record = record::record(&event, &Beside::default(), body);
        self.add(Entry { event, record, then: Then::Nothing });
    }

    fn add(&mut self, entry: Entry) {
        self.bytes += entry.record.body.len();
        self.changes.push(entry);
    }

    /// Adds a new job.
    pub(super) fn submit(&mut self, entry: Entry) {
        self.bytes += entry.record.body.len();
        self.submissions.push(entry);
    }
}

impl Command {
    /// Whether it is about many jobs, so that what came before it must have happened.
    pub(super) fn is_barrier(&self) -> bool {
        matches!(self, Command::Act { .. } | Command::Seal { .. } | Command::Settle { .. })
    }
}
