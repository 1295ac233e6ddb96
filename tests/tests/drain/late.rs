//! A handshake that was under way when the drain began, and is done only after.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    net::UdpSocket,
    sync::{Notify, Semaphore},
};
use tollgate_client::Request;
use tollgate_tests::{Rig, SOON, held::Held};

use super::{LONG, closed_with_draining, ends, noticed, running, shut_down, to_the_end};

/// Carries packets between one client and the broker; holds the client's back after the first.
struct Gatekeeper {
    addr: SocketAddr,
    /// The broker has answered the first packet.
    answered: Arc<Notify>,
    open: Arc<Semaphore>,
    task: tokio::task::JoinHandle<()>,
}

impl Gatekeeper {
    async fn new(broker: SocketAddr) -> Gatekeeper {
        let inside = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let outside = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        outside.connect(broker).await.expect("an address");
        let addr = inside.local_addr().expect("an address");
        let (answered, open) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(1)));
        let task = tokio::spawn(carry(inside, outside, answered.clone(), open.clone()));
        Gatekeeper { addr, answered, open, task }
    }
}

/// What the client sends waits for the gate; what the broker sends does not.
async fn carry(inside: UdpSocket, outside: UdpSocket, answered: Arc<Notify>, open: Arc<Semaphore>) {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let mut client = None;
    loop {
        tokio::select! {
            Ok((len, from)) = inside.recv_from(&mut up), if open.available_permits() > 0 => {
                client = Some(from);
                open.try_acquire().expect("just looked at").forget();
                let _ = outside.send(&up[..len]).await;
            }
            Ok(len) = outside.recv(&mut down) => {
                if let Some(client) = client {
                    let _ = inside.send_to(&down[..len], client).await;
                }
                answered.notify_one();
            }
            // The gate was opened: look again.
            () = opened(&open), if open.available_permits() == 0 => {}
        }
    }
}

async fn opened(gate: &Semaphore) {
    drop(gate.acquire().await);
}

#[tokio::test]
async fn a_connection_that_comes_too_late_is_sent_away() {
    let held = Held::default();
    let (rig, _client, mut batch): (Rig, _, _) = running(&held).await;
    let gate = Gatekeeper::new(rig.addr()).await;
    let late = tollgate_client::Client::builder(gate.addr)
        .server_name("localhost")
        .credentials(rig.credentials("globex"))
        .confirm(false)
        .connect();
    let late = tokio::spawn(late);
    gate.answered.notified().await;

    let Rig { broker, dir } = rig;
    let shutdown = shut_down(broker, LONG);
    noticed(&mut batch).await;
    gate.open.add_permits(1_000_000);
    let late = tokio::time::timeout(SOON, late).await.expect("an end").expect("no panic");
    if let Ok(late) = late {
        if let Some(conn) = late.connection() {
            closed_with_draining(&conn).await;
        }
        let error = late.execute([Request::new("echo", "x")]).await.expect_err("nothing begins");
        drop(error);
    }

    batch.finish().await.expect("sealed");
    held.release(1);
    assert_eq!(to_the_end(&mut batch).await.1.succeeded, 1);
    ends(shutdown).await;
    gate.task.abort();
    drop(dir);
}
