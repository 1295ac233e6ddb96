//! What is known of one tenant's topics, and the way to whoever changes it.
//!
//! One owner writes (`owner`), everyone reads, under one lock that is never held across an await.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use foldhash::{HashMap, HashSet};
use tokio::sync::{Notify, oneshot, watch};
use tollgate_protocol::id::{GroupName, TopicName};

use super::record::Key;
use crate::{
    batch::Failure,
    clock::Clock,
    rules::topic::{At, Binding, Event, Producers, Retention, Topics, group::Group, id::Last},
    store::Scope,
    tenancy::{BytesPermit, Tenant},
};

/// The topics of one tenant.
pub(super) struct Shelf {
    pub tenant: Arc<Tenant>,
    pub scope: Scope,
    pub clock: Clock,
    state: Mutex<State>,
    commands: Mutex<VecDeque<Command>>,
    pub bell: Notify,
    /// Commands that were sent and are not decided, applied and answered.
    under_way: Arc<AtomicUsize>,
    pub phase: watch::Sender<Phase>,
}

/// How far the topics are.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// They are being read.
    Loading,
    /// They can be asked for.
    Open,
    /// They can not be used any more, or could not be read.
    Gone(Failure),
}

/// A partition: its topic's number, and its place there.
pub(super) type Place = (u32, u32);

/// What the lock guards.
pub(super) struct State {
    pub topics: Topics,
    pub parts: HashMap<Place, Run>,
    /// Who waits for messages of a topic.
    pub tails: HashMap<u32, Arc<Notify>>,
    pub groups: HashMap<(u32, GroupName), Live>,
    /// Bindings whose reader is there.
    pub awake: HashSet<(u32, GroupName)>,
    /// The newest epoch of each producer of a topic.
    pub epochs: HashMap<(u32, [u8; 16]), u64>,
    /// Streams of each producer of a topic.
    pub producing: HashMap<(u32, [u8; 16]), usize>,
    /// Bytes of all messages that are kept.
    pub bytes: u64,
    pub recent: Recent,
    /// What the view of the events does not know yet.
    pub dirty: HashSet<Key>,
}

/// A partition while it is known.
pub(super) struct Run {
    /// The offset of the next message.
    pub next: u64,
    /// Bytes of all messages that ever were in it.
    pub bytes: u64,
    pub last: Last,
    pub producers: Producers,
    /// Producers that its view does not know as they are.
    pub dirty: HashSet<[u8; 16]>,
    /// Messages since its view was brought up to date.
    pub since: u64,
    /// The messages before this are in its view.
    pub viewed: u64,
    /// When the oldest message that is kept was appended, and which one that is, once it was looked
    /// up.
    pub oldest: Option<(u64, At)>,
    /// The newest messages, the last at the end.
    recent: VecDeque<Bytes>,
}

/// A group that has members, or had some.
pub(super) struct Live {
    pub group: Group,
    /// Who waits for something to happen to the group.
    pub bell: Arc<Notify>,
}

/// Which partitions the newest messages are of, the oldest first, and how many bytes they have.
#[derive(Debug, Default)]
pub(super) struct Recent {
    order: VecDeque<Place>,
    bytes: usize,
    bytes_max: usize,
}

impl Run {
    pub(super) fn new(next: u64, bytes: u64, last: Last, producers: Producers) -> Run {
        Run {
            next,
            bytes,
            last,
            producers,
            dirty: HashSet::default(),
            since: 0,
            viewed: 0,
            oldest: None,
            recent: VecDeque::new(),
        }
    }

    /// The messages in memory from this offset on; none when it is not among them.
    pub(super) fn recent_from(&self, offset: u64) -> Option<impl Iterator<Item = (u64, &Bytes)>> {
        let first = self.next - self.recent.len() as u64;
        let skip = offset.checked_sub(first)?;
        Some((first..).zip(&self.recent).skip(skip as usize))
    }
}

/// What every answer to a change says.
pub(super) type Answer = oneshot::Sender<Result<(), Failure>>;

/// What the owner is asked to do.
pub(super) enum Command {
    Append(Append),
    Create {
        name: TopicName,
        partitions: u32,
        retention: Retention,
        /// Whether it is the broker's own doing: it does not count, and may be there.
        own: bool,
        answer: Answer,
    },
    Keep {
        name: TopicName,
        retention: Retention,
        answer: Answer,
    },
    Delete {
        name: TopicName,
        answer: Answer,
    },
    DeleteMessage {
        place: Place,
        offset: u64,
        answer: Answer,
    },
    CreateGroup {
        topic: u32,
        group: GroupName,
        positions: Vec<u64>,
        answer: Answer,
    },
    DeleteGroup {
        topic: u32,
        group: GroupName,
        answer: Answer,
    },
    MoveGroup {
        topic: u32,
        group: GroupName,
        positions: Vec<(u32, u64)>,
        answer: Answer,
    },
    Acked {
        topic: u32,
        group: GroupName,
        partition: u32,
        ranges: Vec<(u64, u64)>,
        told: Option<Arc<Told>>,
    },
    Bind {
        topic: u32,
        name: GroupName,
        binding: Binding,
        answer: Answer,
    },
    Unbind {
        topic: u32,
        name: GroupName,
        answer: Answer,
    },
    /// A message that was delivered as often as may be: its bytes, if they are still there.
    PutAside {
        topic: u32,
        group: GroupName,
        partition: u32,
        offset: u64,
        body: Option<Vec<u8>>,
    },
}

/// Messages to be appended.
pub(super) struct Append {
    pub topic: u32,
    pub producer: Option<([u8; 16], u64)>,
    pub messages: Vec<NewMessage>,
    /// Their share of what the tenant may have in flight.
    pub room: BytesPermit,
    pub answer: oneshot::Sender<Vec<Fate>>,
}

/// One message to be appended: its bytes without an id.
pub(super) struct NewMessage {
    pub sequence: u64,
    pub partition: u32,
    pub body: Vec<u8>,
}

/// What became of messages.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// They are kept: so many, from this sequence and this offset on.
    Kept { sequence: u64, count: u32, partition: u32, offset: u64, duplicate: bool },
    /// This one is not.
    Refused { sequence: u64, failure: Failure },
}

/// Where a member is told how far its group's acknowledgements are kept: the newest wins.
#[derive(Debug, Default)]
pub(super) struct Told {
    positions: Mutex<HashMap<u32, u64>>,
    /// Acknowledgements that are not kept yet.
    open: AtomicUsize,
}

impl Told {
    /// Something was acknowledged.
    pub(super) fn waits(&self) {
        self.open.fetch_add(1, SeqCst);
    }

    /// Whether all that was acknowledged is kept.
    pub(super) fn is_kept(&self) -> bool {
        self.open.load(SeqCst) == 0
    }

    /// One acknowledgement is over, as there is no such group any more.
    pub(super) fn forget(&self) {
        self.open.fetch_sub(1, SeqCst);
    }

    /// One acknowledgement is kept: how far the group is.
    pub(super) fn put(&self, partition: u32, position: u64) {
        self.open.fetch_sub(1, SeqCst);
        let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        positions.insert(partition, position);
    }

    pub(super) fn take(&self) -> Vec<(u32, u64)> {
        let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        positions.drain().collect()
    }
}

impl Shelf {
    pub(super) fn new(tenant: Arc<Tenant>, scope: Scope, clock: Clock, recent: usize) -> Shelf {
        let state = State {
            topics: Topics::default(),
            parts: HashMap::default(),
            tails: HashMap::default(),
            groups: HashMap::default(),
            awake: HashSet::default(),
            epochs: HashMap::default(),
            producing: HashMap::default(),
            bytes: 0,
            recent: Recent { bytes_max: recent, ..Recent::default() },
            dirty: HashSet::default(),
        };
        Shelf {
            tenant,
            scope,
            clock,
            state: Mutex::new(state),
            commands: Mutex::default(),
            bell: Notify::new(),
            under_way: Arc::default(),
            phase: watch::Sender::new(Phase::Loading),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the owner.
    pub(super) fn send(&self, command: Command) {
        self.under_way.fetch_add(1, SeqCst);
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push_back(command);
        self.bell.notify_one();
    }

    /// So many commands have happened.
    pub(super) fn happened(&self, commands: usize) {
        self.under_way.fetch_sub(commands, SeqCst);
    }

    /// Whether nothing is on its way.
    pub(super) fn is_settled(&self) -> bool {
        self.under_way.load(SeqCst) == 0
    }

    pub(super) fn take_commands(&self, into: &mut VecDeque<Command>) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        into.append(&mut commands);
    }

    /// Waits until the topics are read.
    pub(super) async fn opened(&self) -> Result<(), Failure> {
        let mut phase = self.phase.subscribe();
        let settled = phase.wait_for(|phase| !matches!(phase, Phase::Loading)).await;
        match settled.map(|phase| phase.clone()) {
            Ok(Phase::Gone(failure)) => Err(failure),
            Ok(_) => Ok(()),
            Err(_) => Err(super::stopped()),
        }
    }

    /// Why they can not be used any more, if so.
    pub(super) fn gone(&self) -> Option<Failure> {
        match &*self.phase.borrow() {
            Phase::Gone(failure) => Some(failure.clone()),
            _ => None,
        }
    }
}

impl State {
    /// Adds up an event, and what follows from it for what is live. Whom to wake.
    pub(super) fn apply(&mut self, event: &Event, producers: impl Fn() -> Producers) {
        match event {
            Event::Created { topic, parts, .. } => {
                for partition in 0..parts.len() as u32 {
                    let run = Run::new(0, 0, Last::default(), producers());
                    self.parts.insert((*topic, partition), run);
                }
                self.tails.insert(*topic, Arc::default());
                self.dirty.insert(Key::Counters);
                self.dirty.extend(parts.iter().map(|(_, stream, _)| Key::Stream(*stream)));
                self.dirty.insert(Key::Topic(*topic));
            }
            Event::Deleted { topic } => self.forget(*topic),
            Event::Freed { stream, .. } => _ = self.dirty.insert(Key::Stream(*stream)),
            Event::Trimmed { topic, partition, first, gone } => {
                if self.parts.contains_key(&(*topic, *partition))
                    && let Some(known) = self.topics.get(*topic)
                {
                    self.bytes -= gone - known.parts[*partition as usize].gone;
                }
                self.dirty.insert(Key::Topic(*topic));
                let of_topic = self.groups.iter_mut().filter(|((of, _), _)| of == topic);
                for ((_, name), live) in of_topic {
                    live.group.trimmed(*partition, *first);
                    live.bell.notify_waiters();
                    self.dirty.insert(Key::Group(*topic, name.clone()));
                }
                if let Some(groups) = self.topics.groups(*topic) {
                    self.dirty.extend(groups.keys().map(|g| Key::Group(*topic, g.clone())));
                }
            }
            Event::Kept { topic, .. } | Event::MessageDeleted { topic, .. } => {
                self.dirty.insert(Key::Topic(*topic));
            }
            Event::GroupCreated { topic, group, .. } | Event::Acked { topic, group, .. } => {
                self.dirty.insert(Key::Group(*topic, group.clone()));
            }
            Event::GroupDeleted { topic, group } | Event::Moved { topic, group, .. } => {
                // It begins anew where it is now.
                self.groups.remove(&(*topic, group.clone()));
                self.dirty.insert(Key::Group(*topic, group.clone()));
            }
            Event::Bound { topic, name, .. } | Event::Unbound { topic, name } => {
                let key = (*topic, name.clone());
                if let Some(live) = self.groups.get(&key) {
                    // Its reader may have to leave.
                    live.bell.notify_waiters();
                }
                self.dirty.insert(Key::Binding(key.0, key.1));
            }
        }
        self.topics.apply(event);
    }

    /// Adds up an event that happened before this process: what is live comes later.
    pub(super) fn learn(&mut self, event: &Event, producers: &impl Fn() -> Producers) {
        self.apply(event, producers);
        if let Event::Created { topic, .. } = event {
            // Read apart, each from its own view.
            self.parts.retain(|(of, _), _| of != topic);
        }
    }

    /// What is live of a topic that is deleted goes; who reads it is woken.
    fn forget(&mut self, topic: u32) {
        let Some(known) = self.topics.get(topic) else { return };
        for (partition, part) in (0..).zip(&known.parts) {
            if let Some(run) = self.parts.remove(&(topic, partition)) {
                self.bytes -= run.bytes - part.gone;
                self.recent.bytes -= run.recent.iter().map(Bytes::len).sum::<usize>();
            }
            self.dirty.insert(Key::Stream(part.stream));
        }
        self.recent.order.retain(|(of, _)| *of != topic);
        if let Some(tail) = self.tails.remove(&topic) {
            tail.notify_waiters();
        }
        self.groups.retain(|(of, _), live| {
            if *of == topic {
                live.bell.notify_waiters();
            }
            *of != topic
        });
        self.epochs.retain(|(of, _), _| *of != topic);
        let groups = self.topics.groups(topic).into_iter().flat_map(|groups| groups.keys());
        self.dirty.extend(groups.map(|group| Key::Group(topic, group.clone())));
        let bindings = self.topics.bindings(topic);
        self.dirty.extend(bindings.map(|(name, _)| Key::Binding(topic, name.clone())));
        self.dirty.insert(Key::Topic(topic));
    }

    /// A message is kept at the end of a partition.
    pub(super) fn appended(&mut self, place: Place, body: Bytes, at: Last) {
        let Some(run) = self.parts.get_mut(&place) else { return };
        run.next += 1;
        run.bytes += body.len() as u64;
        run.last = at;
        run.since += 1;
        self.bytes += body.len() as u64;
        if body.len() > self.recent.bytes_max {
            // It would be alone there, and what is after it must be, too.
            self.recent.bytes -= run.recent.drain(..).map(|body| body.len()).sum::<usize>();
            self.recent.order.retain(|of| *of != place);
            return;
        }
        self.recent.bytes += body.len();
        run.recent.push_back(body);
        self.recent.order.push_back(place);
        while self.recent.bytes > self.recent.bytes_max {
            let Some(oldest) = self.recent.order.pop_front() else { break };
            let run = self.parts.get_mut(&oldest);
            let body = run.and_then(|run| run.recent.pop_front());
            self.recent.bytes -= body.map_or(0, |body| body.len());
        }
    }

    /// Forgets producers that have no stream, and of which no partition knows anything.
    pub(super) fn forget_producers(&mut self) {
        let State { epochs, producing, parts, topics, .. } = self;
        epochs.retain(|key, _| {
            let (topic, id) = key;
            let partitions = topics.get(*topic).map_or(0, |topic| topic.parts.len() as u32);
            producing.contains_key(key)
                || (0..partitions).any(|p| {
                    parts.get(&(*topic, p)).is_some_and(|run| run.producers.get(id).is_some())
                })
        });
    }

    /// Messages from a group's positions to the ends.
    pub(super) fn lag_of(&self, (topic, group): &(u32, GroupName)) -> u64 {
        let done = self.topics.groups(*topic).and_then(|groups| groups.get(group));
        let all = (0..).zip(done.into_iter().flatten());
        all.map(|(partition, done)| {
            let run = self.parts.get(&(*topic, partition));
            run.map_or(0, |run| run.next.saturating_sub(done.position))
        })
        .sum()
    }

    /// What a partition holds of `storage_bytes`.
    pub(super) fn bytes_of(&self, place: Place) -> u64 {
        let part = self.topics.get(place.0).and_then(|topic| topic.parts.get(place.1 as usize));
        let run = self.parts.get(&place);
        run.zip(part).map_or(0, |(run, part)| run.bytes - part.gone)
    }
}
