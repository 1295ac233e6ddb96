//! A topic that nobody read meanwhile, after the load is over: the newest messages are read back, and
//! must be where they were acknowledged to be.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::timeout;
use tollgate_client::{Code, Consumer, Position, StartAt, TopicError};

use super::Source;
use crate::{
    check::{Told, Wrong},
    plan::Plan,
    scenario::Operation,
};

/// What became of a topic, besides latencies.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct TopicDone {
    /// Its name.
    pub name: String,
    /// Messages that readers were given, each counted once; the warm-up included.
    pub delivered: u64,
    /// Deliveries of a message after its first.
    pub redelivered: u64,
    /// Without readers: messages that were read back at the end...
    pub read_back: u64,
    /// ...and those that could not be.
    pub unread: u64,
}

impl Source {
    /// Reads back what there is, within the limit of an operation; what became of the topic, of a
    /// tenant that produces.
    pub(super) async fn read_back(&self, plan: &Plan) -> Option<TopicDone> {
        let Operation::Produce(_) = &self.tenant.operation else { return None };
        let mut done = TopicDone { name: self.topic().name.clone(), ..TopicDone::default() };
        {
            let flow = self.flow();
            (done.delivered, done.redelivered) = (flow.delivered, flow.redelivered);
        }
        let newest = self.course.newest();
        if newest.is_empty() {
            return Some(done);
        }
        let all = newest.len() as u64;
        let mut wanted: HashMap<Position, u64> = newest.iter().map(|(id, at)| (*at, *id)).collect();
        let mut wrong = Wrong {
            // Two that were acknowledged at one place.
            duplicate: all - wanted.len() as u64,
            ..Wrong::default()
        };
        let whole = match self.open_at(&wanted, plan.limit).await {
            Ok(consumer) => {
                let read = self.seek(consumer, &mut wanted, &mut wrong);
                timeout(plan.limit, read).await.unwrap_or(false)
            }
            // What is not there any more is read to its end.
            Err(e) => e.code() == Some(Code::NotFound),
        };
        let left = wanted.len() as u64;
        (wrong.lost, done.unread) = if whole { (left, 0) } else { (0, left) };
        done.read_back = all - wrong.duplicate - left;
        self.record.wrong(&wrong);
        Some(done)
    }

    /// A reader of each partition, from the first message that is wanted.
    async fn open_at(
        &self,
        wanted: &HashMap<Position, u64>,
        patience: Duration,
    ) -> Result<Consumer, TopicError> {
        let mut from = BTreeMap::new();
        for Position { partition, offset } in wanted.keys() {
            let first = from.entry(*partition).or_insert(*offset);
            *first = (*first).min(*offset);
        }
        let client = &self.links.clients[0];
        let mut consumer = client.consumer(self.topic().name.as_str()).from(StartAt::Latest);
        for (partition, offset) in from {
            consumer = consumer.offset(partition, offset);
        }
        consumer.until_end().patience(patience).open().await
    }

    /// Takes out of `wanted` what is found. True if everything was read.
    async fn seek(
        &self,
        mut consumer: Consumer,
        wanted: &mut HashMap<Position, u64>,
        wrong: &mut Wrong,
    ) -> bool {
        while let Some(message) = consumer.next().await {
            let Ok(message) = message else { return false };
            let answers = &self.links.answers;
            let told = Told::of(&self.tenant, answers, message.position(), &message.payload);
            let expected = wanted.remove(&told.position);
            let found = told.message.map(|(number, at)| self.tenant.ids(number).0 + at);
            match (expected, found) {
                (Some(id), Some(found)) if id == found => {
                    wrong.payload += u64::from(!told.right);
                }
                (Some(_), _) => wrong.payload += 1,
                (None, Some(_)) if told.right => {}
                (None, _) => wrong.foreign += 1,
            }
        }
        true
    }
}
