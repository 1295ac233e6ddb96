//! Reading a topic: how such a stream begins, what is delivered, and what is said of it.

use crate::{
    codec::{
        DecodeError, Problem, Reader, Result, put_bool, put_bytes, put_option, put_str, put_u64,
    },
    limits,
    pairs::{Extensions, Pairs},
};

/// Where reading begins, in each partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StartAt {
    /// 0: at the oldest message that is kept.
    Earliest,
    /// 1: after the newest one there is now.
    Latest,
    /// 2: at this offset, or the oldest after it.
    Offset(u64),
    /// 3: at the first message that was appended at or after this time, in milliseconds since the
    /// Unix epoch.
    Time(u64),
}

impl StartAt {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self> {
        match r.variant("from")? {
            0 => Ok(StartAt::Earliest),
            1 => Ok(StartAt::Latest),
            2 => Ok(StartAt::Offset(r.u64("from.offset")?)),
            3 => Ok(StartAt::Time(r.u64("from.time")?)),
            n => Err(DecodeError::new("from", Problem::UnknownVariant(n.into()))),
        }
    }

    pub(super) fn put(self, out: &mut Vec<u8>) {
        match self {
            StartAt::Earliest => out.push(0),
            StartAt::Latest => out.push(1),
            StartAt::Offset(offset) => {
                out.push(2);
                put_u64(out, offset);
            }
            StartAt::Time(at) => {
                out.push(3);
                put_u64(out, at);
            }
        }
    }
}

/// Reads a topic: the first frame of its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumeOpen<'a> {
    /// Which topic.
    pub topic: &'a str,
    /// Gateways only: whose topic.
    pub tenant: Option<&'a str>,
    /// Only this partition; not for members of a group.
    pub partition: Option<u32>,
    /// Where to begin; for a group, where it has no position yet.
    pub from: StartAt,
    /// Partitions that begin at an offset of their own; not for members of a group.
    pub offsets: Vec<(u32, u64)>,
    /// As a member of this consumer group, which is made when it is not there.
    pub group: Option<&'a str>,
    /// Members only: a message that is not acknowledged for so long is delivered again, in
    /// milliseconds; 0: 30 s.
    pub ack_timeout_ms: u64,
    /// Members only: messages delivered and not acknowledged at once; 0: 1 000.
    pub in_flight_max: u32,
    /// Whether to go on with what comes; without it the stream ends with what there is.
    pub follow: bool,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl<'a> ConsumeOpen<'a> {
    /// Reads every partition of a topic of one's own from its beginning, and goes on.
    pub fn new(topic: &'a str) -> Self {
        ConsumeOpen {
            topic,
            tenant: None,
            partition: None,
            from: StartAt::Earliest,
            offsets: Vec::new(),
            group: None,
            ack_timeout_ms: 0,
            in_flight_max: 0,
            follow: true,
            extensions: Extensions::EMPTY,
        }
    }

    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(ConsumeOpen {
            topic: r.str("topic", limits::TOPIC_NAME_BYTES_MAX)?,
            tenant: r.option("tenant", |r| r.str("tenant", limits::TENANT_ID_BYTES_MAX))?,
            partition: r.option("partition", |r| r.u32("partition"))?,
            from: StartAt::read(r)?,
            offsets: {
                let n = r.count("offsets", limits::TOPIC_PARTITIONS_MAX as usize)?;
                (0..n)
                    .map(|_| Ok((r.u32("offsets.partition")?, r.u64("offsets.offset")?)))
                    .collect::<Result<_>>()?
            },
            group: r.option("group", |r| r.str("group", limits::GROUP_NAME_BYTES_MAX))?,
            ack_timeout_ms: r.u64("ack_timeout_ms")?,
            in_flight_max: r.u32("in_flight_max")?,
            follow: r.bool("follow")?,
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_str(out, self.topic);
        put_option(out, self.tenant, put_str);
        put_option(out, self.partition, |out, p| put_u64(out, p.into()));
        self.from.put(out);
        put_u64(out, self.offsets.len() as u64);
        for (partition, offset) in &self.offsets {
            put_u64(out, (*partition).into());
            put_u64(out, *offset);
        }
        put_option(out, self.group, put_str);
        put_u64(out, self.ack_timeout_ms);
        put_u64(out, self.in_flight_max.into());
        put_bool(out, self.follow);
        self.extensions.put(out);
    }
}

/// What was granted to a stream that consumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumeAccepted<'a> {
    /// Partitions of the topic: 0, 1 … below this.
    pub partitions: u32,
    /// Members only: after how many milliseconds a message is delivered again.
    pub ack_timeout_ms: u64,
    /// Members only: messages that may be unacknowledged at once.
    pub in_flight_max: u32,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl<'a> ConsumeAccepted<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(ConsumeAccepted {
            partitions: r.u32("partitions")?,
            ack_timeout_ms: r.u64("ack_timeout_ms")?,
            in_flight_max: r.u32("in_flight_max")?,
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.partitions.into());
        put_u64(out, self.ack_timeout_ms);
        put_u64(out, self.in_flight_max.into());
        self.extensions.put(out);
    }
}

/// A message of a topic. The payload is the last field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// In which partition it is.
    pub partition: u32,
    /// Its place there.
    pub offset: u64,
    /// Its id: a UUID of version 7 that rises within the partition.
    pub id: [u8; 16],
    /// When it happened, as its producer said, or when it arrived; milliseconds since the Unix
    /// epoch.
    pub timestamp_unix_ms: u64,
    /// Members only: how often it was delivered, this time included; otherwise 0.
    pub deliveries: u32,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// From its producer.
    pub headers: Pairs<'a>,
    /// From its producer.
    pub payload: &'a [u8],
}

impl<'a> Delivery<'a> {
    #[inline]
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(Delivery {
            partition: r.u32("partition")?,
            offset: r.u64("offset")?,
            id: r.array("id")?,
            timestamp_unix_ms: r.u64("timestamp_unix_ms")?,
            deliveries: r.u32("deliveries")?,
            key: r.option("key", |r| r.bytes("key", limits::MESSAGE_KEY_BYTES_MAX))?,
            headers: Pairs::read("headers", r)?,
            payload: r.bytes("payload", limits::FRAME_BYTES_HARD_MAX)?,
        })
    }

    #[inline]
    pub(crate) fn put_head(&self, out: &mut Vec<u8>) {
        put_u64(out, self.partition.into());
        put_u64(out, self.offset);
        out.extend_from_slice(&self.id);
        put_u64(out, self.timestamp_unix_ms);
        put_u64(out, self.deliveries.into());
        put_option(out, self.key, put_bytes);
        self.headers.put(out);
    }

    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.put_head(out);
        put_bytes(out, self.payload);
    }
}

/// Messages that a member of a group is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// In which partition.
    pub partition: u32,
    /// The offset of the first.
    pub first: u64,
    /// The offset of the last.
    pub last: u64,
}

/// Messages that a member of a group could not do: they are delivered again, at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nack {
    /// In which partition.
    pub partition: u32,
    /// The offset of the first.
    pub first: u64,
    /// The offset of the last.
    pub last: u64,
}

fn read_range(r: &mut Reader<'_>) -> Result<(u32, u64, u64)> {
    Ok((r.u32("partition")?, r.u64("first")?, r.u64("last")?))
}

fn put_range(out: &mut Vec<u8>, partition: u32, first: u64, last: u64) {
    put_u64(out, partition.into());
    put_u64(out, first);
    put_u64(out, last);
}

impl Ack {
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        let (partition, first, last) = read_range(r)?;
        Ok(Ack { partition, first, last })
    }

    pub(crate) fn put(self, out: &mut Vec<u8>) {
        put_range(out, self.partition, self.first, self.last);
    }
}

impl Nack {
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        let (partition, first, last) = read_range(r)?;
        Ok(Nack { partition, first, last })
    }

    pub(crate) fn put(self, out: &mut Vec<u8>) {
        put_range(out, self.partition, self.first, self.last);
    }
}

/// The partitions that a member of a group has from now on: all of them, each time they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// Rises with every change of the group's members.
    pub generation: u64,
    /// Which partitions, in their order.
    pub partitions: Vec<u32>,
}

impl Assigned {
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Assigned {
            generation: r.u64("generation")?,
            partitions: {
                let n = r.count("partitions", limits::TOPIC_PARTITIONS_MAX as usize)?;
                (0..n).map(|_| r.u32("partitions")).collect::<Result<_>>()?
            },
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.generation);
        put_u64(out, self.partitions.len() as u64);
        self.partitions.iter().for_each(|p| put_u64(out, (*p).into()));
    }
}

/// How far a group has come in a partition, on stable storage: every message before `position` is
/// acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// In which partition.
    pub partition: u32,
    /// The lowest offset that is not acknowledged.
    pub position: u64,
}

impl Committed {
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Committed { partition: r.u32("partition")?, position: r.u64("position")? })
    }

    pub(crate) fn put(self, out: &mut Vec<u8>) {
        put_u64(out, self.partition.into());
        put_u64(out, self.position);
    }
}
