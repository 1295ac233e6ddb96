//! A consumer group whose members come and go all the time, while messages come.
//!
//! Everything that members do is put in one order. A member has a partition from when it is given a
//! message of it until it has acknowledged all that it was given, or leaves: nobody else is given
//! any of it in between, and what is new comes in the order of its offsets, whoever it comes to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::JoinSet};
use tollgate_client::{Client, Consumer, Message, Retention};
use tollgate_tests::{Rig, SOON};

const JOINS_PER_SECOND: u32 = 100;
const PARTITIONS: u32 = 8;
const MESSAGES_PER_SECOND: u32 = 1_000;
/// Members share these.
const CONNECTIONS: usize = 8;

/// For how long members come: half a minute with `TOLLGATE_LONG=1`.
fn seconds() -> u32 {
    if std::env::var_os("TOLLGATE_LONG").is_some() { 30 } else { 3 }
}

#[derive(Debug)]
enum What {
    Got { partition: u32, offset: u64, new: bool },
    Done { partition: u32, offset: u64 },
    Leaves,
}

/// What a member did, as the so manieth of all.
#[derive(Debug)]
struct Event {
    turn: u64,
    at: Instant,
    member: u32,
    what: What,
}

#[derive(Clone)]
struct Log {
    turns: Arc<AtomicU64>,
    events: mpsc::UnboundedSender<Event>,
}

impl Log {
    fn note(&self, member: u32, what: What) {
        let turn = self.turns.fetch_add(1, Ordering::SeqCst);
        self.events.send(Event { turn, at: Instant::now(), member, what }).expect("heard");
    }
}

/// Appends at an even pace: how many messages each partition has then.
async fn produce(client: Client, seconds: u32) {
    let producer = client.producer("t").open().await.expect("a producer");
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let mut queued = Vec::new();
    for n in 0..MESSAGES_PER_SECOND * seconds {
        if n % (MESSAGES_PER_SECOND / 50) == 0 {
            pace.tick().await;
        }
        let message = Message::new(n.to_string()).partition(n % PARTITIONS);
        queued.push(producer.queue(message).await.expect("queued"));
    }
    for appending in queued {
        appending.await.expect("appended");
    }
    producer.close().await.expect("closed");
}

/// Reads and acknowledges until its time is over, and goes with a word or without.
async fn member(n: u32, client: Client, log: Log) {
    let mut consumer = client.consumer("t").group("g").open().await.expect("a member");
    let stays = Duration::from_millis(50 + u64::from(n) * 37 % 250);
    let _ = tokio::time::timeout(stays, read(&mut consumer, n, &log)).await;
    log.note(n, What::Leaves);
    if n.is_multiple_of(2) {
        consumer.close().await.expect("closed");
    }
}

async fn read(consumer: &mut Consumer, member: u32, log: &Log) {
    loop {
        let message = consumer.next().await.expect("there is more").expect("a message");
        let (partition, offset) = (message.partition, message.offset);
        log.note(member, What::Got { partition, offset, new: message.deliveries == 1 });
        if offset % 8 == 0 {
            // At work.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // Noted before it is said: what follows from it comes after.
        log.note(member, What::Done { partition, offset });
        consumer.ack(&message);
    }
}

/// Who has which partition, as far as members can tell.
#[derive(Default)]
struct Owners {
    held: BTreeMap<u32, (u32, BTreeSet<u64>)>,
    got: BTreeMap<u32, BTreeSet<u64>>,
    newest: BTreeMap<u32, u64>,
    last: BTreeMap<u32, Instant>,
    /// The longest time that a partition gave nothing.
    silence: Duration,
}

impl Owners {
    fn take(&mut self, event: &Event) {
        match event.what {
            What::Got { partition, offset, new } => {
                let held = self.held.entry(partition).or_insert((event.member, BTreeSet::new()));
                assert_eq!(held.0, event.member, "partition {partition} has two owners: {event:?}");
                held.1.insert(offset);
                if new && let Some(before) = self.newest.insert(partition, offset) {
                    assert!(before < offset, "{before} was given before: {event:?}");
                }
                self.got.entry(partition).or_default().insert(offset);
                if let Some(before) = self.last.insert(partition, event.at) {
                    self.silence = self.silence.max(event.at.saturating_duration_since(before));
                }
            }
            What::Done { partition, offset } => {
                if let Some((member, offsets)) = self.held.get_mut(&partition)
                    && *member == event.member
                {
                    offsets.remove(&offset);
                    if offsets.is_empty() {
                        self.held.remove(&partition);
                    }
                }
            }
            What::Leaves => self.held.retain(|_, (member, _)| *member != event.member),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_members_a_second_come_and_go_and_each_partition_has_one_owner() {
    let rig = Rig::with(|config| {
        // Longer than anybody is kept from acknowledging here: so nothing is taken from a member
        // that is there. A message that many had who went is still no dead letter.
        config.topics.handover_ms = SOON.as_millis() as u64;
        config.topics.deliveries_max = 1_000;
    })
    .await;
    let client = rig.client("acme").await;
    client.topics().create("t", PARTITIONS, Retention::default()).await.expect("a topic");
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(rig.client("acme").await);
    }
    let (events, mut heard) = mpsc::unbounded_channel();
    let log = Log { turns: Arc::default(), events };
    let producing = tokio::spawn(produce(client.clone(), seconds()));
    let mut members = JoinSet::new();
    let mut pace = tokio::time::interval(Duration::from_secs(1) / JOINS_PER_SECOND);
    let joins = JOINS_PER_SECOND * seconds();
    for n in 0..joins {
        pace.tick().await;
        let connection = connections[n as usize % CONNECTIONS].clone();
        members.spawn(member(n, connection, log.clone()));
    }
    producing.await.expect("no panic");
    while let Some(ended) = members.join_next().await {
        ended.expect("no panic");
    }
    // Whoever comes last finds everything in order.
    let began = Instant::now();
    let last = {
        let (client, log) = (client.clone(), log.clone());
        tokio::spawn(async move {
            let mut consumer = client.consumer("t").group("g").open().await.expect("a member");
            read(&mut consumer, joins, &log).await;
        })
    };
    super::eventually("the last member is done with everything", || async {
        client.topics().group("t", "g").await.expect("there").lag() == 0
    })
    .await;
    let settled = began.elapsed();
    last.abort();
    drop(log);
    let mut all = Vec::new();
    while let Some(event) = heard.recv().await {
        all.push(event);
    }
    all.sort_by_key(|event| event.turn);
    let mut owners = Owners::default();
    all.iter().for_each(|event| owners.take(event));
    let total = u64::from(MESSAGES_PER_SECOND * seconds());
    let each = total / u64::from(PARTITIONS);
    for partition in 0..PARTITIONS {
        assert_eq!(owners.got[&partition].len() as u64, each, "of partition {partition}");
    }
    eprintln!(
        "{joins} members came and went; the longest that a partition gave nothing: {:?}; the last \
         member was done with the rest after {settled:?}",
        owners.silence
    );
    assert!(owners.silence < SOON, "a partition had no owner for {:?}", owners.silence);
}
