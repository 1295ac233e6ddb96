//! What one commit does: events and messages, and what follows from each once it is kept.

use std::sync::Arc;

use foldhash::HashMap;
use tollgate_protocol::id::GroupName;

use super::{
    record,
    shelf::{Answer, Append, Fate, Place, Told},
};
use crate::{
    rules::topic::{Event, id::Last},
    store::Record,
    tenancy::{BytesPermit, Permit},
};

/// Everything that is made durable at once: changes, which find room on a full disk too, and
/// messages.
#[derive(Default)]
pub(super) struct Staged {
    pub changes: Vec<Change>,
    pub appends: Vec<Appending>,
    /// Messages of `appends` that are new.
    pub messages: usize,
    pub bytes: usize,
    /// Where partitions are once this is kept.
    pub ahead: HashMap<Place, Ahead>,
    /// Messages of producers that are among these, with their offsets.
    pub seen: HashMap<(Place, [u8; 16], u64), u64>,
    /// Commands that are done once this is.
    pub commands: usize,
}

/// Where a partition is once what is in a group is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    pub next: u64,
    pub last: Last,
}

/// A change, and what follows.
pub(super) struct Change {
    pub what: What,
    pub record: Record,
    pub then: Then,
}

/// What a change is.
pub(super) enum What {
    Event(Event),
    /// A message that the broker itself appends.
    Message {
        place: Place,
        at: Last,
    },
}

/// What follows a change.
pub(super) enum Then {
    Nothing,
    Answer(Answer),
    /// Count quotas that were taken for it, and answer.
    Granted(Vec<Permit>, Answer),
    /// A member is told how far its group is.
    Tell {
        topic: u32,
        group: GroupName,
        partition: u32,
        told: Option<Arc<Told>>,
    },
    /// A message was put aside: the group is done with it.
    PutAside {
        topic: u32,
        group: GroupName,
        partition: u32,
        offset: u64,
    },
}

/// An append, as far as it is decided.
pub(super) struct Appending {
    pub topic: u32,
    pub fates: Vec<Fate>,
    pub messages: Vec<Message>,
    pub storage: Option<Permit>,
    /// Given back once it is answered.
    pub _room: BytesPermit,
    pub answer: tokio::sync::oneshot::Sender<Vec<Fate>>,
}

/// A new message.
pub(super) struct Message {
    pub place: Place,
    pub record: Record,
    pub at: Last,
    pub offset: u64,
    pub producer: Option<([u8; 16], u64, u64)>,
}

/// A commit has at most so many messages: the store takes half a group from one.
const MESSAGES_MAX: usize = 1_536;
/// And so many bytes, with what an append may add once there is room for it.
const BYTES_MAX: usize = 1 << 20;
/// Changes of one commit.
const CHANGES_MAX: usize = 256;

impl Staged {
    /// Whether it has room for another command.
    pub(super) fn has_room(&self) -> bool {
        self.messages < MESSAGES_MAX && self.bytes < BYTES_MAX && self.changes.len() < CHANGES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.appends.is_empty()
    }

    /// Adds an event.
    pub(super) fn change(&mut self, event: Event, then: Then) {
        let record = record::record(&event);
        self.bytes += record.body.len();
        self.changes.push(Change { what: What::Event(event), record, then });
    }
}

/// Adds a kept message to what its producer is told: those that follow each other are told as one.
pub(super) fn tell_kept(
    fates: &mut Vec<Fate>,
    (sequence, partition, offset): (u64, u32, u64),
    duplicate: bool,
) {
    if let Some(Fate::Kept { sequence: s, count, partition: p, offset: o, duplicate: d }) =
        fates.last_mut()
        && (*p, *d) == (partition, duplicate)
        && s.wrapping_add(u64::from(*count)) == sequence
        && *o + u64::from(*count) == offset
    {
        *count += 1;
        return;
    }
    fates.push(Fate::Kept { sequence, count: 1, partition, offset, duplicate });
}

impl Append {
    /// The same answer to all of it.
    pub(super) fn refuse(self, failure: &crate::batch::Failure) {
        let refused = |m: &super::shelf::NewMessage| Fate::Refused {
            sequence: m.sequence,
            failure: failure.clone(),
        };
        // Whoever asked may be gone.
        let _ = self.answer.send(self.messages.iter().map(refused).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_each_other_is_told_as_one() {
        let mut fates = Vec::new();
        for (told, duplicate) in
            [((1, 0, 10), false), ((2, 0, 11), false), ((3, 1, 12), false), ((4, 1, 13), true)]
        {
            tell_kept(&mut fates, told, duplicate);
        }
        let counts: Vec<u32> = fates
            .iter()
            .map(|f| match f {
                Fate::Kept { count, .. } => *count,
                Fate::Refused { .. } => 0,
            })
            .collect();
        assert_eq!(counts, [2, 1, 1]);
    }
}
