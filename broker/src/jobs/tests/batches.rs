//! Durable batches as a door runs them: what is refused last, what is checked first, and what a
//! summary says that is read late.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context as Poller, Poll},
    time::Instant,
};

use tollgate_protocol::{
    Code,
    batch::{BatchOpen, Durability, Ended, Request, Summary},
    id::{BatchId, JobId},
};

use super::{
    super::{Chosen, Config, Deed, Subject},
    rig::{Rig, soon},
};
use crate::{
    batch::{Accepted, Ending, Failure, Head, Offered, Over, Reply, Report, Run, Said, Sink, Told},
    rules::job::{How, Which},
    store::Store,
    tenancy::Tenant,
};

/// What a client would read.
#[derive(Default)]
struct Heard(Vec<String>, Vec<JobId>);

impl Sink for Heard {
    fn result(&mut self, head: &Head<'_>, outcome: Result<&mut Reply, &Failure>) {
        let how = outcome.map_or_else(|failure| failure.code.name(), |_| "OK");
        self.0.push(format!("{} {how}", head.id));
    }

    fn accepted(&mut self, accepted: &Accepted, _: Option<&str>) {
        self.0.push(format!("{} is a job", accepted.item));
        self.1.push(accepted.job);
    }

    fn progress(&mut self, _: &Report) {}

    fn is_full(&self) -> bool {
        false
    }
}

/// A durable batch of the first tenant, and what is said of it.
struct Door {
    run: Run,
    tenant: Arc<Tenant>,
    heard: Heard,
    sealed: bool,
}

impl Door {
    async fn open(rig: &Rig, id: BatchId) -> Door {
        let tenant = rig.tenants[0].clone();
        rig.jobs.open_batch(&tenant, id, false).await.expect("opens");
        let open = BatchOpen { durability: Durability::Durable, ..BatchOpen::new(id) };
        let (engine, now) = (rig.jobs.0.engine.clone(), Instant::now());
        let (terms, _) = engine.grant(&open, Some(&tenant), 1 << 20, now);
        let mut run = Run::new(engine, terms, &open, now);
        run.resume_jobs(&tenant);
        Door { run, tenant, heard: Heard::default(), sealed: false }
    }

    fn offer(&mut self, item: u64, recipe: &str, payload: &str) {
        let request = Request::new(item, recipe, payload.as_bytes());
        let now = Instant::now();
        let offered = self.run.offer(&request, &self.tenant, now, &mut self.heard);
        assert_eq!(offered, Offered::Taken);
    }

    fn seal(&mut self) {
        self.sealed = true;
        self.run.seal_jobs();
    }

    fn poll(&mut self, cx: &mut Poller<'_>) -> Poll<Over> {
        while self.run.poll(cx, &mut self.heard) {}
        let said = Said { sealed: self.sealed, detached: false, failed: None };
        self.run.over(said).map_or(Poll::Pending, Poll::Ready)
    }

    /// Polls until so much was heard.
    async fn hears(&mut self, lines: usize) {
        let heard = poll_fn(|cx| {
            let _ = self.poll(cx);
            if self.heard.0.len() < lines { Poll::Pending } else { Poll::Ready(()) }
        });
        soon("a word", heard).await.expect("it is said");
    }

    /// Polls it to its end.
    async fn ends(mut self) -> (Vec<String>, Summary<'static>) {
        let over = soon("its end", poll_fn(|cx| self.poll(cx))).await.expect("it ends");
        assert!(matches!(over, Over::Ended(Ended::Sealed)), "{over:?}");
        (self.heard.0, self.run.summary(Ended::Sealed))
    }
}

/// The summary that a reader of the batch is told.
async fn summary(rig: &Rig, batch: BatchId) -> Summary<'static> {
    let subject = Subject::Batch(batch);
    let attached = rig.jobs.attach(&rig.tenants[0], subject, Default::default(), true).await;
    let mut attached = attached.expect("it is there");
    loop {
        let told = soon("the summary", poll_fn(|cx| attached.poll_next(cx))).await;
        match told.expect("told").expect("a summary comes last") {
            Told::Over(summary) => return *summary,
            Told::Accepted(_) | Told::Ended(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_refused_after_the_seal_was_read_is_in_the_summary() {
    let (store, faults) = Store::memory_with_faults();
    let rig = Rig::start(&store).await;
    let id = BatchId::random();
    let mut door = Door::open(&rig, id).await;
    door.offer(1, "echo", "kept");
    door.hears(2).await;
    faults.full(true);
    door.offer(2, "echo", "there is no room for it");
    door.seal();
    let (heard, told) = door.ends().await;
    assert_eq!(heard, ["1 is a job", "1 OK", "2 STORAGE_FULL"]);
    assert_eq!((told.total, told.succeeded), (2, 1));
    assert_eq!(told.failed, [(Code::StorageFull.number(), 1)]);
    assert_eq!(summary(&rig, id).await, told, "and in every one that is read later");
}

#[tokio::test]
async fn who_leaves_after_the_seal_has_sealed() {
    let (store, faults) = Store::memory_with_faults();
    let rig = Rig::start(&store).await;
    let id = BatchId::random();
    let mut door = Door::open(&rig, id).await;
    faults.hold(true);
    door.offer(1, "echo", "under way");
    door.seal();
    drop(door);
    faults.hold(false);
    let told = summary(&rig, id).await;
    assert_eq!((told.ended, told.total, told.succeeded), (Ended::Sealed, 1, 1));
    let shelf = rig.jobs.0.shelf(&rig.tenants[0]);
    let sealed = shelf.lock().jobs.batch(id).and_then(|b| b.sealed.clone());
    assert_eq!(sealed.map(|s| s.how), Some(How::Client));
}

#[tokio::test]
async fn a_summary_says_for_ever_what_it_said_first() {
    let store = Store::memory();
    for config in [Config::default(), Config { checkpoint_events: 1, ..Config::default() }] {
        let rig = Rig::with(&store, &config).await;
        let id = BatchId::random();
        let mut door = Door::open(&rig, id).await;
        for (item, recipe) in [(1, "echo"), (2, "never"), (5, "echo")] {
            door.offer(item, recipe, "payload");
        }
        door.seal();
        let (_, first) = door.ends().await;
        assert_eq!((first.total, first.succeeded, first.last_id_read), (3, 2, Some(5)));
        assert_eq!((first.bytes_in, first.bytes_out), (21, 14));
        let tenant = &rig.tenants[0];
        let of_it = || Which { batch: Some(id), ..Which::default() };
        let purged = rig.jobs.act(tenant, Chosen::All(of_it()), Deed::Purge).await;
        assert_eq!(purged.expect("done"), 3);
        assert_eq!(summary(&rig, id).await, first);
        rig.stop().await;
        let rig = Rig::with(&store, &config).await;
        assert_eq!(summary(&rig, id).await, first, "after a restart as well");
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_batch_that_is_over_is_kept_as_long_as_it_has_jobs() {
    let config = Config { seal_ttl_ms: 10, ..Config::default() };
    let store = Store::memory();
    let rig = Rig::with(&store, &config).await;
    let (empty, full) = (BatchId::random(), BatchId::random());
    for (id, items) in [(empty, 0), (full, 1)] {
        let mut door = Door::open(&rig, id).await;
        (0..items).for_each(|item| door.offer(item, "echo", "x"));
        door.seal();
        assert_eq!(door.ends().await.1.total, items);
    }
    gone(&rig, empty).await;
    rig.stop().await;
    let rig = Rig::with(&store, &config).await;
    assert_eq!(summary(&rig, full).await.total, 1);
    let all = Which { batch: Some(full), ..Which::default() };
    let purged = rig.jobs.act(&rig.tenants[0], Chosen::All(all), Deed::Purge).await;
    assert_eq!(purged.expect("done"), 1);
    gone(&rig, full).await;
}

/// Waits until a batch is forgotten.
async fn gone(rig: &Rig, batch: BatchId) {
    let shelf = rig.jobs.0.shelf(&rig.tenants[0]);
    let forgotten = async {
        while shelf.lock().jobs.batch(batch).is_some() {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of a batch", forgotten).await.expect("it is forgotten");
}

#[tokio::test]
async fn a_long_payload_is_held_against_its_schema_before_it_is_a_job() {
    let rig = Rig::start(&Store::memory()).await;
    let id = BatchId::random();
    let mut door = Door::open(&rig, id).await;
    let pad = "x".repeat(20_000);
    let (bad, good) = (format!("{{\"pad\":\"{pad}\"}}"), format!("{{\"n\":1,\"pad\":\"{pad}\"}}"));
    door.offer(1, "typed", &bad);
    door.offer(2, "typed", &good);
    // Short, and needs no check: it comes behind them all the same.
    door.offer(3, "echo", "x");
    door.offer(4, "typed", &bad);
    door.seal();
    let (heard, told) = door.ends().await;
    let said = |what: &str| heard.iter().position(|h| h == what);
    assert_eq!(said("1 VALIDATION_ERROR"), Some(0), "{heard:?}");
    assert!(said("2 is a job") < said("3 is a job"), "{heard:?}");
    assert!(said("4 VALIDATION_ERROR").is_some(), "{heard:?}");
    assert!(said("1 is a job").or(said("4 is a job")).is_none(), "{heard:?}");
    assert_eq!((told.total, told.succeeded), (4, 2));
    assert_eq!(told.failed, [(Code::ValidationError.number(), 2)]);
    let listed = rig.jobs.list(&rig.tenants[0], &Which::default(), None, 10).await;
    assert_eq!(listed.expect("a list").jobs.len(), 2);
}

#[tokio::test]
async fn who_leaves_while_a_payload_is_checked_has_handed_it_over() {
    let rig = Rig::start(&Store::memory()).await;
    let good = format!("{{\"n\":1,\"pad\":\"{}\"}}", "x".repeat(20_000));
    for leaves in [false, true] {
        let id = BatchId::random();
        let mut door = Door::open(&rig, id).await;
        door.offer(1, "typed", &good);
        door.offer(2, "echo", "x");
        if leaves {
            door.run.cancel_all(Ending::LEFT, &mut door.heard);
        }
        door.seal();
        drop(door);
        let told = summary(&rig, id).await;
        assert_eq!((told.total, told.succeeded), (2, 2));
    }
}

#[tokio::test]
async fn what_is_checked_when_the_batch_is_cancelled_never_becomes_a_job() {
    let rig = Rig::start(&Store::memory()).await;
    let id = BatchId::random();
    let mut door = Door::open(&rig, id).await;
    let good = format!("{{\"n\":1,\"pad\":\"{}\"}}", "x".repeat(20_000));
    door.offer(1, "typed", &good);
    door.offer(2, "echo", "x");
    door.run.cancel_all(Ending::CANCELLED, &mut door.heard);
    door.run.seal_jobs();
    let over = soon("its end", poll_fn(|cx| door.poll(cx))).await.expect("it ends");
    assert!(matches!(over, Over::Ended(Ended::Cancelled)), "{over:?}");
    assert_eq!(door.heard.0, ["1 CANCELLED", "2 CANCELLED"]);
    let told = door.run.summary(Ended::Cancelled);
    assert_eq!((told.ended, told.total), (Ended::Cancelled, 2));
    let used = rig.jobs.counts(&rig.tenants[0]).await.expect("counted");
    assert_eq!(used, ([0; 7], 0), "nothing is kept of them");
}
