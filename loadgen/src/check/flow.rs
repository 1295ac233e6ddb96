//! Messages on their way through a topic: every one that is acknowledged must be delivered, once and
//! at its place, in the order of its partition.
//!
//! Delivery is at least once: what is delivered again is counted, and wrong only below what was
//! committed. Keeps nothing of operations whose messages have all arrived.

use std::{collections::HashMap, time::Instant};

use tollgate_client::Position;
use tollgate_protocol::limits::TOPIC_PARTITIONS_MAX;

use super::{Answers, Wrong};
use crate::{pattern::ID_BYTES, scenario::Tenant};

/// What one tenant's messages in one run came to.
#[derive(Debug, Default)]
pub struct Flow {
    /// Operations with messages that may still be delivered, by number.
    open: HashMap<u64, Group>,
    /// Operations before this number are of an earlier run.
    first: u64,
    /// No operation of this number or a higher one was begun.
    end: u64,
    /// Of each partition: one more than the highest offset that was delivered.
    next: Vec<u64>,
    /// Messages that are acknowledged and not delivered.
    owed: u64,
    /// What was found wrong, until it is taken.
    pub wrong: Wrong,
    /// Messages that were delivered, each counted once.
    pub delivered: u64,
    /// Deliveries of a message after its first.
    pub redelivered: u64,
}

/// The messages of one operation.
#[derive(Debug)]
struct Group {
    due: Instant,
    slot: Option<usize>,
    messages: Vec<State>,
    /// Those that are not done.
    open: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Sent,
    Acknowledged(Position),
    Delivered(Position),
    Refused,
    /// Acknowledged and delivered.
    Done,
}

/// A message as a reader was given it.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    pub position: Position,
    /// The operation and the place in it that its payload names; nothing if it names none.
    pub message: Option<(u64, u64)>,
    /// Whether the payload is that message's, to the last byte.
    pub right: bool,
    /// How far the group is in its partition, as the reader was told before.
    pub committed: u64,
}

impl Told {
    /// Reads from a payload whose it is.
    pub fn of(tenant: &Tenant, answers: &Answers, position: Position, payload: &[u8]) -> Self {
        let mut told = Told { position, message: None, right: false, committed: 0 };
        let Some(id) = payload.first_chunk::<ID_BYTES>().map(|b| u64::from_le_bytes(*b)) else {
            return told;
        };
        let number = id / tenant.batch_items.max();
        let (first, items) = tenant.ids(number);
        if id - first < items {
            let len = tenant.recipe_of(id).1.payload.len_of(id);
            told.message = Some((number, id - first));
            told.right = answers.pattern.is_of(id, len, payload);
        }
        told
    }
}

impl Flow {
    /// A run whose operations have this number or a higher one.
    pub fn new(first: u64) -> Self {
        Flow { first, end: first, ..Flow::default() }
    }

    /// An operation begins: its messages may be delivered from now on.
    pub fn sent(&mut self, number: u64, items: u64, due: Instant, slot: Option<usize>) {
        self.end = self.end.max(number + 1);
        let messages = vec![State::Sent; items as usize];
        self.open.insert(number, Group { due, slot, messages, open: items });
    }

    /// A message was acknowledged.
    pub fn acknowledged(&mut self, number: u64, at: u64, position: Position) {
        match self.state(number, at) {
            State::Sent => {
                self.owed += 1;
                self.set(number, at, State::Acknowledged(position));
            }
            State::Delivered(there) => {
                self.wrong.protocol += u64::from(there != position);
                self.set(number, at, State::Done);
            }
            State::Acknowledged(_) | State::Refused | State::Done => self.wrong.duplicate += 1,
        }
        self.settle(number);
    }

    /// A message was refused, and is in no topic.
    pub fn refused(&mut self, number: u64, at: u64) {
        match self.state(number, at) {
            State::Sent => self.set(number, at, State::Refused),
            _ => self.wrong.protocol += 1,
        }
        self.settle(number);
    }

    /// A reader was given a message. When its operation was due, and in which slot it counts, if it
    /// is a message of this run that comes for the first time.
    pub fn delivered(&mut self, told: Told) -> Option<(Instant, Option<usize>)> {
        let Position { partition, offset } = told.position;
        let place = partition as usize;
        if partition >= TOPIC_PARTITIONS_MAX {
            self.wrong.protocol += 1;
            return None;
        }
        if self.next.len() <= place {
            self.next.resize(place + 1, 0);
        }
        let again = offset < self.next[place];
        self.next[place] = self.next[place].max(offset.saturating_add(1));
        let Some((number, at)) = told.message.filter(|(number, _)| *number < self.end) else {
            self.wrong.foreign += u64::from(!again);
            return None;
        };
        // What an earlier run sent and did not wait for.
        if number < self.first {
            return None;
        }
        self.wrong.payload += u64::from(!told.right);
        let state = self.state(number, at);
        match state {
            State::Sent => self.set(number, at, State::Delivered(told.position)),
            State::Acknowledged(there) => {
                self.owed -= 1;
                self.wrong.protocol += u64::from(there != told.position);
                self.set(number, at, State::Done);
            }
            State::Refused => {
                self.wrong.foreign += 1;
                return None;
            }
            State::Delivered(_) | State::Done => {
                // At a new place it was appended twice.
                let moved = matches!(state, State::Delivered(there) if there != told.position);
                let wrong = !again || moved || offset < told.committed;
                self.wrong.duplicate += u64::from(wrong);
                self.redelivered += 1;
                return None;
            }
        }
        // A first delivery behind one that came later in its partition.
        self.wrong.protocol += u64::from(again);
        self.delivered += 1;
        let known = self.open.get(&number).map(|group| (group.due, group.slot));
        self.settle(number);
        known
    }

    /// Messages that are acknowledged and not delivered: lost, once nothing more comes.
    pub fn owed(&self) -> u64 {
        self.owed
    }

    /// Of an operation that is not kept, all messages are done.
    fn state(&self, number: u64, at: u64) -> State {
        let state = self.open.get(&number).and_then(|group| group.messages.get(at as usize));
        state.copied().unwrap_or(State::Done)
    }

    fn set(&mut self, number: u64, at: u64, state: State) {
        let Some(group) = self.open.get_mut(&number) else { return };
        group.messages[at as usize] = state;
        if matches!(state, State::Done | State::Refused) {
            group.open -= 1;
        }
    }

    /// Forgets an operation whose messages are all done.
    fn settle(&mut self, number: u64) {
        if self.open.get(&number).is_some_and(|group| group.open == 0) {
            self.open.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Overrides, ScenarioFile};

    /// A run whose operations have three messages, and its first operation, 5.
    fn flow() -> Flow {
        let mut flow = Flow::new(5);
        flow.sent(5, 3, Instant::now(), Some(0));
        flow
    }

    fn at(offset: u64) -> Position {
        Position { partition: 1, offset }
    }

    fn told(message: (u64, u64), offset: u64) -> Told {
        Told { position: at(offset), message: Some(message), right: true, committed: 0 }
    }

    #[track_caller]
    fn wrong(flow: &Flow, wrong: Wrong) {
        assert_eq!(flow.wrong, wrong);
    }

    #[test]
    fn a_message_arrives_before_or_after_its_acknowledgement() {
        let mut flow = flow();
        flow.acknowledged(5, 0, at(10));
        assert_eq!(flow.owed(), 1);
        assert_eq!(flow.delivered(told((5, 0), 10)).map(|(_, slot)| slot), Some(Some(0)));
        assert!(flow.delivered(told((5, 1), 11)).is_some());
        flow.acknowledged(5, 1, at(11));
        // Refused, and so never delivered.
        flow.refused(5, 2);
        assert_eq!((flow.owed(), flow.delivered, flow.open.len()), (0, 2, 0));
        wrong(&flow, Wrong::default());
    }

    #[test]
    fn what_is_acknowledged_and_never_delivered_is_owed() {
        let mut flow = flow();
        (0..3).for_each(|n| flow.acknowledged(5, n, at(n)));
        flow.delivered(told((5, 0), 0));
        flow.delivered(told((5, 2), 2));
        assert_eq!(flow.owed(), 1);
    }

    #[test]
    fn a_redelivery_is_counted_and_wrong_only_once_it_was_committed() {
        let mut flow = flow();
        for n in 0..3 {
            flow.acknowledged(5, n, at(n));
            flow.delivered(told((5, n), n));
        }
        assert!(flow.delivered(Told { committed: 1, ..told((5, 1), 1) }).is_none());
        assert_eq!((flow.delivered, flow.redelivered), (3, 1));
        wrong(&flow, Wrong::default());
        flow.delivered(Told { committed: 2, ..told((5, 1), 1) });
        wrong(&flow, Wrong { duplicate: 1, ..Wrong::default() });
    }

    #[test]
    fn what_was_appended_twice_is_a_duplicate() {
        let mut flow = flow();
        flow.delivered(told((5, 0), 0));
        flow.delivered(told((5, 0), 1));
        wrong(&flow, Wrong { duplicate: 1, ..Wrong::default() });
        flow.acknowledged(5, 0, at(0));
        flow.delivered(told((5, 0), 2));
        wrong(&flow, Wrong { duplicate: 2, ..Wrong::default() });
    }

    #[test]
    fn order_place_and_payload_are_judged() {
        let mut late = flow();
        late.delivered(told((5, 1), 1));
        late.delivered(told((5, 0), 0));
        wrong(&late, Wrong { protocol: 1, ..Wrong::default() });
        let mut elsewhere = flow();
        elsewhere.acknowledged(5, 0, at(7));
        elsewhere.delivered(told((5, 0), 8));
        wrong(&elsewhere, Wrong { protocol: 1, ..Wrong::default() });
        let mut garbled = flow();
        garbled.delivered(Told { right: false, ..told((5, 0), 0) });
        wrong(&garbled, Wrong { payload: 1, ..Wrong::default() });
    }

    #[test]
    fn strangers_are_foreign_and_stragglers_of_an_earlier_run_are_not() {
        let mut flow = flow();
        flow.delivered(told((6, 0), 0));
        flow.delivered(Told { message: None, ..told((5, 0), 1) });
        wrong(&flow, Wrong { foreign: 2, ..Wrong::default() });
        flow.delivered(told((4, 0), 2));
        flow.refused(5, 0);
        wrong(&flow, Wrong { foreign: 2, ..Wrong::default() });
        flow.delivered(told((5, 0), 3));
        wrong(&flow, Wrong { foreign: 3, ..Wrong::default() });
    }

    #[test]
    fn a_payload_tells_whose_it_is() {
        let text = "[[tenants]]\ncerts = \"c\"\noperation = \"produce\"\nbatch_items = \"1..3\"";
        let file: ScenarioFile = toml::from_str(text).expect("TOML");
        let tenant = file.parse(Overrides::default()).expect("fine").tenants.remove(0);
        let answers = Answers::new(&tenant, 1);
        let (first, items) = tenant.ids(7);
        let mut payload = Vec::new();
        answers.pattern.fill(first + items - 1, 64, &mut payload);
        let of = |payload: &[u8]| Told::of(&tenant, &answers, at(0), payload);
        assert_eq!((of(&payload).message, of(&payload).right), (Some((7, items - 1)), true));
        payload[30] ^= 1;
        assert_eq!((of(&payload).message, of(&payload).right), (Some((7, items - 1)), false));
        assert_eq!(of(b"short").message, None);
    }
}
