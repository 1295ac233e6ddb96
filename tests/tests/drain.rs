//! A broker on its way out: who runs may finish, who comes is sent away, who stays is told.

use std::time::{Duration, SystemTime};

use tollgate_broker::Broker;
use tollgate_client::{
    Batch, BatchError, Client, CloseCode, Code, ConnectError, Ended, Event, Notice, NoticeKind,
    Request, Summary,
};
use tollgate_tests::{Rig, SOON, held::Held, raw};

#[path = "drain/late.rs"]
mod late;
#[path = "drain/process.rs"]
mod process;

/// Longer than any test: the drain is over when nothing runs, not when the time is.
const LONG: Duration = Duration::from_secs(600);

/// A broker with the recipe `held`, a client, and a batch of it with one item that runs.
async fn running(held: &Held) -> (Rig, Client, Batch) {
    let rig = Rig::with_catalog(held.catalog(), |_| {}).await;
    let client = rig.client("acme").await;
    let mut batch = client.batch().open().await.expect("a batch");
    batch.send(Request::new("held", "first")).await.expect("sent");
    batch.flush().await.expect("sent");
    held.begun(1).await;
    (rig, client, batch)
}

/// Ends a broker in the background.
fn shut_down(broker: Broker, limit: Duration) -> tokio::task::JoinHandle<()> {
    tokio::spawn(broker.shutdown(limit))
}

/// Reads until the broker says that it drains.
async fn noticed(batch: &mut Batch) -> Notice {
    let notice = async {
        loop {
            if let Event::Notice(notice) = batch.next().await.expect("an event").expect("no error")
            {
                return notice;
            }
        }
    };
    tokio::time::timeout(SOON, notice).await.expect("a notice")
}

/// Reads to the end: the codes of the results, and the summary.
async fn to_the_end(batch: &mut Batch) -> (Vec<Code>, Summary) {
    let (mut codes, mut summary) = (Vec::new(), None);
    let all = async {
        while let Some(event) = batch.next().await {
            match event.expect("no error") {
                Event::Result(item) => codes.push(item.code().expect("a known code")),
                Event::Summary(end) => summary = Some(end),
                _ => {}
            }
        }
    };
    tokio::time::timeout(SOON, all).await.expect("it comes to an end");
    (codes, summary.expect("a regular end"))
}

async fn closed_with_draining(conn: &quinn::Connection) {
    let error = tokio::time::timeout(SOON, conn.closed()).await.expect("it is closed");
    let quinn::ConnectionError::ApplicationClosed(close) = &error else {
        panic!("not closed by the broker: {error}");
    };
    let code = CloseCode::from_number(close.error_code.into_inner());
    assert_eq!(code, Some(CloseCode::Draining), "{error}");
}

async fn ends(shutdown: tokio::task::JoinHandle<()>) {
    tokio::time::timeout(SOON, shutdown).await.expect("the broker ends").expect("no panic");
}

#[tokio::test]
async fn running_batches_are_told_and_finish() {
    let held = Held::default();
    let (rig, client, mut batch) = running(&held).await;
    let Rig { broker, dir } = rig;
    let conn = client.connection().expect("connected");
    let before = SystemTime::now();
    let shutdown = shut_down(broker, LONG);
    let notice = noticed(&mut batch).await;
    assert_eq!(notice.kind, NoticeKind::Draining);
    // On the wire a time has milliseconds.
    let until = notice.at.duration_since(before).expect("in the future");
    assert!(until + Duration::from_millis(1) >= LONG, "{until:?}");

    // The batch was there before: it takes items still.
    batch.send(Request::new("held", "second")).await.expect("sent");
    batch.finish().await.expect("sealed");
    held.begun(2).await;
    assert!(!shutdown.is_finished(), "the broker waits for what runs");
    held.release(2);
    let (codes, summary) = to_the_end(&mut batch).await;
    assert_eq!((codes, summary.ended), (vec![Code::Ok, Code::Ok], Ended::Sealed));
    closed_with_draining(&conn).await;
    ends(shutdown).await;
    drop(dir);
}

#[tokio::test]
async fn nothing_new_begins_while_a_broker_drains() {
    let held = Held::default();
    let (rig, client, mut batch) = running(&held).await;
    let idle = rig.client("globex").await;
    let idle_conn = idle.connection().expect("connected");
    let builder = rig.builder("globex");
    let Rig { broker, dir } = rig;
    let shutdown = shut_down(broker, LONG);
    noticed(&mut batch).await;

    // Not on a connection that is there.
    let error = client.execute([Request::new("echo", "x")]).await.expect_err("refused");
    let BatchError::Failed(failure) = &error else { panic!("not refused: {error}") };
    assert_eq!(failure.code(), Some(Code::Draining), "{error}");
    assert!(failure.retryable && failure.side_effect_free, "elsewhere, at once");
    assert_eq!(client.version().await.expect_err("refused").code(), Some(Code::Draining));
    // Not on one that had nothing to do.
    closed_with_draining(&idle_conn).await;
    // Not on a new one.
    let error = builder.connect().await.expect_err("nobody is let in");
    assert!(matches!(error, ConnectError::Lost(_)), "told, not left waiting: {error}");
    assert!(error.to_string().contains("refused") && error.retryable(), "{error}");

    batch.finish().await.expect("sealed");
    held.release(1);
    assert_eq!(to_the_end(&mut batch).await.0, [Code::Ok]);
    ends(shutdown).await;
    assert_eq!(held.runs().len(), 1);
    drop(dir);
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_told_so() {
    let held = Held::default();
    let (rig, client, mut sealed) = running(&held).await;
    sealed.finish().await.expect("sealed");
    let mut open = client.batch().concurrency_max(1).open().await.expect("a batch");
    for id in 1..=3 {
        open.send(Request::new("held", "x").id(100 + id)).await.expect("sent");
    }
    open.flush().await.expect("sent");
    held.begun(2).await;
    let conn = client.connection().expect("connected");
    let Rig { broker, dir } = rig;
    ends(shut_down(broker, Duration::from_millis(100))).await;

    let (codes, summary) = to_the_end(&mut sealed).await;
    assert_eq!((codes, summary.ended), (vec![Code::Draining], Ended::Draining));
    let (codes, summary) = to_the_end(&mut open).await;
    assert_eq!((codes, summary.ended), (vec![Code::Draining; 3], Ended::Draining));
    assert_eq!(summary.failed, [(Code::Draining.number(), 3)]);
    closed_with_draining(&conn).await;
    assert_eq!(held.runs().len(), 2, "what waited was never begun");
    drop(dir);
}

#[tokio::test]
async fn a_broker_without_work_ends_at_once() {
    let rig = Rig::start().await;
    let client = rig.client("acme").await;
    // A stream that never says anything is no work.
    let silent = raw::connect(rig.addr(), &rig.credentials("acme")).await;
    let _stream = silent.stream().await;
    let conn = client.connection().expect("connected");
    let Rig { broker, dir } = rig;
    let shutdown = shut_down(broker, LONG);
    closed_with_draining(&conn).await;
    drop(silent);
    ends(shutdown).await;
    drop(dir);
}

#[tokio::test]
async fn a_port_is_free_once_the_broker_has_ended() {
    let rig = Rig::start().await;
    let addr = rig.addr();
    let client = rig.client("acme").await;
    let Rig { broker, dir } = rig;
    ends(shut_down(broker, LONG)).await;
    drop(client);
    let again = tollgate_broker::Config {
        listen: addr,
        data_dir: Some(dir.path().into()),
        ..tollgate_broker::Config::default()
    };
    let catalog = Held::default().catalog();
    Broker::start(again, catalog).await.expect("a broker on the same port");
}

#[tokio::test]
async fn dropping_a_broker_ends_it_at_once() {
    let held = Held::default();
    let (rig, client, mut batch) = running(&held).await;
    let conn = client.connection().expect("connected");
    drop(rig);
    // By whatever word: it may not serve on behind the back of its owner.
    tokio::time::timeout(SOON, conn.closed()).await.expect("the connection ends");
    let cut = async { while let Some(Ok(_)) = batch.next().await {} };
    tokio::time::timeout(SOON, cut).await.expect("the batch ends");
}
