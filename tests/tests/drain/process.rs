//! The real binary and its signals: SIGTERM drains, a second one stops, SIGHUP reloads, and what
//! `kill -9` interrupts comes back.

use std::path::Path;

use tollgate_client::{Batch, Client, ClientCredentials, Code, Ended, Event, NoticeKind, Request};
use tollgate_tests::{SOON, process::Served};

use super::{closed_with_draining, noticed, to_the_end};

async fn client(served: &Served, certs: &str) -> Client {
    let credentials = ClientCredentials::load_dir(&served.dir.path().join(certs));
    let builder = Client::builder(served.addr).server_name("localhost");
    builder.credentials(credentials.expect("certificates")).connect().await.expect("connected")
}

/// A batch that is under way: one item has come back, and it is not sealed.
async fn under_way(client: &Client) -> Batch {
    let mut batch = client.batch().open().await.expect("a batch");
    batch.send(Request::new("echo", "first")).await.expect("sent");
    batch.flush().await.expect("sent");
    loop {
        let event = batch.next().await.expect("an event").expect("no error");
        if matches!(event, Event::Result(_)) {
            return batch;
        }
    }
}

/// Waits for the end of the process without keeping this thread from the client.
async fn ended(served: Served) -> i32 {
    tokio::task::spawn_blocking(move || served.ended().0).await.expect("it ends")
}

#[tokio::test]
async fn sigterm_lets_what_runs_finish_and_ends_with_0() {
    let served = Served::start(&[]);
    let certs = served.issue(&["--tenant", "acme"]);
    let client = client(&served, &certs).await;
    let conn = client.connection().expect("connected");
    let mut batch = under_way(&client).await;

    served.signal(libc::SIGTERM);
    assert_eq!(noticed(&mut batch).await.kind, NoticeKind::Draining);
    batch.send(Request::new("echo", "second")).await.expect("sent");
    batch.finish().await.expect("sealed");
    let (codes, summary) = to_the_end(&mut batch).await;
    assert_eq!((codes, summary.succeeded), (vec![Code::Ok], 2));
    closed_with_draining(&conn).await;
    served.logs("drained");
    assert_eq!(ended(served).await, 0);
}

#[tokio::test]
async fn what_runs_too_long_is_told_and_the_end_is_0() {
    let served = Served::start(&["--set", "limits.drain_timeout_ms=100"]);
    let certs = served.issue(&["--tenant", "acme"]);
    let client = client(&served, &certs).await;
    let mut batch = under_way(&client).await;
    batch
        .send(Request::new("delay", "").json(&serde_json::json!({ "ms": 600_000 })))
        .await
        .expect("sent");
    batch.finish().await.expect("sealed");
    // A second batch shows that the first one's items have been read by now.
    drop(under_way(&client).await);

    served.signal(libc::SIGTERM);
    let (codes, summary) = to_the_end(&mut batch).await;
    assert_eq!((codes, summary.ended), (vec![Code::Draining], Ended::Draining));
    assert_eq!(ended(served).await, 0);
}

#[tokio::test]
async fn a_second_sigterm_stops_at_once_and_says_so() {
    let served = Served::start(&[]);
    let certs = served.issue(&["--tenant", "acme"]);
    let client = client(&served, &certs).await;
    let mut batch = under_way(&client).await;

    served.signal(libc::SIGTERM);
    noticed(&mut batch).await;
    // Without the second, the batch would keep it for 30 s.
    served.signal(libc::SIGTERM);
    served.logs("a second signal");
    assert_eq!(ended(served).await, 1);
}

#[tokio::test]
async fn sigint_without_work_ends_with_0() {
    let served = Served::start(&[]);
    served.signal(libc::SIGINT);
    assert_eq!(ended(served).await, 0);
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).expect("written");
}

#[tokio::test]
async fn sighup_reloads_and_refuses_what_is_wrong() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "tollgate.toml", "");
    let served = Served::start_in(dir, "127.0.0.1:0", &[]);
    let certs = served.issue(&["--tenant", "acme"]);
    let client = client(&served, &certs).await;
    let mut batch = under_way(&client).await;

    served.signal(libc::SIGHUP);
    served.logs("were reloaded");

    write(served.dir.path(), "tollgate.toml", "[limits]\nconection_max = 1\n");
    served.signal(libc::SIGHUP);
    let line = served.logs("everything stays as it was");
    assert!(line.contains("conection_max"), "{line}");

    // What only a start can change is named.
    write(served.dir.path(), "tollgate.toml", "[limits]\nconnections_max = 1\n");
    served.signal(libc::SIGHUP);
    let line = served.logs("next start");
    assert!(line.contains("limits.connections_max"), "{line}");
    served.logs("were reloaded");

    // The level of the log is one of those that change at once.
    write(served.dir.path(), "tollgate.toml", "[log]\nlevel = \"off\"\n");
    served.signal(libc::SIGHUP);
    // So do the profiles of tenants.
    let profile = "[tenancy.profiles.default]\nconnections = 1\n";
    write(served.dir.path(), "tollgate.toml", profile);
    served.signal(libc::SIGHUP);
    let full = tokio::time::timeout(SOON, async {
        loop {
            let credentials = ClientCredentials::load_dir(&served.dir.path().join(&certs));
            let builder = Client::builder(served.addr).server_name("localhost");
            let builder = builder.credentials(credentials.expect("certificates"));
            if let Err(error) = builder.connect().await {
                return error;
            }
        }
    });
    let full = full.await.expect("a second connection is refused");
    assert_eq!(full.close_code(), Some(tollgate_client::CloseCode::QuotaExceeded), "{full}");

    // Through all of it the batch was never cut.
    batch.send(Request::new("echo", "last")).await.expect("sent");
    batch.finish().await.expect("sealed");
    assert_eq!(to_the_end(&mut batch).await.1.succeeded, 2);
}

#[tokio::test]
async fn a_killed_broker_comes_back_for_its_clients() {
    let served = Served::start(&[]);
    let certs = served.issue(&["--tenant", "acme"]);
    let client = client(&served, &certs).await;
    let mut batch = under_way(&client).await;
    let addr = served.addr;
    let dir = served.kill();
    let _again = Served::start_in(dir, &addr.to_string(), &[]);

    let error = tokio::time::timeout(SOON, async {
        loop {
            match batch.next().await.expect("not a regular end") {
                Ok(event) => assert!(!matches!(event, Event::Summary(_)), "{event:?}"),
                Err(error) => return error,
            }
        }
    });
    let error = error.await.expect("the client notices");
    // By the reset of the new process, which has the keys of the old one.
    assert!(error.to_string().contains("restarted"), "{error}");
    let echo: String =
        client.call("echo", "again").await.expect("the same certificate still counts");
    assert_eq!(echo, "again");
}
