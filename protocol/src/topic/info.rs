//! What the broker knows of one topic, and what ends an answer that is about many things.

use super::{Retention, ask::read_topic};
use crate::{
    codec::{Reader, Result, put_option, put_str, put_u64},
    limits,
    pairs::Extensions,
};

/// One partition of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionInfo {
    /// The offset of the oldest message that is kept; `next` when there is none.
    pub first: u64,
    /// The offset that the next message will get.
    pub next: u64,
    /// What it holds of `storage_bytes`.
    pub bytes: u64,
}

impl PartitionInfo {
    fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(PartitionInfo {
            first: r.u64("partitions.first")?,
            next: r.u64("partitions.next")?,
            bytes: r.u64("partitions.bytes")?,
        })
    }

    fn put(self, out: &mut Vec<u8>) {
        put_u64(out, self.first);
        put_u64(out, self.next);
        put_u64(out, self.bytes);
    }
}

/// What the broker knows of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo<'a> {
    /// Its name.
    pub topic: &'a str,
    /// Every partition, in order.
    pub partitions: Vec<PartitionInfo>,
    /// How long messages are kept.
    pub retention: Retention,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_unix_ms: u64,
    /// Consumer groups that it has.
    pub groups: u32,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl<'a> TopicInfo<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(TopicInfo {
            topic: read_topic(r)?,
            partitions: {
                let n = r.count("partitions", limits::TOPIC_PARTITIONS_MAX as usize)?;
                (0..n).map(|_| PartitionInfo::read(r)).collect::<Result<_>>()?
            },
            retention: Retention::read(r)?,
            created_unix_ms: r.u64("created_unix_ms")?,
            groups: r.u32("groups")?,
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_str(out, self.topic);
        put_u64(out, self.partitions.len() as u64);
        self.partitions.iter().for_each(|p| p.put(out));
        self.retention.put(out);
        put_u64(out, self.created_unix_ms);
        put_u64(out, self.groups.into());
        self.extensions.put(out);
    }
}

/// Ends an answer about many topics or groups; `End` follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a> {
    /// How many were listed, or changed.
    pub count: u64,
    /// Of a list: the cursor of the next page, when there is one.
    pub next: Option<&'a str>,
}

impl<'a> Listed<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(Listed {
            count: r.u64("count")?,
            next: r.option("next", |r| r.str("next", limits::CURSOR_BYTES_MAX))?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.count);
        put_option(out, self.next, put_str);
    }
}
