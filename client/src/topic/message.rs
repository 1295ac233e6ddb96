//! Messages, on their way to a topic and from it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tollgate_protocol::{PairsBuf, id::MessageId, topic};

use crate::{error::TopicError, item::Metadata};

/// A message to be appended.
///
/// ```
/// use tollgate_client::Message;
///
/// let message = Message::new("hello").key("customer-7").header("kind", "greeting");
/// # let _ = message;
/// ```
#[derive(Debug, Clone, Default)]
pub struct Message {
    payload: Bytes,
    key: Option<Bytes>,
    headers: PairsBuf,
    partition: Option<u32>,
    timestamp_unix_ms: Option<u64>,
    /// Set when a header has no place.
    bad: Option<Box<str>>,
}

impl Message {
    /// A message with this payload.
    pub fn new(payload: impl Into<Bytes>) -> Message {
        Message { payload: payload.into(), ..Message::default() }
    }

    /// Messages of one key go into one partition, in their order. At most 1 024 bytes.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Message {
        self.key = Some(key.into());
        self
    }

    /// For who reads it. At most 64 headers; see the specification for their lengths.
    #[must_use]
    pub fn header(mut self, key: &str, value: &str) -> Message {
        if let Err(e) = self.headers.push(key, value) {
            self.bad.get_or_insert(format!("header {key:?}: {e}").into());
        }
        self
    }

    /// Into this partition, whatever its key.
    #[must_use]
    pub fn partition(mut self, partition: u32) -> Message {
        self.partition = Some(partition);
        self
    }

    /// When it happened: when it arrived, otherwise.
    #[must_use]
    pub fn timestamp(mut self, at: SystemTime) -> Message {
        let ms = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.timestamp_unix_ms = Some(u64::try_from(ms).unwrap_or(u64::MAX));
        self
    }

    pub(super) fn check(&self) -> Result<(), TopicError> {
        match &self.bad {
            Some(bad) => Err(TopicError::Invalid(bad.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The frame, but for its payload when that is handed over apart.
    pub(super) fn wire(&self, sequence: u64) -> topic::Message<'_> {
        topic::Message {
            sequence,
            partition: self.partition,
            timestamp_unix_ms: self.timestamp_unix_ms,
            key: self.key.as_deref(),
            headers: self.headers.as_pairs(),
            payload: &self.payload,
        }
    }

    /// Bytes that it takes, roughly.
    pub(super) fn size(&self) -> usize {
        self.payload.len() + self.key.as_ref().map_or(0, Bytes::len) + 64
    }
}

impl<T: Into<Bytes>> From<T> for Message {
    fn from(payload: T) -> Message {
        Message::new(payload)
    }
}

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// In which partition.
    pub partition: u32,
    /// Its place there.
    pub offset: u64,
}

/// A message of a topic.
#[derive(Debug, Clone)]
pub struct ReceivedMessage {
    /// In which partition it is.
    pub partition: u32,
    /// Its place there.
    pub offset: u64,
    /// Its id: rises within the partition.
    pub id: MessageId,
    /// When it happened, as its producer said, or when it arrived.
    pub timestamp: SystemTime,
    /// In a group, how often it was delivered, this time included; 0 otherwise.
    pub deliveries: u32,
    /// Its key.
    pub key: Option<Bytes>,
    /// From its producer.
    pub headers: Metadata,
    /// From its producer.
    pub payload: Bytes,
}

impl ReceivedMessage {
    /// Where it is.
    pub fn position(&self) -> Position {
        Position { partition: self.partition, offset: self.offset }
    }

    pub(super) fn own(d: &topic::Delivery<'_>, backing: Option<&Bytes>) -> ReceivedMessage {
        let payload = match backing {
            Some(whole) => whole.slice(whole.len() - d.payload.len()..),
            None => Bytes::copy_from_slice(d.payload),
        };
        ReceivedMessage {
            partition: d.partition,
            offset: d.offset,
            id: MessageId(d.id),
            timestamp: UNIX_EPOCH
                .checked_add(Duration::from_millis(d.timestamp_unix_ms))
                .unwrap_or(UNIX_EPOCH),
            deliveries: d.deliveries,
            key: d.key.map(Bytes::copy_from_slice),
            headers: Metadata::own(&d.headers),
            payload,
        }
    }
}
