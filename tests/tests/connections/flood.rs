//! Handshakes that nobody means to finish, and packets that are none, beside a client that means
//! it.

use std::{net::SocketAddr, sync::Arc};

use futures::future::join_all;
use quinn::crypto::rustls::QuicClientConfig;
use tokio::{net::UdpSocket, sync::Mutex};
use tollgate_client::ClientCredentials;
use tollgate_tests::Rig;

use super::{endpoint, nothing_is_left, patient, serves};

/// First packets of clients that go nowhere: caught on their way, one of each handshake.
async fn first_packets(credentials: &ClientCredentials, n: usize) -> Vec<Vec<u8>> {
    let trap = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let addr = trap.local_addr().expect("an address");
    let tls = tollgate_certs::client_config(credentials).expect("TLS");
    let crypto = QuicClientConfig::try_from(tls).expect("QUIC");
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let endpoint = endpoint();
    let mut packets: Vec<Vec<u8>> = Vec::new();
    let mut buffer = vec![0; 2_048];
    for _ in 0..n {
        let connecting = endpoint.connect_with(config.clone(), addr, "localhost").expect("begun");
        // A repetition of an earlier one has the same id: bytes 6 to 14 of a first packet.
        let id = |p: &[u8]| p[6..14].to_vec();
        loop {
            let len = trap.recv(&mut buffer).await.expect("a packet");
            if packets.iter().all(|p| id(p) != id(&buffer[..len])) {
                packets.push(buffer[..len].to_vec());
                break;
            }
        }
        drop(connecting);
    }
    packets
}

/// Counts what a broker sends back to one who never answers.
struct Deaf {
    socket: UdpSocket,
    sent: Mutex<usize>,
}

impl Deaf {
    async fn new() -> Deaf {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        Deaf { socket, sent: Mutex::new(0) }
    }

    async fn send(&self, to: SocketAddr, packet: &[u8]) {
        *self.sent.lock().await += self.socket.send_to(packet, to).await.expect("sent");
    }

    fn received(&self) -> usize {
        let mut buffer = vec![0; 65_536];
        std::iter::from_fn(|| self.socket.try_recv(&mut buffer).ok()).sum()
    }
}

#[tokio::test]
async fn stalled_handshakes_do_not_keep_a_client_out() {
    let rig = Rig::start().await;
    let packets = first_packets(&rig.credentials("globex"), 300).await;
    let deaf = join_all((0..packets.len()).map(|_| Deaf::new())).await;
    // Each from an address of its own, more than may be under way without a proven address.
    for (deaf, packet) in deaf.iter().zip(&packets) {
        deaf.send(rig.addr(), packet).await;
    }
    let client = patient(rig.builder("acme")).connect().await.expect("let in");
    serves(&client).await;
    client.close().await;
    let answered = deaf.iter().filter(|d| d.received() > 0).count();
    assert!(answered > 64, "the broker took the bait: {answered}");
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn an_address_that_is_not_proven_gets_no_more_than_threefold_back() {
    let rig = Rig::start().await;
    let packets = first_packets(&rig.credentials("acme"), 40).await;
    let deaf = join_all((0..packets.len()).map(|_| Deaf::new())).await;
    for (deaf, packet) in deaf.iter().zip(&packets) {
        deaf.send(rig.addr(), packet).await;
    }
    // By then the broker has sent what it will, but for repetitions.
    serves(&rig.client("acme").await).await;
    let mut answered = 0;
    for deaf in &deaf {
        let (sent, received) = (*deaf.sent.lock().await, deaf.received());
        assert!(received <= 3 * sent, "{received} bytes for {sent}");
        answered += usize::from(received > 0);
    }
    assert!(answered > 0, "the broker answered some");
}

#[tokio::test]
async fn when_all_places_for_handshakes_are_taken_a_client_waits_and_gets_in() {
    let rig = Rig::with(|c| {
        c.limits.handshakes_max = 4;
        c.limits.handshakes_retry_from = 1_000;
        c.limits.handshake_timeout_ms = 500;
    })
    .await;
    let packets = first_packets(&rig.credentials("globex"), 16).await;
    let deaf = Deaf::new().await;
    for packet in &packets {
        deaf.send(rig.addr(), packet).await;
    }
    let client = patient(rig.builder("acme")).connect().await.expect("let in in the end");
    serves(&client).await;
    client.close().await;
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn a_client_that_must_prove_its_address_does() {
    let rig = Rig::with(|c| c.limits.handshakes_retry_from = 0).await;
    serves(&rig.client("acme").await).await;
    // Who does not answer the Retry is forgotten at once: nothing is under way for it.
    let packets = first_packets(&rig.credentials("globex"), 20).await;
    let deaf = Deaf::new().await;
    for packet in &packets {
        deaf.send(rig.addr(), packet).await;
    }
    serves(&rig.client("acme").await).await;
}

#[tokio::test]
async fn packets_that_are_none_are_let_fall() {
    let rig = Rig::start().await;
    let client = rig.client("acme").await;
    let good = first_packets(&rig.credentials("globex"), 1).await.remove(0);
    let deaf = Deaf::new().await;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for n in 0..2_000 {
        let mut packet = good.clone();
        match n % 5 {
            // An id of its own, and a body that does not decrypt.
            0 => packet[6..14].copy_from_slice(&next().to_be_bytes()),
            1 => packet.iter_mut().for_each(|b| *b = next() as u8),
            2 => packet.truncate((next() % 1_200) as usize),
            // Another version.
            3 => packet[1..5].copy_from_slice(&(next() as u32).to_be_bytes()),
            // A short header with a connection id that nobody has.
            _ => packet[0] = 0x40 | (next() as u8 & 0x3f),
        }
        deaf.send(rig.addr(), &packet).await;
        if n % 200 == 0 {
            serves(&client).await;
        }
    }
    serves(&client).await;
    serves(&rig.client("globex").await).await;
    client.close().await;
    nothing_is_left(&rig).await;
}
