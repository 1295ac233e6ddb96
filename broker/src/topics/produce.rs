//! Appending: from a stream to the owner, a handful at a time.

use std::sync::Arc;

use tokio::sync::oneshot;
use tollgate_protocol::{
    id::{BatchId, TopicName},
    topic::{Message, Producer},
};

use super::{
    Topics,
    message::{self, New, Produced},
    owner::{DEAD, fenced, no_such_partition},
    service::no_such_topic,
    shelf::{Append, Fate, NewMessage, Shelf},
    stopped,
};
use crate::{
    batch::Failure,
    tenancy::{BytesPermit, Tenant},
};

/// Somebody who appends to a topic.
pub(crate) struct Producing {
    shelf: Arc<Shelf>,
    topic: u32,
    pub partitions: u32,
    producer: Option<Producer>,
    /// Whose turn it is first: of each producer another one's, and always the same of one.
    turn: u32,
    /// The largest sequence of its epoch that the topic has.
    pub last_sequence: Option<u64>,
}

impl Drop for Producing {
    fn drop(&mut self) {
        let Some(Producer { id, .. }) = self.producer else { return };
        let mut state = self.shelf.lock();
        if let Some(streams) = state.producing.get_mut(&(self.topic, id)) {
            *streams -= 1;
            if *streams == 0 {
                state.producing.remove(&(self.topic, id));
            }
        }
    }
}

/// A message that has its partition and its bytes.
pub(crate) struct Ready(NewMessage);

impl Ready {
    /// Which one it is.
    pub(crate) fn sequence(&self) -> u64 {
        self.0.sequence
    }

    /// Bytes that it will take when it is kept.
    pub(crate) fn stored_len(&self) -> usize {
        self.0.body.len()
    }
}

impl Topics {
    /// Begins to append to a topic. The topic `inbox` is made when it is not there.
    ///
    /// # Errors
    /// `NOT_FOUND`; `VALIDATION_ERROR` for dead letters; `CONFLICT` when the producer has begun anew
    /// since.
    pub(crate) async fn produce(
        &self,
        tenant: &Arc<Tenant>,
        name: &TopicName,
        producer: Option<Producer>,
    ) -> Result<Producing, Failure> {
        if name.as_str().ends_with(DEAD) {
            let message = "dead letters are appended by the broker alone";
            return Err(Failure::validation("topic", message));
        }
        let shelf = self.0.open(tenant).await?;
        self.ensure_own(&shelf, name).await?;
        let mut state = shelf.lock();
        let topic = state.topics.find(name.as_str()).ok_or_else(no_such_topic)?;
        let (number, partitions) = (topic.number, topic.parts.len() as u32);
        let mut last_sequence = None;
        if let Some(Producer { id, epoch }) = producer {
            let newest = state.epochs.entry((number, id)).or_insert(epoch);
            if *newest > epoch {
                return Err(fenced(epoch, *newest));
            }
            *newest = epoch;
            *state.producing.entry((number, id)).or_default() += 1;
            let places =
                (0..partitions).filter_map(|partition| state.parts.get(&(number, partition)));
            let known = places.filter_map(|run| run.producers.get(&id));
            last_sequence = known.filter(|p| p.epoch == epoch).map(|p| p.last).max();
        }
        drop(state);
        let id = producer.map_or_else(|| BatchId::random().0, |producer| producer.id);
        let turn = crc32c::crc32c(&id);
        Ok(Producing { shelf, topic: number, partitions, producer, turn, last_sequence })
    }
}

impl Producing {
    /// Finds a message its partition, and copies it: exactly its bytes are kept.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` when there is no such partition.
    pub(crate) fn ready(&self, message: &Message<'_>) -> Result<Ready, Failure> {
        let partition = match (message.partition, message.key) {
            (Some(partition), _) if partition < self.partitions => partition,
            (Some(partition), _) => {
                return Err(no_such_partition(partition, self.partitions as usize));
            }
            (None, Some(key)) => crc32c::crc32c(key) % self.partitions,
            // The same one when it comes again.
            (None, None) => {
                let turn = u64::from(self.turn) + message.sequence % u64::from(self.partitions);
                (turn % u64::from(self.partitions)) as u32
            }
        };
        let sequence = message.sequence;
        let producer = self.producer.map(|Producer { id, epoch }| Produced { id, epoch, sequence });
        let body = message::encode(&New {
            timestamp: message.timestamp_unix_ms.unwrap_or_else(|| self.shelf.clock.now_ms()),
            producer,
            key: message.key,
            headers: message.headers,
            payload: message.payload,
        });
        Ok(Ready(NewMessage { sequence, partition, body }))
    }

    /// The id of a message that was appended.
    ///
    /// # Errors
    /// `NOT_FOUND` when it is gone again.
    pub(crate) async fn id_at(&self, partition: u32, offset: u64) -> Result<[u8; 16], Failure> {
        let body = super::reader::one(&self.shelf, (self.topic, partition), offset).await?;
        body.as_deref().and_then(message::id).ok_or_else(super::service::no_such_message)
    }

    /// Appends a handful: what becomes of each, once that is known. `room` is its share of what the
    /// tenant may have in flight.
    ///
    /// # Cancel safety
    /// What was handed over happens, whether it is waited for or not.
    pub(crate) fn append(&self, ready: Vec<Ready>, room: BytesPermit) -> Appended {
        let sequences = ready.iter().map(Ready::sequence).collect();
        let (answer, answered) = oneshot::channel();
        let messages = ready.into_iter().map(|ready| ready.0).collect();
        let producer = self.producer.map(|Producer { id, epoch }| (id, epoch));
        let append = Append { topic: self.topic, producer, messages, room, answer };
        self.shelf.send(super::shelf::Command::Append(append));
        Appended { sequences, answered, shelf: self.shelf.clone() }
    }
}

/// A handful whose end is waited for.
pub(crate) struct Appended {
    sequences: Vec<u64>,
    answered: oneshot::Receiver<Vec<Fate>>,
    shelf: Arc<Shelf>,
}

impl Appended {
    /// How many messages it is.
    pub(crate) fn len(&self) -> usize {
        self.sequences.len()
    }

    /// What became of it.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn fates(&mut self) -> Vec<Fate> {
        match (&mut self.answered).await {
            Ok(fates) => fates,
            Err(_) => {
                let failure = self.shelf.gone().unwrap_or_else(stopped);
                let refused = |sequence: &u64| Fate::Refused {
                    sequence: *sequence,
                    failure: failure.clone(),
                };
                self.sequences.iter().map(refused).collect()
            }
        }
    }
}
