//! `kill -9` under a load of topics: no acknowledged message is lost, moved or there twice, and a
//! group passes nothing that was not acknowledged.
//!
//! Producers and members of a group keep what they were told; the process is killed at random
//! moments. After the last start all of it is read, and a checker compares. `TOLLGATE_LONG=1` kills
//! it 200 times.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tollgate_client::{Client, ClientCredentials, ConsumerEvent, Message, Retention};
use tollgate_tests::{SOON, process::Served};

const PRODUCERS: u64 = 4;
const MEMBERS: usize = 3;
const PARTITIONS: u32 = 4;
/// Who waits for a broker that is killed again and again.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was told.
#[derive(Default)]
struct World {
    /// Where each message was said to be.
    kept: Mutex<BTreeMap<String, (u32, u64)>>,
    /// Messages that members were given.
    given: Mutex<BTreeMap<(u32, u64), String>>,
    /// Those that they acknowledged.
    acked: Mutex<BTreeSet<(u32, u64)>>,
    /// How far the group was said to be, on stable storage.
    positions: Mutex<BTreeMap<u32, u64>>,
    wrong: Mutex<Vec<String>>,
    again: AtomicU64,
    stop: AtomicBool,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn wrong(&self, what: String) {
        lock(&self.wrong).push(what);
    }

    /// Messages of one producer, one after the other, some of them at once.
    async fn produce(self: Arc<Self>, client: Client, number: u64) {
        let producer = client.producer("t").patience(PATIENCE).open().await.expect("a producer");
        let (mut n, mut last) = (0_u64, BTreeMap::new());
        while !self.stop.load(Relaxed) {
            let mut queued = Vec::new();
            for _ in 0..1 + n % 7 {
                let text = format!("{number}:{n}");
                let message = Message::new(text.clone()).key(format!("{}", n % 5));
                queued.push((text, producer.queue(message).await.expect("queued")));
                n += 1;
            }
            for (text, appending) in queued {
                let position = appending.await.expect("kept");
                let place = (position.partition, position.offset);
                // Of one producer and partition, the order is that of the offsets.
                let before = last.insert(place.0, place.1);
                if before.is_some_and(|before| before >= place.1) {
                    self.wrong(format!("{text} is at {place:?}, after {before:?}"));
                }
                if lock(&self.kept).insert(text.clone(), place).is_some() {
                    self.wrong(format!("{text} was answered twice"));
                }
            }
        }
        producer.close().await.expect("closed");
    }

    /// A member that acknowledges what it is given.
    async fn consume(self: Arc<Self>, client: Client) {
        let builder = client.consumer("t").group("g").patience(PATIENCE);
        let mut member = builder.open().await.expect("a member");
        while !self.stop.load(Relaxed) {
            let event = tokio::time::timeout(Duration::from_millis(100), member.next_event());
            match event.await {
                Ok(Some(Ok(ConsumerEvent::Message(message)))) => {
                    let place = (message.partition, message.offset);
                    let text = String::from_utf8_lossy(&message.payload).into_owned();
                    let known = lock(&self.given).insert(place, text.clone());
                    if known.is_some() {
                        self.again.fetch_add(1, Relaxed);
                    }
                    if known.is_some_and(|known| known != text) {
                        self.wrong(format!("{place:?} is {text} now"));
                    }
                    lock(&self.acked).insert(place);
                    member.ack(&message);
                }
                Ok(Some(Ok(ConsumerEvent::Committed { partition, position }))) => {
                    let mut positions = lock(&self.positions);
                    let known = positions.entry(partition).or_default();
                    *known = position.max(*known);
                }
                Ok(Some(Ok(_))) | Err(_) => {}
                Ok(Some(Err(e))) => panic!("{e}"),
                Ok(None) => panic!("the topic ended"),
            }
        }
        // The broker may be gone just now: then what was acknowledged last is given again.
        let _ = member.close().await;
    }
}

fn client_of(served: &Served, certs: &Path) -> tollgate_client::ClientBuilder {
    let credentials = ClientCredentials::load_dir(certs).expect("credentials");
    Client::builder(served.addr)
        .server_name("localhost")
        .credentials(credentials)
        .patience(PATIENCE)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_nothing_that_was_acknowledged_is_lost() {
    let kills = if std::env::var_os("TOLLGATE_LONG").is_some() { 200 } else { 12 };
    let port = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let listen = port.local_addr().expect("bound").to_string();
    drop(port);
    let dir = tempfile::tempdir().expect("a directory");
    // Small, so that views and groups of the store are many.
    let set = ["--set", "topics.checkpoint_every=64", "--set", "store.segment_bytes=65536"];
    let mut served = Served::start_in(dir, &listen, &set);
    let certs = served.issue(&["--tenant", "acme"]);
    let certs = served.dir.path().join(certs);
    let admin = client_of(&served, &certs).connect().await.expect("a connection");
    admin.topics().create("t", PARTITIONS, Retention::default()).await.expect("made");
    let world = Arc::new(World::default());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..PRODUCERS {
        let client = client_of(&served, &certs).connect().await.expect("a connection");
        tasks.spawn(world.clone().produce(client, n));
    }
    for _ in 0..MEMBERS {
        let client = client_of(&served, &certs).connect().await.expect("a connection");
        tasks.spawn(world.clone().consume(client));
    }
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut back = Vec::new();
    for _ in 0..kills {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let before = lock(&world.kept).len();
        tokio::time::sleep(Duration::from_millis(80 + dice % 400)).await;
        let dir = served.kill();
        let began = Instant::now();
        served = tokio::task::spawn_blocking({
            let listen = listen.clone();
            move || Served::start_in(dir, &listen, &set)
        })
        .await
        .expect("it starts");
        // Clients find it again, and go on.
        let on = async {
            while lock(&world.kept).len() <= before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON * 3, on).await.expect("messages go on");
        back.push(began.elapsed());
    }
    world.stop.store(true, Relaxed);
    while let Some(task) = tasks.join_next().await {
        task.expect("no panic");
    }
    let messages = read_all(&admin).await;
    check(&world, &messages, &admin).await;
    back.sort();
    println!(
        "{kills} kills: {} messages acknowledged, 0 lost, 0 twice; {} given again; from a kill to \
         the next acknowledgement: median {:?}, longest {:?}",
        lock(&world.kept).len(),
        world.again.load(Relaxed),
        back[back.len() / 2],
        back[back.len() - 1],
    );
}

async fn read_all(client: &Client) -> BTreeMap<(u32, u64), String> {
    let mut consumer = client.consumer("t").until_end().open().await.expect("a consumer");
    let mut all = BTreeMap::new();
    while let Some(message) = consumer.next().await {
        let message = message.expect("a message");
        let text = String::from_utf8_lossy(&message.payload).into_owned();
        all.insert((message.partition, message.offset), text);
    }
    all
}

async fn check(world: &World, messages: &BTreeMap<(u32, u64), String>, client: &Client) {
    let mut wrong = std::mem::take(&mut *lock(&world.wrong));
    for (text, place) in lock(&world.kept).iter() {
        if messages.get(place) != Some(text) {
            wrong.push(format!("{text} was kept at {place:?}: {:?}", messages.get(place)));
        }
    }
    let mut seen = BTreeSet::new();
    for (place, text) in messages {
        if !seen.insert(text) {
            wrong.push(format!("{text} is there twice, at {place:?}"));
        }
    }
    for (place, text) in lock(&world.given).iter() {
        if messages.get(place) != Some(text) {
            wrong.push(format!("{text} was given, and is not at {place:?}"));
        }
    }
    let group = client.topics().group("t", "g").await.expect("the group is there");
    for (partition, part) in (0..).zip(&group.partitions) {
        let told = lock(&world.positions).get(&partition).copied().unwrap_or(0);
        if part.position < told {
            wrong.push(format!("{partition}: the position {told} went back to {}", part.position));
        }
        let acked = lock(&world.acked);
        let passed = (0..part.position).filter(|offset| !acked.contains(&(partition, *offset)));
        wrong.extend(passed.map(|offset| format!("{partition}/{offset} was passed")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(!messages.is_empty());
}
