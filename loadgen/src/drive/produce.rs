//! One group of messages, from when it was due until the last is acknowledged: appended through the
//! client crate's producer, which keeps trying while the broker is away.

use std::time::Instant;

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::timeout;
use tollgate_client::{Message, Position, Producer, TopicError};

use super::{NO_ANSWER, Source};
use crate::{
    plan::Plan,
    record::{Outcome, nanos},
};

/// Messages of one operation that are handed over and not answered.
const WINDOW: usize = 4_096;

impl Source {
    /// Produces the messages of this number, and records it. True if all were acknowledged.
    pub(super) async fn produce(&self, number: u64, due: Instant, plan: &Plan) -> bool {
        let (_, items) = self.tenant.ids(number);
        let slot = plan.measured_in(due);
        let mut outcome =
            Outcome { item_ns: Vec::with_capacity(items as usize), ..Outcome::default() };
        let mut places = Vec::new();
        if self.is_read() {
            self.flow().sent(number, items, due, slot);
        }
        let append = self.append(number, due, &mut outcome, &mut places);
        if timeout(plan.limit, append).await.is_err() {
            outcome.errors.push((NO_ANSWER.into(), 1, false));
        }
        outcome.latency = due.elapsed();
        outcome.unanswered = items - outcome.item_ns.len() as u64;
        outcome.complete = outcome.succeeded == items;
        self.record(&outcome, slot);
        if outcome.complete && !self.is_read() {
            self.course.keep(places);
        }
        outcome.complete
    }

    async fn append(
        &self,
        number: u64,
        due: Instant,
        outcome: &mut Outcome,
        places: &mut Vec<(u64, Position)>,
    ) {
        let topic = self.topic();
        let (first, items) = self.tenant.ids(number);
        let (producer, turn) = match topic.producer(number).await {
            Ok(open) => open,
            Err(e) => {
                let mut flow = self.flow();
                // Nothing of it was handed over.
                (0..items).for_each(|at| flow.refused(number, at));
                return self.failed(&e, outcome);
            }
        };
        let mut waiting = FuturesUnordered::new();
        let mut next = 0;
        let mut over = false;
        loop {
            while next < items && waiting.len() < WINDOW {
                waiting.push(send(&producer, next, self.message(first + next)));
                next += 1;
            }
            let Some((at, answer)) = waiting.next().await else { break };
            match answer {
                Ok(position) => {
                    outcome.item_ns.push(nanos(due.elapsed()));
                    outcome.succeeded += 1;
                    outcome.bytes_in += self.len_of(first + at) as u64;
                    if self.is_read() {
                        self.flow().acknowledged(number, at, position);
                    } else {
                        places.push((first + at, position));
                    }
                }
                Err(e) => {
                    if let TopicError::Failed(failure) = &e {
                        outcome.item_ns.push(nanos(due.elapsed()));
                        if failure.side_effect_free && self.is_read() {
                            self.flow().refused(number, at);
                        }
                    }
                    over |= matches!(e, TopicError::Closed);
                    self.failed(&e, outcome);
                }
            }
        }
        if over {
            topic.give_up(number, turn).await;
        }
    }

    fn len_of(&self, id: u64) -> usize {
        self.tenant.recipe_of(id).1.payload.len_of(id)
    }

    fn message(&self, id: u64) -> Message {
        let len = self.len_of(id);
        let mut payload = Vec::with_capacity(len);
        self.links.answers.pattern.fill(id, len, &mut payload);
        Message::new(payload)
    }

    fn failed(&self, e: &TopicError, outcome: &mut Outcome) {
        outcome.wrong.protocol += u64::from(matches!(e, TopicError::Protocol(_)));
        let name = name(e);
        match outcome.errors.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, n, _)) => *n += 1,
            None => outcome.errors.push((name.into(), 1, self.allows(e.code()))),
        }
    }
}

async fn send(
    producer: &Producer,
    at: u64,
    message: Message,
) -> (u64, Result<Position, TopicError>) {
    (at, producer.send(message).await)
}

/// What an error of a topic is called.
pub(super) fn name(e: &TopicError) -> &'static str {
    match (e.code(), e) {
        (Some(code), _) => code.name(),
        (None, TopicError::Connect(_)) => "NOT_CONNECTED",
        (None, TopicError::Disconnected(_)) => "DISCONNECTED",
        (None, TopicError::OutOfReach { .. }) => "OUT_OF_REACH",
        (None, TopicError::Cut) => "CUT",
        (None, TopicError::Reset(_)) => "RESET",
        (None, TopicError::Protocol(_)) => "PROTOCOL",
        (None, TopicError::Closed) => "CLOSED",
        (None, _) => "OTHER",
    }
}
