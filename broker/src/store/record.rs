//! What is stored: every kind of record, its layout and its tag, frozen.
//!
//! A tag is on disks for good: it is never given a second meaning, not even after its kind is gone.
//! A kind whose bytes change gets a new layout number and keeps reading the old one. What the bytes
//! mean is the business of the module that writes them; the store never looks inside.

use bytes::Bytes;

use super::port::Stream;

/// The streams of the system scope.
pub mod system {
    use super::Stream;

    /// The tenants: one record a change.
    pub const TENANTS: Stream = Stream(1);
    /// What was revoked through the API.
    pub const REVOCATIONS: Stream = Stream(2);
    /// The recipes that workers made known.
    pub const WORKER_RECIPES: Stream = Stream(3);
    /// With which keys tenants were created: what is older than a day is trimmed.
    pub const TENANT_KEYS: Stream = Stream(4);
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// A tenant as it is after a change: created, updated, suspended or activated.
    Tenant,
    /// A tenant is gone; its number is never given to another.
    TenantDeleted,
    /// Something was revoked through the API.
    Revocation,
    /// A revocation was taken back.
    RevocationRemoved,
    /// A worker made a recipe known, or known in another form.
    WorkerRecipe,
    /// A recipe of workers is not known any more.
    WorkerRecipeForgotten,
    /// A tenant was created with an idempotency key.
    TenantKey,
    /// A job was accepted: it, and its payload.
    JobSubmitted,
    /// An attempt of a job began.
    JobStarted,
    /// An attempt of a job reported how far it was.
    JobProgressed,
    /// An attempt of a job failed, and another is to be made.
    JobAttemptFailed,
    /// A job is over: how, and its result.
    JobEnded,
    /// A job that had failed is to run again.
    JobReplayed,
    /// A job is forgotten.
    JobRemoved,
    /// A durable batch was opened.
    BatchOpened,
    /// Nothing more comes into a durable batch.
    BatchSealed,
    /// Every job of a sealed batch is over.
    BatchEnded,
    /// A durable batch is forgotten.
    BatchRemoved,
    /// The first of a tenant's jobs: the epoch of their numbers.
    JobsBegun,
    /// What an older record keeps of a job lies here now, so that the older one can go.
    JobMoved,
    /// A message of a topic.
    TopicMessage,
    /// A topic was made.
    TopicCreated,
    /// Messages of a topic are kept for another time.
    TopicKept,
    /// A topic is no more.
    TopicDeleted,
    /// What a topic held that is gone is gone too: its stream may be used again.
    StreamFreed,
    /// The oldest messages of a partition are gone.
    TopicTrimmed,
    /// A message was deleted.
    MessageDeleted,
    /// A consumer group was made.
    GroupCreated,
    /// A consumer group is no more.
    GroupDeleted,
    /// A consumer group is done with messages.
    GroupAcked,
    /// A consumer group was moved.
    GroupMoved,
    /// A topic was bound to a recipe.
    TopicBound,
    /// A binding of a topic is no more.
    TopicUnbound,
}

/// A row of the table of kinds.
struct Row {
    kind: Kind,
    /// What stands on the disk. Never used again for anything else.
    tag: u16,
    /// The layout that is written now; older ones are still read.
    layout: u8,
}

/// Every kind there is. Tags from 0xff00 on are the store's own (see `embedded`).
const TABLE: &[Row] = &[
    Row { kind: Kind::Tenant, tag: 1, layout: 1 },
    Row { kind: Kind::TenantDeleted, tag: 2, layout: 1 },
    Row { kind: Kind::Revocation, tag: 3, layout: 1 },
    Row { kind: Kind::RevocationRemoved, tag: 4, layout: 1 },
    Row { kind: Kind::WorkerRecipe, tag: 5, layout: 1 },
    Row { kind: Kind::WorkerRecipeForgotten, tag: 6, layout: 1 },
    Row { kind: Kind::TenantKey, tag: 7, layout: 1 },
    Row { kind: Kind::JobSubmitted, tag: 8, layout: 1 },
    Row { kind: Kind::JobStarted, tag: 9, layout: 1 },
    Row { kind: Kind::JobProgressed, tag: 10, layout: 1 },
    Row { kind: Kind::JobAttemptFailed, tag: 11, layout: 1 },
    Row { kind: Kind::JobEnded, tag: 12, layout: 1 },
    Row { kind: Kind::JobReplayed, tag: 13, layout: 1 },
    Row { kind: Kind::JobRemoved, tag: 14, layout: 1 },
    Row { kind: Kind::BatchOpened, tag: 15, layout: 1 },
    Row { kind: Kind::BatchSealed, tag: 16, layout: 1 },
    Row { kind: Kind::BatchEnded, tag: 17, layout: 2 },
    Row { kind: Kind::BatchRemoved, tag: 18, layout: 1 },
    Row { kind: Kind::JobsBegun, tag: 19, layout: 1 },
    Row { kind: Kind::JobMoved, tag: 20, layout: 1 },
    Row { kind: Kind::TopicMessage, tag: 21, layout: 1 },
    Row { kind: Kind::TopicCreated, tag: 22, layout: 1 },
    Row { kind: Kind::TopicKept, tag: 23, layout: 1 },
    Row { kind: Kind::TopicDeleted, tag: 24, layout: 1 },
    Row { kind: Kind::StreamFreed, tag: 25, layout: 1 },
    Row { kind: Kind::TopicTrimmed, tag: 26, layout: 1 },
    Row { kind: Kind::MessageDeleted, tag: 27, layout: 1 },
    Row { kind: Kind::GroupCreated, tag: 28, layout: 1 },
    Row { kind: Kind::GroupDeleted, tag: 29, layout: 1 },
    Row { kind: Kind::GroupAcked, tag: 30, layout: 1 },
    Row { kind: Kind::GroupMoved, tag: 31, layout: 1 },
    Row { kind: Kind::TopicBound, tag: 32, layout: 1 },
    Row { kind: Kind::TopicUnbound, tag: 33, layout: 1 },
];

impl Kind {
    /// Its frozen tag.
    pub fn tag(self) -> u16 {
        self.row().tag
    }

    /// The layout that is written now.
    pub fn layout(self) -> u8 {
        self.row().layout
    }

    /// The kind with this tag, if this program knows it.
    pub fn from_tag(tag: u16) -> Option<Kind> {
        TABLE.iter().find(|row| row.tag == tag).map(|row| row.kind)
    }

    /// Every kind.
    pub fn all() -> impl Iterator<Item = Kind> {
        TABLE.iter().map(|row| row.kind)
    }

    fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.kind == self).expect("every kind has a row; a test looks")
    }
}

/// What a caller wants stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it goes.
    pub stream: Stream,
    /// What it is; it is stored with the layout that is written now.
    pub kind: Kind,
    /// Its bytes. They should own just themselves: a slice of a larger buffer keeps all of it.
    pub body: Bytes,
}

impl Record {
    /// A record of this kind for this stream.
    pub fn new(stream: Stream, kind: Kind, body: impl Into<Bytes>) -> Record {
        Record { stream, kind, body: body.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is on disks already. Lines are only ever added here; a changed line is data lost.
    const PINNED: &[(u16, &str, u8)] = &[
        (1, "Tenant", 1),
        (2, "TenantDeleted", 1),
        (3, "Revocation", 1),
        (4, "RevocationRemoved", 1),
        (5, "WorkerRecipe", 1),
        (6, "WorkerRecipeForgotten", 1),
        (7, "TenantKey", 1),
        (8, "JobSubmitted", 1),
        (9, "JobStarted", 1),
        (10, "JobProgressed", 1),
        (11, "JobAttemptFailed", 1),
        (12, "JobEnded", 1),
        (13, "JobReplayed", 1),
        (14, "JobRemoved", 1),
        (15, "BatchOpened", 1),
        (16, "BatchSealed", 1),
        (17, "BatchEnded", 2),
        (18, "BatchRemoved", 1),
        (19, "JobsBegun", 1),
        (20, "JobMoved", 1),
        (21, "TopicMessage", 1),
        (22, "TopicCreated", 1),
        (23, "TopicKept", 1),
        (24, "TopicDeleted", 1),
        (25, "StreamFreed", 1),
        (26, "TopicTrimmed", 1),
        (27, "MessageDeleted", 1),
        (28, "GroupCreated", 1),
        (29, "GroupDeleted", 1),
        (30, "GroupAcked", 1),
        (31, "GroupMoved", 1),
        (32, "TopicBound", 1),
        (33, "TopicUnbound", 1),
    ];

    #[test]
    fn tags_and_layouts_are_what_is_on_disks() {
        let table: Vec<_> =
            TABLE.iter().map(|r| (r.tag, format!("{:?}", r.kind), r.layout)).collect();
        let pinned: Vec<_> = PINNED.iter().map(|(t, k, l)| (*t, (*k).to_owned(), *l)).collect();
        assert_eq!(table, pinned, "a tag or layout moved: see the module's first lines");
    }

    #[test]
    fn tags_are_unique_and_lead_back() {
        for kind in Kind::all() {
            assert_eq!(Kind::from_tag(kind.tag()), Some(kind));
            assert!(kind.tag() < 0xff00, "the store's own tags begin there");
        }
        assert_eq!(Kind::from_tag(0), None);
    }
}
