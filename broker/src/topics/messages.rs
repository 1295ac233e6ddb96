//! Single messages: found by their id, listed a page at a time, deleted.

use std::sync::Arc;

use tollgate_protocol::id::TopicName;

use super::{
    Topics,
    ask::done,
    consume::Got,
    reader,
    service::{no_such_message, no_such_topic},
    shelf::Command,
};
use crate::{batch::Failure, store::Page, tenancy::Tenant};

/// A message, and which topic it is of.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub topic: TopicName,
    pub got: Got,
}

/// A page of a topic's messages.
#[derive(Debug, Clone)]
pub(crate) struct Messages {
    pub messages: Vec<Got>,
    /// Where the next page begins, when there is more.
    pub next: Option<String>,
}

/// Where a page begins: of a topic by its number, in each partition.
struct Cursor {
    topic: u32,
    at: Vec<u64>,
}

impl Cursor {
    /// As text, opaque to whoever gets it: positions stay valid while messages come and go.
    fn write(&self) -> String {
        let bytes = postcard::to_allocvec(&(self.topic, &self.at)).expect("numbers always encode");
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn read(text: &str) -> Option<Cursor> {
        let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(pair).collect();
        let (topic, at) = postcard::from_bytes(&bytes?).ok()?;
        Some(Cursor { topic, at })
    }
}

impl Topics {
    /// A message by its id.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) async fn message(
        &self,
        tenant: &Arc<Tenant>,
        id: [u8; 16],
    ) -> Result<Message, Failure> {
        let shelf = self.0.open(tenant).await?;
        let found = reader::find(&shelf, id).await?;
        let ((topic, partition), found) = found.ok_or_else(no_such_message)?;
        let name = shelf.lock().topics.get(topic).map(|topic| topic.name.clone());
        let (offset, body) = (found.offset, found.body);
        let got = Got { partition, offset, deliveries: 0, body };
        Ok(Message { topic: name.ok_or_else(no_such_message)?, got })
    }

    /// Deletes a message by its id: nobody reads it any more. Its bytes are given back once all
    /// before it are gone.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) async fn delete_message(
        &self,
        tenant: &Arc<Tenant>,
        id: [u8; 16],
    ) -> Result<(), Failure> {
        let shelf = self.0.open(tenant).await?;
        let found = reader::find(&shelf, id).await?;
        let (place, found) = found.ok_or_else(no_such_message)?;
        let offset = found.offset;
        done(&shelf, |answer| Command::DeleteMessage { place, offset, answer }).await
    }

    /// Messages of a topic, partition after partition in the order of their offsets: at most
    /// `limit`, and about a MiB.
    ///
    /// # Errors
    /// `NOT_FOUND`; `VALIDATION_ERROR` for a cursor that is none, or of another topic.
    pub(crate) async fn messages(
        &self,
        tenant: &Arc<Tenant>,
        name: &TopicName,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Messages, Failure> {
        const BYTES_MAX: usize = 1 << 20;
        let shelf = self.0.open(tenant).await?;
        self.ensure_own(&shelf, name).await?;
        let (topic, partitions) = {
            let state = shelf.lock();
            let topic = state.topics.find(name.as_str()).ok_or_else(no_such_topic)?;
            (topic.number, topic.parts.len())
        };
        let mut cursor = match cursor {
            None => Cursor { topic, at: vec![0; partitions] },
            Some(text) => Cursor::read(text)
                .filter(|cursor| cursor.topic == topic && cursor.at.len() == partitions)
                .ok_or_else(|| {
                    Failure::validation(
                        "cursor",
                        "this is no cursor that a list of this topic gave",
                    )
                })?,
        };
        let (mut messages, mut bytes, mut more) = (Vec::new(), 0, false);
        for partition in 0..partitions as u32 {
            let place = (topic, partition);
            let at = &mut cursor.at[partition as usize];
            loop {
                let (_, next) = reader::ends(&shelf, place)?;
                if *at >= next {
                    break;
                }
                if messages.len() >= limit || bytes >= BYTES_MAX {
                    more = true;
                    break;
                }
                let count_max = limit - messages.len();
                let page = Page { count_max, bytes_max: BYTES_MAX - bytes };
                let read = reader::read(&shelf, place, *at, page).await?;
                *at = read.next;
                for found in read.messages {
                    bytes += found.body.len();
                    let (offset, body) = (found.offset, found.body);
                    messages.push(Got { partition, offset, deliveries: 0, body });
                }
            }
        }
        Ok(Messages { messages, next: more.then(|| cursor.write()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_and_nothing_else_is_one() {
        let cursor = Cursor { topic: 9, at: vec![0, 300, u64::MAX] };
        let read = Cursor::read(&cursor.write()).expect("it is one");
        assert_eq!((read.topic, read.at), (9, vec![0, 300, u64::MAX]));
        for bad in ["", "zz", "0", "ffffffffffffffffff", "00é0", "0001"] {
            assert!(Cursor::read(bad).is_none(), "{bad}");
        }
    }
}
