//! The frames of both directions: one enum each, a variant a message. A stream of work goes on in
//! the enums of `work::frame`.
//!
//! ```text
//!  0        4              5
//! +--------+---------------+------------------------------------------+
//! | length | variant       | fields, in the order of the struct       |
//! | u32 BE | varint        | postcard: varints, length-prefixed bytes |
//! +--------+---------------+------------------------------------------+
//!          |<------------------- `length` bytes --------------------->|
//! ```
//!
//! A frame of length 0 carries nothing: the broker sends it to show that it is alive.
//! Variants are only ever added at the end, and a struct never changes within `tollgate/1`.

use std::fmt;

use crate::{
    batch::{
        Accepted, BatchOpen, CancelScope, Failure, ItemResult, Notice, Progress, Request, Summary,
        Throttled,
    },
    codec::{DecodeError, Problem, Reader, Result, put_u64},
    describe::{Describe, Limits, Recipe, Usage, Version},
    job::{Attach, Gap, JobAccepted, JobAsk, JobInfo, Jobs},
    topic::{
        Ack, Assigned, Committed, ConsumeAccepted, ConsumeOpen, Delivery, GroupAsk, GroupInfo,
        Listed, Message, Nack, ProduceAccepted, ProduceFailed, ProduceOpen, Produced, Received,
        TopicAsk, TopicInfo,
    },
    work::{Deliver, Fetch, WorkOpen},
};

/// What the first frame of a stream asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Operation {
    /// Run items.
    Batch = 0,
    /// Read on from a job or a batch.
    Attach = 1,
    /// Get, list, cancel, replay or purge jobs.
    Job = 2,
    /// Append to topics.
    Produce = 3,
    /// Read topics.
    Consume = 4,
    /// Create, delete or list topics.
    Topic = 5,
    /// Manage consumer groups.
    Group = 6,
    /// Serve recipes.
    Work = 7,
    /// Ask about the broker.
    Describe = 8,
}

impl Operation {
    /// Every operation, in the order of their variant numbers.
    pub const ALL: &[Operation] = &[
        Operation::Batch,
        Operation::Attach,
        Operation::Job,
        Operation::Produce,
        Operation::Consume,
        Operation::Topic,
        Operation::Group,
        Operation::Work,
        Operation::Describe,
    ];

    /// The name in the specification.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Batch => "Batch",
            Operation::Attach => "Attach",
            Operation::Job => "Job",
            Operation::Produce => "Produce",
            Operation::Consume => "Consume",
            Operation::Topic => "Topic",
            Operation::Group => "Group",
            Operation::Work => "Work",
            Operation::Describe => "Describe",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A frame from a client to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientFrame<'a> {
    /// 0: opens a batch.
    Batch(BatchOpen<'a>),
    /// 1: reads on from a job or a batch.
    Attach(Attach<'a>),
    /// 2: asks about jobs or acts on them.
    Job(JobAsk<'a>),
    /// 3: appends to a topic.
    Produce(ProduceOpen<'a>),
    /// 4: reads a topic.
    Consume(ConsumeOpen<'a>),
    /// 5: asks about topics or acts on them.
    Topic(TopicAsk<'a>),
    /// 6: asks about consumer groups or acts on them.
    Group(GroupAsk<'a>),
    /// 7: opens a stream of work; [`WorkerFrame`](crate::work::WorkerFrame)s follow.
    Work(WorkOpen<'a>),
    /// 8: asks about the broker.
    Describe(Describe<'a>),
    /// 9: one sub-request of a batch.
    Request(Request<'a>),
    /// 10: no more sub-requests; how many there were.
    Seal {
        /// Sub-requests sent in all.
        items: u64,
    },
    /// 11: give up the batch, or what of it has not started.
    Cancel(CancelScope),
    /// 12: let a sealed batch's jobs go on alone.
    Detach,
    /// 13: asks for the payload of a call that was dispatched apart.
    Fetch(Fetch),
    /// 14: answers a call with a payload that follows in raw bytes.
    Deliver(Deliver<'a>),
    /// 15: one message to append.
    Message(Message<'a>),
    /// 16: a member of a group is done with messages.
    Ack(Ack),
    /// 17: a member of a group could not do messages.
    Nack(Nack),
}

impl<'a> ClientFrame<'a> {
    /// Decodes one frame, without its length prefix.
    ///
    /// # Errors
    /// [`DecodeError`], naming the field; [`DecodeError::is_out_of_bounds`] tells whether only the
    /// item at hand is at fault.
    #[inline]
    pub fn decode(frame: &'a [u8]) -> Result<Self> {
        let mut r = Reader::new(frame);
        let decoded = match r.variant("frame")? {
            9 => ClientFrame::Request(Request::read(&mut r)?),
            0 => ClientFrame::Batch(BatchOpen::read(&mut r)?),
            1 => ClientFrame::Attach(Attach::read(&mut r)?),
            2 => ClientFrame::Job(JobAsk::read(&mut r)?),
            15 => ClientFrame::Message(Message::read(&mut r)?),
            3 => ClientFrame::Produce(ProduceOpen::read(&mut r)?),
            4 => ClientFrame::Consume(ConsumeOpen::read(&mut r)?),
            5 => ClientFrame::Topic(TopicAsk::read(&mut r)?),
            6 => ClientFrame::Group(GroupAsk::read(&mut r)?),
            7 => ClientFrame::Work(WorkOpen::read(&mut r)?),
            8 => ClientFrame::Describe(Describe::read(&mut r)?),
            10 => ClientFrame::Seal { items: r.u64("items")? },
            11 => ClientFrame::Cancel(CancelScope::read(&mut r)?),
            12 => ClientFrame::Detach,
            13 => ClientFrame::Fetch(Fetch::read(&mut r)?),
            14 => ClientFrame::Deliver(Deliver::read(&mut r)?),
            16 => ClientFrame::Ack(Ack::read(&mut r)?),
            17 => ClientFrame::Nack(Nack::read(&mut r)?),
            n => return Err(unknown(n)),
        };
        r.finish()?;
        Ok(decoded)
    }

    /// As [`decode`](Self::decode), and faster when the frame is a plain request for `recipe`: that of
    /// the request before, as requests of a batch mostly name one.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    #[inline]
    pub fn decode_next(frame: &'a [u8], recipe: &'a str) -> Result<Self> {
        if let [9, fields @ ..] = frame
            && let Some(request) = Request::read_plain(fields, recipe)
        {
            return Ok(ClientFrame::Request(request));
        }
        Self::decode(frame)
    }

    /// What the frame is called, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            ClientFrame::Batch(_) => "Batch",
            ClientFrame::Attach(_) => "Attach",
            ClientFrame::Job(_) => "Job",
            ClientFrame::Produce(_) => "Produce",
            ClientFrame::Consume(_) => "Consume",
            ClientFrame::Topic(_) => "Topic",
            ClientFrame::Group(_) => "Group",
            ClientFrame::Work(_) => "Work",
            ClientFrame::Describe(_) => "Describe",
            ClientFrame::Request(_) => "Request",
            ClientFrame::Seal { .. } => "Seal",
            ClientFrame::Cancel(_) => "Cancel",
            ClientFrame::Detach => "Detach",
            ClientFrame::Fetch(_) => "Fetch",
            ClientFrame::Deliver(_) => "Deliver",
            ClientFrame::Message(_) => "Message",
            ClientFrame::Ack(_) => "Ack",
            ClientFrame::Nack(_) => "Nack",
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            ClientFrame::Batch(x) => {
                out.push(0);
                x.put(out);
            }
            ClientFrame::Attach(x) => {
                out.push(1);
                x.put(out);
            }
            ClientFrame::Job(x) => {
                out.push(2);
                x.put(out);
            }
            ClientFrame::Produce(x) => {
                out.push(3);
                x.put(out);
            }
            ClientFrame::Consume(x) => {
                out.push(4);
                x.put(out);
            }
            ClientFrame::Topic(x) => {
                out.push(5);
                x.put(out);
            }
            ClientFrame::Group(x) => {
                out.push(6);
                x.put(out);
            }
            ClientFrame::Work(x) => {
                out.push(7);
                x.put(out);
            }
            ClientFrame::Describe(x) => {
                out.push(8);
                x.put(out);
            }
            ClientFrame::Request(x) => {
                out.push(9);
                x.put(out);
            }
            ClientFrame::Seal { items } => {
                out.push(10);
                put_u64(out, *items);
            }
            ClientFrame::Cancel(scope) => {
                out.push(11);
                scope.put(out);
            }
            ClientFrame::Detach => out.push(12),
            ClientFrame::Fetch(x) => {
                out.push(13);
                x.put(out);
            }
            ClientFrame::Deliver(x) => {
                out.push(14);
                x.put(out);
            }
            ClientFrame::Message(x) => {
                out.push(15);
                x.put(out);
            }
            ClientFrame::Ack(x) => {
                out.push(16);
                x.put(out);
            }
            ClientFrame::Nack(x) => {
                out.push(17);
                x.put(out);
            }
        }
    }
}

/// A frame from the broker to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerFrame<'a> {
    /// The empty frame: the broker is alive and has nothing to say.
    Alive,
    /// 0: what was granted to a batch.
    Accepted(Accepted<'a>),
    /// 1: how far an item has come.
    Progress(Progress<'a>),
    /// 2: the end of an item.
    Result(ItemResult<'a>),
    /// 3: the stream is not read for now.
    Throttled(Throttled<'a>),
    /// 4: something is about to happen to the connection.
    Notice(Notice<'a>),
    /// 5: an item is a job now.
    JobAccepted(JobAccepted<'a>),
    /// 6: numbered frames may be missing.
    Gap(Gap<'a>),
    /// 7: the end of a batch.
    Summary(Summary<'a>),
    /// 8: the operation failed as a whole; its last frame.
    Error {
        /// A number of the table of codes.
        code: u16,
        /// Why.
        failure: Failure<'a>,
    },
    /// 9: answers `Describe`.
    Version(Version<'a>),
    /// 10: answers `Describe`, once a recipe.
    Recipe(Recipe<'a>),
    /// 11: answers `Describe`.
    Limits(Limits<'a>),
    /// 12: answers `Describe`.
    Usage(Usage<'a>),
    /// 13: the end of an answer, or of what there is to read.
    End,
    /// 14: what is known of one job.
    Job(JobInfo<'a>),
    /// 15: how many jobs were listed or changed.
    Jobs(Jobs<'a>),
    /// 16: what is known of one topic.
    Topic(TopicInfo<'a>),
    /// 17: what is known of one consumer group.
    Group(GroupInfo<'a>),
    /// 18: how many topics or groups were listed or changed.
    Listed(Listed<'a>),
    /// 19: what was granted to a stream that produces.
    ProduceAccepted(ProduceAccepted<'a>),
    /// 20: messages are on stable storage.
    Produced(Produced),
    /// 21: messages are with the broker, in memory.
    Received(Received),
    /// 22: a message was not appended.
    ProduceFailed(ProduceFailed<'a>),
    /// 23: what was granted to a stream that consumes.
    ConsumeAccepted(ConsumeAccepted<'a>),
    /// 24: a message of a topic.
    Delivery(Delivery<'a>),
    /// 25: the partitions that a member of a group has.
    Assigned(Assigned),
    /// 26: how far a group has come, on stable storage.
    Committed(Committed),
}

impl<'a> BrokerFrame<'a> {
    /// Decodes one frame, without its length prefix.
    ///
    /// # Errors
    /// [`DecodeError`], naming the field.
    #[inline]
    pub fn decode(frame: &'a [u8]) -> Result<Self> {
        if frame.is_empty() {
            return Ok(BrokerFrame::Alive);
        }
        let mut r = Reader::new(frame);
        let decoded = match r.variant("frame")? {
            2 => BrokerFrame::Result(ItemResult::read(&mut r)?),
            0 => BrokerFrame::Accepted(Accepted::read(&mut r)?),
            1 => BrokerFrame::Progress(Progress::read(&mut r)?),
            3 => BrokerFrame::Throttled(Throttled::read(&mut r)?),
            4 => BrokerFrame::Notice(Notice::read(&mut r)?),
            5 => BrokerFrame::JobAccepted(JobAccepted::read(&mut r)?),
            6 => BrokerFrame::Gap(Gap::read(&mut r)?),
            7 => BrokerFrame::Summary(Summary::read(&mut r)?),
            8 => BrokerFrame::Error { code: r.u16("code")?, failure: Failure::read(&mut r)? },
            9 => BrokerFrame::Version(Version::read(&mut r)?),
            10 => BrokerFrame::Recipe(Recipe::read(&mut r)?),
            11 => BrokerFrame::Limits(Limits::read(&mut r)?),
            12 => BrokerFrame::Usage(Usage::read(&mut r)?),
            13 => BrokerFrame::End,
            14 => BrokerFrame::Job(JobInfo::read(&mut r)?),
            15 => BrokerFrame::Jobs(Jobs::read(&mut r)?),
            16 => BrokerFrame::Topic(TopicInfo::read(&mut r)?),
            17 => BrokerFrame::Group(GroupInfo::read(&mut r)?),
            18 => BrokerFrame::Listed(Listed::read(&mut r)?),
            19 => BrokerFrame::ProduceAccepted(ProduceAccepted::read(&mut r)?),
            20 => BrokerFrame::Produced(Produced::read(&mut r)?),
            21 => BrokerFrame::Received(Received::read(&mut r)?),
            22 => BrokerFrame::ProduceFailed(ProduceFailed::read(&mut r)?),
            23 => BrokerFrame::ConsumeAccepted(ConsumeAccepted::read(&mut r)?),
            24 => BrokerFrame::Delivery(Delivery::read(&mut r)?),
            25 => BrokerFrame::Assigned(Assigned::read(&mut r)?),
            26 => BrokerFrame::Committed(Committed::read(&mut r)?),
            n => return Err(unknown(n)),
        };
        r.finish()?;
        Ok(decoded)
    }

    /// Whether nothing follows this frame on its stream.
    pub fn is_final(&self) -> bool {
        matches!(self, BrokerFrame::Summary(_) | BrokerFrame::Error { .. } | BrokerFrame::End)
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            BrokerFrame::Alive => {}
            BrokerFrame::Accepted(x) => {
                out.push(0);
                x.put(out);
            }
            BrokerFrame::Progress(x) => {
                out.push(1);
                x.put(out);
            }
            BrokerFrame::Result(x) => {
                out.push(2);
                x.put(out);
            }
            BrokerFrame::Throttled(x) => {
                out.push(3);
                x.put(out);
            }
            BrokerFrame::Notice(x) => {
                out.push(4);
                x.put(out);
            }
            BrokerFrame::JobAccepted(x) => {
                out.push(5);
                x.put(out);
            }
            BrokerFrame::Gap(x) => {
                out.push(6);
                x.put(out);
            }
            BrokerFrame::Summary(x) => {
                out.push(7);
                x.put(out);
            }
            BrokerFrame::Error { code, failure } => {
                out.push(8);
                put_u64(out, (*code).into());
                failure.put(out);
            }
            BrokerFrame::Version(x) => {
                out.push(9);
                x.put(out);
            }
            BrokerFrame::Recipe(x) => {
                out.push(10);
                x.put(out);
            }
            BrokerFrame::Limits(x) => {
                out.push(11);
                x.put(out);
            }
            BrokerFrame::Usage(x) => {
                out.push(12);
                x.put(out);
            }
            BrokerFrame::End => out.push(13),
            BrokerFrame::Job(x) => {
                out.push(14);
                x.put(out);
            }
            BrokerFrame::Jobs(x) => {
                out.push(15);
                x.put(out);
            }
            BrokerFrame::Topic(x) => {
                out.push(16);
                x.put(out);
            }
            BrokerFrame::Group(x) => {
                out.push(17);
                x.put(out);
            }
            BrokerFrame::Listed(x) => {
                out.push(18);
                x.put(out);
            }
            BrokerFrame::ProduceAccepted(x) => {
                out.push(19);
                x.put(out);
            }
            BrokerFrame::Produced(x) => {
                out.push(20);
                x.put(out);
            }
            BrokerFrame::Received(x) => {
                out.push(21);
                x.put(out);
            }
            BrokerFrame::ProduceFailed(x) => {
                out.push(22);
                x.put(out);
            }
            BrokerFrame::ConsumeAccepted(x) => {
                out.push(23);
                x.put(out);
            }
            BrokerFrame::Delivery(x) => {
                out.push(24);
                x.put(out);
            }
            BrokerFrame::Assigned(x) => {
                out.push(25);
                x.put(out);
            }
            BrokerFrame::Committed(x) => {
                out.push(26);
                x.put(out);
            }
        }
    }
}

pub(crate) fn unknown(n: u32) -> DecodeError {
    DecodeError::new("frame", Problem::UnknownVariant(n.into()))
}
