//! A client that moves: its socket is bound to another port again and again while a batch runs.
//!
//! QUIC knows a connection by its ids, not by its address, so nothing is lost and nothing is run
//! twice.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, UdpSocket},
};

use bytes::Bytes;
use tollgate_client::{Batch, Client, Event, Request};
use tollgate_tests::{Rig, SOON, eventually, held::Held};

const MOVES: usize = 20;
/// Items that are begun between two moves.
const STEP: usize = 50;

fn payload(id: u64) -> Bytes {
    // Larger than a packet, so that moves fall into the middle of items.
    Bytes::from(format!("{id:>2000}"))
}

/// Binds the client's endpoint to a port that it never had.
fn rebind(client: &Client, had: &mut BTreeSet<SocketAddr>) {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        if had.insert(socket.local_addr().expect("an address")) {
            client.endpoint().rebind(socket).expect("the endpoint moves");
            return;
        }
    }
}

/// Reads on until there are `n` results; each must be its item's own.
async fn results(batch: &mut Batch, seen: &mut BTreeSet<u64>, n: usize) {
    while seen.len() < n {
        match batch.next().await.expect("more to come").expect("the batch goes on") {
            Event::Result(item) => {
                assert_eq!(item.payload(), Some(&payload(item.id)), "item {}", item.id);
                assert!(seen.insert(item.id), "item {} has two results", item.id);
            }
            Event::Summary(summary) => panic!("too early: {summary:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_batch_goes_on_while_its_clients_socket_moves_twenty_times() {
    let held = Held::default();
    let rig = Rig::with_catalog(held.catalog(), |_| {}).await;
    let client = rig.client("acme").await;
    let conn = client.connection().expect("connected").stable_id();
    let address = || rig.broker.connections()[0].address;
    let mut had = BTreeSet::from([address()]);
    let mut seen = BTreeSet::new();
    let mut batch = client.batch().open().await.expect("a batch");
    for step in 1..=MOVES {
        // Some items are on their way or running while the socket moves, none has ended.
        for id in (step - 1) * STEP..step * STEP {
            let request = Request::new("held", payload(id as u64)).id(id as u64);
            batch.send(request).await.expect("sent");
        }
        batch.flush().await.expect("sent");
        rebind(&client, &mut had);
        held.release(STEP);
        tokio::time::timeout(SOON, results(&mut batch, &mut seen, step * STEP))
            .await
            .expect("the results come to the new address");
        eventually("the broker follows", || {
            address().port() == client.endpoint().local_addr().expect("an address").port()
        })
        .await;
    }
    batch.finish().await.expect("sealed");
    let mut summary = None;
    while let Some(event) = batch.next().await {
        if let Event::Summary(end) = event.expect("an event") {
            summary = Some(end);
        }
    }
    let summary = summary.expect("a regular end");
    assert_eq!((summary.total, summary.succeeded), (1_000, 1_000));
    let runs = held.runs();
    assert_eq!(runs.len(), 1_000);
    assert!(runs.values().all(|n| *n == 1), "an item was run twice: {runs:?}");
    assert_eq!(had.len(), MOVES + 1, "every move was to another port");
    assert_eq!(client.connection().expect("connected").stable_id(), conn, "one connection");
    assert_eq!(rig.broker.counters().connections, 1);
    drop(batch);
    rig.idle().await;
}

#[tokio::test]
async fn a_batch_that_streams_without_a_pause_survives_the_moves() {
    let held = Held::default();
    let rig = Rig::with_catalog(held.catalog(), |_| {}).await;
    let client = rig.client("acme").await;
    const ITEMS: u64 = 4_000;
    held.release(ITEMS as usize);
    let moving = async {
        let mut had = BTreeSet::new();
        for step in 1..=MOVES {
            // Spread over the whole batch: a move each time a twentieth of it was begun.
            held.begun(step * ITEMS as usize / (MOVES + 1)).await;
            rebind(&client, &mut had);
        }
        had.len()
    };
    let batch = client.execute((0..ITEMS).map(|id| Request::new("held", payload(id)).id(id)));
    let both = async { tokio::join!(batch, moving) };
    let (result, moves) = tokio::time::timeout(SOON * 3, both).await.expect("it comes to its end");
    assert_eq!(moves, MOVES);
    let items = result.expect("a batch").into_result().expect("no failures");
    for (id, item) in (0..).zip(&items) {
        assert_eq!((item.id, item.payload()), (id, Some(&payload(id))));
    }
    let runs = held.runs();
    assert_eq!(runs.len(), ITEMS as usize);
    assert!(runs.values().all(|n| *n == 1), "an item was run twice");
    assert_eq!(rig.broker.counters().connections, 1, "one connection");
    rig.idle().await;
}
