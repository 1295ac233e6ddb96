//! Connects by the hundred, racing for fewer places than there are.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use futures::future::join_all;
use tollgate_client::{Client, ClientBuilder, CloseCode, ConnectError};
use tollgate_tests::{Rig, held::Held};

use super::{allow, endpoint, nothing_is_left, patient, serves, used};

/// How many knock, and how often: `TOLLGATE_LONG=1` is the whole of it.
fn size() -> (usize, usize) {
    if std::env::var_os("TOLLGATE_LONG").is_some() { (1_000, 20) } else { (300, 2) }
}

/// A broker that gives handshakes the time they need on a busy machine; what is tested is a count.
async fn patient_rig() -> Rig {
    Rig::with_catalog(Held::default().catalog(), |c| c.limits.handshake_timeout_ms = 60_000).await
}

/// Knocks until the broker has said yes or no. Packets are lost when sockets overflow; one who
/// missed the answer asks again.
async fn verdict(builder: ClientBuilder) -> Result<Client, ConnectError> {
    loop {
        match builder.clone().connect().await {
            Err(ConnectError::Lost(_)) => {}
            verdict => return verdict,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connects_at_once_admit_exactly_the_quota() {
    const QUOTA: usize = 100;
    let (clients, rounds) = size();
    let rig = patient_rig().await;
    allow(&rig, "acme", QUOTA as u64).await;
    let other = rig.client("globex").await;
    for round in 0..rounds {
        let endpoints: Vec<_> = (0..clients / 10).map(|_| endpoint()).collect();
        let credentials = rig.credentials("acme");
        let knocks = (0..clients).map(|n| {
            let builder = rig.builder("acme").credentials(credentials.clone());
            tokio::spawn(verdict(patient(builder).endpoint(endpoints[n / 10].clone())))
        });
        let (mut admitted, mut refused) = (Vec::new(), 0);
        for knock in join_all(knocks.collect::<Vec<_>>()).await {
            match knock.expect("no panic") {
                Ok(client) => admitted.push(client),
                Err(e) if e.close_code() == Some(CloseCode::QuotaExceeded) => refused += 1,
                Err(e) => panic!("round {round}: neither admitted nor refused: {e}"),
            }
        }
        assert_eq!((admitted.len(), refused), (QUOTA, clients - QUOTA), "round {round}");
        assert_eq!(used(&rig, "acme"), QUOTA as u64, "round {round}");
        assert_eq!(rig.broker.connections().len(), QUOTA + 1, "round {round}");
        serves(&other).await;
        for client in &admitted {
            serves(client).await;
        }
        join_all(admitted.iter().map(|client| client.close())).await;
        tollgate_tests::eventually("all places are free", || used(&rig, "acme") == 0).await;
        assert_eq!(rig.broker.connections().len(), 1, "round {round}");
    }
    other.close().await;
    nothing_is_left(&rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connects_at_once_fill_the_process_to_its_last_place() {
    const PLACES: usize = 20;
    let rig = Rig::with(|c| {
        c.limits.handshake_timeout_ms = 60_000;
        c.limits.connections_max = PLACES;
    })
    .await;
    for _ in 0..size().1 {
        let endpoints: Vec<_> = (0..10).map(|_| endpoint()).collect();
        let credentials = ["acme", "globex"].map(|tenant| (tenant, rig.credentials(tenant)));
        let knocks = (0..100).map(|n| {
            let (tenant, credentials) = &credentials[n % 2];
            let builder = rig.builder(tenant).credentials(credentials.clone());
            tokio::spawn(verdict(patient(builder).endpoint(endpoints[n / 10].clone())))
        });
        let mut admitted = Vec::new();
        for knock in join_all(knocks.collect::<Vec<_>>()).await {
            match knock.expect("no panic") {
                Ok(client) => admitted.push(client),
                Err(e) => assert_eq!(e.close_code(), Some(CloseCode::Overloaded), "{e}"),
            }
        }
        assert_eq!((admitted.len(), rig.broker.connections().len()), (PLACES, PLACES));
        join_all(admitted.iter().map(|client| client.close())).await;
        nothing_is_left(&rig).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connects_and_closes_that_race_never_pass_the_quota() {
    const QUOTA: usize = 8;
    let rounds = size().1 * 10;
    let rig = Arc::new(patient_rig().await);
    allow(&rig, "acme", QUOTA as u64).await;
    let (in_at_once, served) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let credentials = rig.credentials("acme");
    let storms = (0..24).map(|n| {
        let (rig, credentials) = (rig.clone(), credentials.clone());
        let (in_at_once, served) = (in_at_once.clone(), served.clone());
        tokio::spawn(async move {
            let endpoint = endpoint();
            for round in 0..rounds {
                let builder = rig.builder("acme").credentials(credentials.clone());
                let Ok(client) = patient(builder).endpoint(endpoint.clone()).connect().await else {
                    continue;
                };
                // Who is in here was admitted, and did not say good-bye yet.
                let now = in_at_once.fetch_add(1, SeqCst) + 1;
                assert!(now <= QUOTA, "{now} at once");
                served.fetch_add(1, SeqCst);
                match (n + round) % 3 {
                    // In the middle of something.
                    0 => {
                        let mut batch = client.batch().open().await.expect("a batch");
                        let item = tollgate_client::Request::new("held", "x");
                        batch.send(item).await.expect("sent");
                        batch.flush().await.expect("sent");
                        in_at_once.fetch_sub(1, SeqCst);
                    }
                    1 => {
                        serves(&client).await;
                        in_at_once.fetch_sub(1, SeqCst);
                    }
                    _ => {
                        in_at_once.fetch_sub(1, SeqCst);
                        client.close().await;
                    }
                }
            }
        })
    });
    for storm in join_all(storms.collect::<Vec<_>>()).await {
        storm.expect("never over the quota");
    }
    assert!(served.load(SeqCst) >= QUOTA, "somebody got in");
    nothing_is_left(&rig).await;
    serves(&rig.client("acme").await).await;
}
