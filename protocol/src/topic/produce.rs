//! Appending to a topic: how such a stream begins, its messages, and what is said of each.

use crate::{
    batch::{Failure, plain_enum},
    codec::{DecodeError, Reader, Result, put_bool, put_bytes, put_option, put_str, put_u64},
    limits,
    pairs::{Extensions, Pairs},
};

plain_enum! {
    /// How far a message must have come before it is acknowledged.
    Acks, "acks" {
        /// It is on stable storage: `Produced` names its offset.
        Synced = 0,
        /// The broker has it in memory: `Received`, and a crash may lose it.
        Received = 1,
    }
}

/// Who produces: what makes a message that comes again known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Producer {
    /// The producer's own, for good: by convention a UUID.
    pub id: [u8; 16],
    /// Rises each time the producer begins anew, and its sequences with it: one with a lower epoch
    /// is refused from then on.
    pub epoch: u64,
}

impl Producer {
    fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Producer { id: r.array("producer.id")?, epoch: r.u64("producer.epoch")? })
    }

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id);
        put_u64(out, self.epoch);
    }
}

/// Appends to a topic: the first frame of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProduceOpen<'a> {
    /// Which topic.
    pub topic: &'a str,
    /// Gateways only: whose topic.
    pub tenant: Option<&'a str>,
    /// With it, a message that comes again is not appended again.
    pub producer: Option<Producer>,
    /// When messages are acknowledged.
    pub acks: Acks,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl<'a> ProduceOpen<'a> {
    /// Appends to a topic of one's own, acknowledged when synced.
    pub fn new(topic: &'a str) -> Self {
        let (tenant, producer, acks) = (None, None, Acks::Synced);
        ProduceOpen { topic, tenant, producer, acks, extensions: Extensions::EMPTY }
    }

    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(ProduceOpen {
            topic: r.str("topic", limits::TOPIC_NAME_BYTES_MAX)?,
            tenant: r.option("tenant", |r| r.str("tenant", limits::TENANT_ID_BYTES_MAX))?,
            producer: r.option("producer", Producer::read)?,
            acks: Acks::read(r)?,
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_str(out, self.topic);
        put_option(out, self.tenant, put_str);
        put_option(out, self.producer, |out, p| p.put(out));
        self.acks.put(out);
        self.extensions.put(out);
    }
}

/// One message to append. The payload is the last field, so that everything else is judged first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Strictly larger than every one before it on the stream; with a producer, than every one of
    /// its epoch that is not sent again.
    pub sequence: u64,
    /// Into which partition; without it the key decides, and without a key the sequence.
    pub partition: Option<u32>,
    /// When it happened, in milliseconds since the Unix epoch; without it, when it arrived.
    pub timestamp_unix_ms: Option<u64>,
    /// Messages of one key go into one partition, in their order.
    pub key: Option<&'a [u8]>,
    /// For who reads it.
    pub headers: Pairs<'a>,
    /// For who reads it.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// A message with nothing but a payload.
    pub fn new(sequence: u64, payload: &'a [u8]) -> Self {
        Message {
            sequence,
            partition: None,
            timestamp_unix_ms: None,
            key: None,
            headers: Pairs::EMPTY,
            payload,
        }
    }

    #[inline]
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        let sequence = r.u64("sequence")?;
        Self::read_rest(sequence, r).map_err(|e| DecodeError { item: Some(sequence), ..e })
    }

    #[inline]
    fn read_rest(sequence: u64, r: &mut Reader<'a>) -> Result<Self> {
        Ok(Message {
            sequence,
            partition: r.option("partition", |r| r.u32("partition"))?,
            timestamp_unix_ms: r.option("timestamp_unix_ms", |r| r.u64("timestamp_unix_ms"))?,
            key: r.option("key", |r| r.bytes("key", limits::MESSAGE_KEY_BYTES_MAX))?,
            headers: Pairs::read("headers", r)?,
            payload: r.bytes("payload", limits::FRAME_BYTES_HARD_MAX)?,
        })
    }

    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.sequence);
        put_option(out, self.partition, |out, p| put_u64(out, p.into()));
        put_option(out, self.timestamp_unix_ms, put_u64);
        put_option(out, self.key, put_bytes);
        self.headers.put(out);
        put_bytes(out, self.payload);
    }
}

/// What was granted to a stream that produces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProduceAccepted<'a> {
    /// Partitions of the topic: 0, 1 … below this.
    pub partitions: u32,
    /// Of the producer's epoch: the largest sequence that the topic has.
    pub last_sequence: Option<u64>,
    /// The largest frame, in bytes after the prefix.
    pub frame_bytes_max: u32,
    /// The largest payload, in bytes.
    pub payload_bytes_max: u64,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl<'a> ProduceAccepted<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(ProduceAccepted {
            partitions: r.u32("partitions")?,
            last_sequence: r.option("last_sequence", |r| r.u64("last_sequence"))?,
            frame_bytes_max: r.u32("frame_bytes_max")?,
            payload_bytes_max: r.u64("payload_bytes_max")?,
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.partitions.into());
        put_option(out, self.last_sequence, put_u64);
        put_u64(out, self.frame_bytes_max.into());
        put_u64(out, self.payload_bytes_max);
        self.extensions.put(out);
    }
}

/// Messages that are on stable storage: one, or several whose offsets follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// The sequence of the first.
    pub sequence: u64,
    /// How many: their sequences follow each other, and their offsets.
    pub count: u32,
    /// In which partition.
    pub partition: u32,
    /// The offset of the first.
    pub offset: u64,
    /// Whether they were there already, from the same producer.
    pub duplicate: bool,
}

impl Produced {
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Produced {
            sequence: r.u64("sequence")?,
            count: r.u32("count")?,
            partition: r.u32("partition")?,
            offset: r.u64("offset")?,
            duplicate: r.bool("duplicate")?,
        })
    }

    pub(crate) fn put(self, out: &mut Vec<u8>) {
        put_u64(out, self.sequence);
        put_u64(out, self.count.into());
        put_u64(out, self.partition.into());
        put_u64(out, self.offset);
        put_bool(out, self.duplicate);
    }
}

/// Every message up to this one is with the broker, in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The sequence of the last.
    pub sequence: u64,
}

impl Received {
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Received { sequence: r.u64("sequence")? })
    }

    pub(crate) fn put(self, out: &mut Vec<u8>) {
        put_u64(out, self.sequence);
    }
}

/// One message that was not appended; those after it go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProduceFailed<'a> {
    /// Its sequence.
    pub sequence: u64,
    /// A number of the table of codes.
    pub code: u16,
    /// Why.
    pub failure: Failure<'a>,
}

impl<'a> ProduceFailed<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(ProduceFailed {
            sequence: r.u64("sequence")?,
            code: r.u16("code")?,
            failure: Failure::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.sequence);
        put_u64(out, self.code.into());
        self.failure.put(out);
    }
}
