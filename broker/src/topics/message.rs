//! A message as it is stored: a frozen layout, written once and handed on as it is.
//!
//! ```text
//!  16     1       8            32               2 + n         1       2 + n      the rest
//! +----+-------+------+---------------------+------------+---------+-----------+---------+
//! | id | flags | time | producer, epoch,    | length and | headers | length of | payload |
//! |    |       |      | sequence (flag 1)   | key (2)    | count   | all, all  |         |
//! +----+-------+------+---------------------+------------+---------+-----------+---------+
//! ```
//!
//! Numbers are little-endian. Headers stand as in a frame. The id is left open until the message
//! has its place.

use bytes::Bytes;
use tollgate_protocol::{Pairs, topic};

use super::record::BadRecord;

const PRODUCER: u8 = 1;
const KEY: u8 = 2;
const ID: usize = 16;
const HEAD: usize = ID + 1 + 8;

/// What a message is made of, but for its id.
#[derive(Debug, Clone, Copy)]
pub(super) struct New<'a> {
    pub timestamp: u64,
    pub producer: Option<Produced>,
    pub key: Option<&'a [u8]>,
    pub headers: Pairs<'a>,
    pub payload: &'a [u8],
}

/// Who produced a message, and as which of its.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Produced {
    pub id: [u8; 16],
    pub epoch: u64,
    pub sequence: u64,
}

/// The bytes of a message that has no place yet: exactly as many as they need.
pub(super) fn encode(new: &New<'_>) -> Vec<u8> {
    let (count, headers) = new.headers.encoded();
    let producer = new.producer.map_or(0, |_| 32);
    let key = new.key.map_or(0, |key| 2 + key.len());
    let len = HEAD + producer + key + 3 + headers.len() + new.payload.len();
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(&[0; ID]);
    let flag = |is: bool, flag| if is { flag } else { 0 };
    out.push(flag(new.producer.is_some(), PRODUCER) | flag(new.key.is_some(), KEY));
    out.extend_from_slice(&new.timestamp.to_le_bytes());
    if let Some(Produced { id, epoch, sequence }) = new.producer {
        out.extend_from_slice(&id);
        out.extend_from_slice(&epoch.to_le_bytes());
        out.extend_from_slice(&sequence.to_le_bytes());
    }
    // The bounds of the wire are far below what these lengths can say.
    if let Some(key) = new.key {
        out.extend_from_slice(&(key.len() as u16).to_le_bytes());
        out.extend_from_slice(key);
    }
    out.push(count as u8);
    out.extend_from_slice(&(headers.len() as u16).to_le_bytes());
    out.extend_from_slice(headers);
    out.extend_from_slice(new.payload);
    debug_assert_eq!(out.len(), len);
    out
}

/// Gives a message its id: it has its place now.
pub(super) fn seal(mut body: Vec<u8>, id: [u8; 16]) -> Bytes {
    body[..ID].copy_from_slice(&id);
    body.into()
}

/// A message, read where it lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub id: [u8; 16],
    pub timestamp: u64,
    pub producer: Option<Produced>,
    pub key: Option<&'a [u8]>,
    pub headers: Pairs<'a>,
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a message.
    pub(super) fn parse(body: &'a [u8]) -> Result<Message<'a>, BadRecord> {
        let mut rest = Rest(body);
        let id = rest.array()?;
        let [flags] = rest.array()?;
        let timestamp = u64::from_le_bytes(rest.array()?);
        let producer = if flags & PRODUCER == 0 {
            None
        } else {
            let (id, epoch, sequence) = (rest.array()?, rest.array()?, rest.array()?);
            let (epoch, sequence) = (u64::from_le_bytes(epoch), u64::from_le_bytes(sequence));
            Some(Produced { id, epoch, sequence })
        };
        let key = if flags & KEY == 0 { None } else { Some(rest.counted()?) };
        let [count] = rest.array()?;
        let headers = rest.counted()?;
        let headers = Pairs::from_encoded(count.into(), headers).map_err(|_| BadRecord::Message)?;
        Ok(Message { id, timestamp, producer, key, headers, payload: rest.0 })
    }

    /// As it is told to whoever reads it.
    pub(super) fn delivery(&self, partition: u32, offset: u64, deliveries: u32) -> Told<'a> {
        topic::Delivery {
            partition,
            offset,
            id: self.id,
            timestamp_unix_ms: self.timestamp,
            deliveries,
            key: self.key,
            headers: self.headers,
            payload: self.payload,
        }
    }
}

type Told<'a> = topic::Delivery<'a>;

/// The id of a stored message, if it is one.
pub(super) fn id(body: &[u8]) -> Option<[u8; 16]> {
    body.first_chunk().copied()
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadRecord> {
        let (array, rest) = self.0.split_first_chunk().ok_or(BadRecord::Message)?;
        self.0 = rest;
        Ok(*array)
    }

    fn counted(&mut self) -> Result<&'a [u8], BadRecord> {
        let len = usize::from(u16::from_le_bytes(self.array()?));
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(BadRecord::Message)?;
        self.0 = rest;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use tollgate_protocol::PairsBuf;

    use super::*;

    #[test]
    fn a_message_leads_back() {
        let mut headers = PairsBuf::new();
        headers.push("a", "1").expect("short");
        headers.push("b", "").expect("short");
        let producer = Produced { id: [9; 16], epoch: 3, sequence: u64::MAX };
        let full = New {
            timestamp: 77,
            producer: Some(producer),
            key: Some(b"key"),
            headers: headers.as_pairs(),
            payload: b"hello",
        };
        let body = seal(encode(&full), [5; 16]);
        let read = Message::parse(&body).expect("it is one");
        assert_eq!((read.id, read.timestamp, read.producer), ([5; 16], 77, Some(producer)));
        assert_eq!((read.key, read.payload), (Some(&b"key"[..]), &b"hello"[..]));
        assert_eq!(read.headers, headers.as_pairs());
        for end in 0..body.len() - 5 {
            assert!(Message::parse(&body[..end]).is_err(), "cut at {end}");
        }
        let least =
            New { timestamp: 0, producer: None, key: None, headers: Pairs::EMPTY, payload: b"" };
        let body = seal(encode(&least), [0; 16]);
        assert_eq!(body.len(), 28);
        assert_eq!(Message::parse(&body).expect("it is one").key, None);
    }
}
