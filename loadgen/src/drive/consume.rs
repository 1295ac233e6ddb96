//! The readers of a topic in one run: members of one group, each on a connection of its own. What
//! they are given is judged, told, and then acknowledged.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use futures::FutureExt;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{sleep_until, timeout},
};
use tollgate_client::{Consumer, ConsumerEvent, Position, ReceivedMessage, StartAt, TopicError};
use tollgate_protocol::limits::TOPIC_PARTITIONS_MAX;

use super::{
    Source,
    produce::name,
    topic::{TopicLinks, made_up},
};
use crate::{
    check::{Flow, Told, Wrong},
    plan::Plan,
    record::Delivered,
    scenario::Operation,
};

/// Messages that a reader takes before it tells of them and acknowledges.
const TURN_MAX: usize = 256;

/// A topic in one run.
pub struct Course {
    /// Where its messages are.
    flow: Mutex<Flow>,
    /// Rings when nothing is owed any more.
    caught_up: Notify,
    /// Of each partition, how far the group is, as any reader was told.
    committed: Mutex<Vec<u64>>,
    /// Without readers: the newest operations, with their messages and where they are.
    newest: Mutex<VecDeque<Vec<(u64, Position)>>>,
    audit: usize,
}

/// Members of a group that are there before the load begins.
pub(super) struct Readers {
    group: String,
    consumers: Vec<Consumer>,
}

/// Readers at work.
pub(super) struct Reading {
    group: String,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl TopicLinks {
    /// Opens a consumer on each of the readers' connections.
    pub(super) async fn readers(&self) -> Result<Readers, TopicError> {
        let mut readers = Readers { group: made_up(), consumers: Vec::new() };
        for client in &self.readers {
            let consumer = client.consumer(self.name.as_str()).group(readers.group.as_str());
            // What is there already is not this run's.
            let consumer = consumer.from(StartAt::Latest).patience(self.patience);
            readers.consumers.push(consumer.open().await?);
        }
        Ok(readers)
    }
}

impl Course {
    /// For a run whose operations have this number or a higher one.
    pub(super) fn new(first: u64, operation: &Operation) -> Self {
        let audit = if let Operation::Produce(topic) = operation { topic.audit } else { 0 };
        Course {
            flow: Mutex::new(Flow::new(first)),
            caught_up: Notify::new(),
            committed: Mutex::default(),
            newest: Mutex::default(),
            audit,
        }
    }

    /// Keeps in mind where the messages of an operation are, to be read back.
    pub(super) fn keep(&self, places: Vec<(u64, Position)>) {
        let mut newest = lock(&self.newest);
        newest.push_back(places);
        if newest.len() > self.audit {
            newest.pop_front();
        }
    }

    /// What is to be read back.
    pub(super) fn newest(&self) -> Vec<(u64, Position)> {
        lock(&self.newest).drain(..).flatten().collect()
    }
}

/// What is kept here is of use whatever happened to who wrote to it.
fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source {
    /// Whether somebody reads its topic meanwhile.
    pub(super) fn is_read(&self) -> bool {
        self.tenant.operation.is_read()
    }

    pub(super) fn flow(&self) -> MutexGuard<'_, Flow> {
        lock(&self.course.flow)
    }

    /// Sets readers to work.
    pub(super) fn read(self: &Arc<Self>, readers: Readers, plan: &Arc<Plan>) -> Reading {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for consumer in readers.consumers {
            let reader = Reader {
                source: self.clone(),
                plan: plan.clone(),
                committed: vec![0; consumer.partitions() as usize],
            };
            tasks.spawn(reader.run(consumer, stopped.clone()));
        }
        Reading { group: readers.group, tasks, stop }
    }

    /// Waits until everything that was acknowledged is delivered, or the time for it is over.
    pub(super) async fn catch_up(
        &self,
        mut reading: Reading,
        until: Instant,
    ) -> anyhow::Result<()> {
        let caught_up = async {
            while self.flow().owed() > 0 {
                self.course.caught_up.notified().await;
            }
        };
        tokio::select! {
            () = caught_up => {}
            () = sleep_until(until.into()) => {}
            ended = ended(&mut reading.tasks) => ended?,
        }
        // They may all be gone.
        let _ = reading.stop.send(true);
        ended(&mut reading.tasks).await?;
        let wrong = {
            let mut flow = self.flow();
            // What acknowledgements showed and no reader came to tell.
            Wrong { lost: flow.owed(), ..std::mem::take(&mut flow.wrong) }
        };
        self.record.wrong(&wrong);
        self.topic().forget(&reading.group).await;
        Ok(())
    }
}

/// Waits for all of them.
async fn ended(tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
    while let Some(ended) = tasks.join_next().await {
        ended.context("a reader panicked")?;
    }
    Ok(())
}

/// One member of the group.
struct Reader {
    source: Arc<Source>,
    plan: Arc<Plan>,
    /// Of each partition, how far the group was before what it is given now was sent.
    committed: Vec<u64>,
}

impl Reader {
    async fn run(mut self, mut consumer: Consumer, mut stop: watch::Receiver<bool>) {
        let mut turn = Vec::with_capacity(TURN_MAX);
        loop {
            let mut next = tokio::select! {
                next = consumer.next_event() => Some(next),
                _ = stop.wait_for(|stop| *stop) => break,
            };
            // What has arrived is taken together.
            while let Some(event) = next {
                match event {
                    Some(Ok(event)) => self.event(event, &mut turn),
                    Some(Err(e)) => {
                        self.judge(&mut turn);
                        return self.over(&e);
                    }
                    None => return self.judge(&mut turn),
                }
                if turn.len() >= TURN_MAX {
                    break;
                }
                next = consumer.next_event().now_or_never();
            }
            acknowledge(&mut consumer, &turn);
            self.judge(&mut turn);
        }
        // What it acknowledged is delivered, whether or not that was kept.
        let _ = timeout(CLOSING, consumer.close()).await;
    }

    fn event(&mut self, event: ConsumerEvent, turn: &mut Vec<Given>) {
        match event {
            ConsumerEvent::Message(message) => turn.push(self.given(&message)),
            ConsumerEvent::Committed { partition, position } => {
                raise(&mut self.committed, partition, position);
                raise(&mut lock(&self.source.course.committed), partition, position);
            }
            // What comes now was sent after all that others were told.
            ConsumerEvent::Assigned { .. } => {
                for (n, position) in lock(&self.source.course.committed).iter().enumerate() {
                    raise(&mut self.committed, n as u32, *position);
                }
            }
            _ => {}
        }
    }

    fn given(&self, message: &ReceivedMessage) -> Given {
        let at = Instant::now();
        let (tenant, answers) = (&self.source.tenant, &self.source.links.answers);
        let told = Told::of(tenant, answers, message.position(), &message.payload);
        let committed = self.committed.get(message.partition as usize).copied().unwrap_or(0);
        Given { told: Told { committed, ..told }, at, bytes: message.payload.len() as u64 }
    }

    fn judge(&self, turn: &mut Vec<Given>) {
        if turn.is_empty() {
            return;
        }
        let mut delivered = Vec::with_capacity(turn.len());
        let wrong = {
            let mut flow = self.source.flow();
            for Given { told, at, bytes } in turn.drain(..) {
                if let Some((due, slot)) = flow.delivered(told) {
                    let latency = at.saturating_duration_since(due);
                    delivered.push(Delivered { slot, latency, bytes });
                }
            }
            if flow.owed() == 0 {
                self.source.course.caught_up.notify_one();
            }
            std::mem::take(&mut flow.wrong)
        };
        self.source.record.delivered(&delivered);
        if wrong.total() > 0 {
            self.source.record.wrong(&wrong);
        }
    }

    /// The broker told a reader why it gets no more.
    fn over(&self, e: &TopicError) {
        let (name, allowed) = (format!("READER_{}", name(e)), self.source.allows(e.code()));
        self.source.record.late_error(&name, allowed, self.plan.measured_in(Instant::now()));
    }
}

/// A message that a reader was given.
struct Given {
    told: Told,
    at: Instant,
    bytes: u64,
}

/// Acknowledges in ranges: one frame for what lies side by side.
fn acknowledge(consumer: &mut Consumer, turn: &[Given]) {
    let together = |a: &Given, b: &Given| {
        let (a, b) = (a.told.position, b.told.position);
        a.partition == b.partition && a.offset.checked_add(1) == Some(b.offset)
    };
    for run in turn.chunk_by(together) {
        let (first, last) = (run[0].told.position, run[run.len() - 1].told.position);
        consumer.ack_range(first.partition, first.offset, last.offset);
    }
}

fn raise(committed: &mut Vec<u64>, partition: u32, position: u64) {
    let at = partition as usize;
    if partition < TOPIC_PARTITIONS_MAX && committed.len() <= at {
        committed.resize(at + 1, 0);
    }
    if let Some(known) = committed.get_mut(at) {
        *known = position.max(*known);
    }
}

/// How long leaving the group may take.
const CLOSING: Duration = Duration::from_secs(3);
