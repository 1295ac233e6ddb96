//! Readers that stop reading: what they cost the broker, and that nobody else notices.

use tollgate_client::{Client, Consumer, Message, Retention};
use tollgate_tests::process::Served;

/// What each reader would be sent if nothing held it back.
const TOPIC_BYTES: usize = 48 << 20;
const PAYLOAD: usize = 16 << 10;
const READERS: usize = 16;
/// What one may cost: the send window of its connection (1 MiB), what is prepared for it, and what
/// is read ahead from the disk.
const COST_MAX: usize = 3 << 20;

async fn client(served: &Served, certs: &str) -> Client {
    let dir = served.dir.path().join(certs);
    let credentials = tollgate_certs::ClientCredentials::load_dir(&dir).expect("credentials");
    let builder = Client::builder(served.addr).server_name("localhost").credentials(credentials);
    builder.connect().await.expect("a connection")
}

async fn read(consumer: &mut Consumer) -> usize {
    let mut bytes = 0;
    while let Some(message) = consumer.next().await {
        bytes += message.expect("a message").payload.len();
    }
    bytes
}

#[tokio::test]
async fn readers_that_stop_reading_cost_little_and_disturb_nobody() {
    let served = Served::start(&[]);
    let certs = served.issue(&["--tenant", "acme"]);
    let quotas = ["--quota", "messages_per_second=-1", "--quota", "bytes_per_second=-1"];
    served.operate(&[&["tenant", "update", "acme"][..], &quotas].concat()).ends_with(0);
    let producing = client(&served, &certs).await;
    producing.topics().create("t", 1, Retention::default()).await.expect("a topic");
    let producer = producing.producer("t").open().await.expect("a producer");
    let mut queued = Vec::new();
    for _ in 0..TOPIC_BYTES / PAYLOAD {
        queued.push(producer.queue(Message::new(vec![7; PAYLOAD])).await.expect("queued"));
    }
    for appending in queued {
        appending.await.expect("appended");
    }
    // Whoever reads all of it once has paid for what the broker keeps at hand.
    let mut first = producing.consumer("t").until_end().open().await.expect("a consumer");
    assert_eq!(read(&mut first).await, TOPIC_BYTES);
    let before = served.resident_bytes();
    let mut stalled = Vec::new();
    for _ in 0..READERS {
        let client = client(&served, &certs).await;
        let mut consumer = client.consumer("t").open().await.expect("a consumer");
        consumer.next().await.expect("there is more").expect("a message");
        stalled.push((client, consumer));
    }
    // Beside them, others read all of it, and what comes.
    let mut beside = producing.consumer("t").open().await.expect("a consumer");
    for _ in 0..TOPIC_BYTES / PAYLOAD {
        beside.next().await.expect("there is more").expect("a message");
    }
    producer.send("news").await.expect("appended");
    let news = beside.next().await.expect("there is more").expect("a message");
    assert_eq!(news.payload, "news");
    let each = served.resident_bytes().saturating_sub(before) / READERS;
    eprintln!("{READERS} stalled readers cost {} KiB each", each >> 10);
    assert!(each < COST_MAX, "{each} bytes each");
    // And when they read again, all of it is there.
    let (_client, consumer) = &mut stalled[0];
    for _ in 1..TOPIC_BYTES / PAYLOAD {
        consumer.next().await.expect("there is more").expect("a message");
    }
    assert_eq!(consumer.next().await.expect("there is more").expect("a message").payload, "news");
}
