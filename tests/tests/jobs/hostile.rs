//! Streams of jobs without manners, and those who may not open them.

use tollgate_certs::Identity;
use tollgate_client::{Code, JobState};
use tollgate_protocol::{
    ClientFrame, Extensions,
    batch::{BatchOpen, CancelScope, Durability, Number, Request},
    encode,
    id::{BatchId, JobId},
    job::{Attach, JobAction, JobAsk, JobFilter, JobTarget, JobWhich},
};
use tollgate_tests::{
    eventually,
    raw::{Raw, Told},
};

use crate::{staged, until};

/// Sends one frame and gives what was told of failures.
async fn told(raw: &Raw, frame: ClientFrame<'_>) -> Vec<Told> {
    let mut stream = raw.stream().await;
    stream.frame(&frame).await;
    stream.failures().await
}

fn durable<'a>(id: BatchId) -> impl FnOnce(&mut BatchOpen<'a>) {
    move |open| (open.batch_id, open.durability) = (id, Durability::Durable)
}

#[tokio::test]
async fn what_comes_with_the_first_frame_of_a_reader_is_heeded() {
    let (rig, stage, client) = staged().await;
    let job = client.submit_bytes("hang", "x").await.expect("accepted");
    stage.running(1).await;
    until(&client, job.id(), JobState::Running).await;
    let raw = rig.raw("acme").await;
    let mut stream = raw.stream().await;
    let mut bytes = Vec::new();
    let attach = Attach::new(JobTarget::Job(job.id()));
    encode(&ClientFrame::Attach(attach), &mut bytes);
    encode(&ClientFrame::Cancel(CancelScope::All), &mut bytes);
    stream.bytes(&bytes).await;
    let seen = stream.transcript().await;
    let ends: Vec<_> = seen.iter().filter(|l| l.starts_with("result") || *l == "End").collect();
    assert_eq!(ends.len(), 2, "{seen:?}");
    assert!(ends[0].ends_with("CANCELLED"), "{seen:?}");
}

#[tokio::test]
async fn a_reader_says_nothing_but_cancel_and_going_away_cancels_nothing() {
    let (rig, stage, client) = staged().await;
    let job = client.submit_bytes("gate", "x").await.expect("accepted");
    stage.running(1).await;
    let raw = rig.raw("acme").await;
    let attach = ClientFrame::Attach(Attach::new(JobTarget::Job(job.id())));
    for frame in [
        ClientFrame::Request(Request::new(1, "echo", b"x")),
        ClientFrame::Seal { items: 1 },
        ClientFrame::Detach,
    ] {
        let mut stream = raw.stream().await;
        stream.frame(&attach).await;
        stream.frame(&frame).await;
        let told = stream.failures().await;
        assert_eq!(told.last().and_then(Told::code), Some(Code::InvalidAction));
    }
    let mut torn = raw.stream().await;
    torn.frame(&attach).await;
    torn.bytes(&[0, 0, 0, 3, 0xff, 0xff, 0xff]).await;
    let told = torn.failures().await;
    assert_eq!(told.last().and_then(Told::code), Some(Code::MalformedFrame));
    let mut gone = raw.stream().await;
    gone.frame(&attach).await;
    gone.until("JobAccepted").await;
    gone.reset(0);
    drop(gone);
    assert!(raw.serves().await);
    stage.open(1);
    assert!(job.result_within(tollgate_tests::SOON).await.expect("over").is_success());
}

#[tokio::test]
async fn what_does_not_exist_or_makes_no_sense_is_said() {
    let (rig, _stage, _client) = staged().await;
    let raw = rig.raw("acme").await;
    let ask = |action| ClientFrame::Job(JobAsk::new(action));
    let nobody = JobId([9; 16]);
    let filter = JobFilter::default();
    let list = |cursor| ask(JobAction::List { filter, cursor: Some(cursor), limit: 1 });
    let bad_recipe = JobFilter { recipe: Some("No Name"), ..filter };
    let named = JobAsk { tenant: Some("globex"), ..JobAsk::new(JobAction::Get { job_id: nobody }) };
    for (frame, code, field) in [
        (ask(JobAction::Get { job_id: nobody }), Code::NotFound, ""),
        (ask(JobAction::Replay { which: JobWhich::One(nobody) }), Code::NotFound, ""),
        (list("not a cursor"), Code::ValidationError, "cursor"),
        (list(""), Code::ValidationError, "cursor"),
        (
            ask(JobAction::Purge { which: JobWhich::Filter(bad_recipe) }),
            Code::ValidationError,
            "recipe",
        ),
        (ClientFrame::Job(named), Code::Forbidden, ""),
        (ClientFrame::Attach(Attach::new(JobTarget::Batch(BatchId([9; 16])))), Code::NotFound, ""),
    ] {
        let told = told(&raw, frame).await;
        assert_eq!(told.iter().map(Told::code).collect::<Vec<_>>(), [Some(code)], "{told:?}");
        assert_eq!(told[0].detail("field"), field, "{told:?}");
    }
    assert!(raw.serves().await);
}

#[tokio::test]
async fn workers_do_not_ask_about_jobs() {
    let (rig, _stage, client) = staged().await;
    let job = client.submit_bytes("echo", "x").await.expect("accepted");
    let worker = rig.worker(Some("acme"), 1).await;
    let get = JobAsk::new(JobAction::Get { job_id: job.id() });
    let attach = Attach::new(JobTarget::Job(job.id()));
    for frame in [ClientFrame::Job(get), ClientFrame::Attach(attach)] {
        let told = told(&worker.raw, frame).await;
        assert_eq!(told.first().and_then(Told::code), Some(Code::Forbidden), "{told:?}");
    }
}

#[tokio::test]
async fn a_durable_batch_has_one_stream_at_a_time_and_is_resumed_until_it_is_sealed() {
    let (rig, stage, _client) = staged().await;
    let raw = rig.raw("acme").await;
    let id = BatchId::random();
    let mut first = raw.batch_with(durable(id)).await;
    first.request(1, "gate", b"one").await;
    first.request(5, "gate", b"five").await;
    stage.running(2).await;
    first.until("JobAccepted").await;
    first.until("JobAccepted").await;
    let mut second = raw.batch_with(durable(id)).await;
    let told = second.failures().await;
    assert_eq!((told[0].code(), told[0].retryable), (Some(Code::Conflict), true), "{told:?}");
    first.reset(0);
    drop(first);
    eventually("its stream is gone", || rig.broker.counters().streams == 0).await;
    let mut again = raw.batch_with(durable(id)).await;
    let last_id = again
        .next(|f| match f {
            tollgate_protocol::BrokerFrame::Accepted(a) => a.last_id,
            other => panic!("{other:?}"),
        })
        .await
        .expect("an answer");
    assert_eq!(last_id, Some(5));
    // The one again, one with another payload, and a new one.
    again.request(1, "gate", b"one").await;
    again.request(5, "gate", b"other").await;
    again.request(9, "gate", b"nine").await;
    again.seal(3).await;
    stage.running(3).await;
    stage.open(3);
    let mut seen = again.transcript().await;
    assert_eq!(seen.pop().as_deref(), Some("summary Sealed 3/3"), "{seen:?}");
    let results: Vec<_> = seen.iter().filter(|l| l.starts_with("result")).collect();
    assert_eq!(results.len(), 3, "{seen:?}");
    assert!(results.iter().any(|l| *l == "result 5 CONFLICT"), "{results:?}");
    assert!(results.iter().any(|l| *l == "result 1 OK one"), "{results:?}");
    let mut sealed = raw.batch_with(durable(id)).await;
    let told = sealed.failures().await;
    assert_eq!((told[0].code(), told[0].retryable), (Some(Code::Conflict), false), "{told:?}");
}

#[tokio::test]
async fn a_gateways_jobs_are_its_tenants_and_its_durable_batches_name_one() {
    let (rig, _stage, client) = staged().await;
    for tenant in ["acme", "globex"] {
        let set = |s: &mut tollgate_broker::tenancy::Settings| s.gateways = vec!["edge".into()];
        rig.broker.tenants().update(tenant, None, set).await.expect("there is one");
    }
    let edge = Identity::gateway("edge").expect("a name");
    let raw = tollgate_tests::raw::connect(rig.addr(), &rig.credentials_of(&edge)).await;
    let mut mixed = raw.batch_with(durable(BatchId::random())).await;
    let refused = mixed.failures().await;
    assert_eq!(refused[0].code(), Some(Code::ValidationError), "{refused:?}");
    let mut batch = raw.batch().await;
    for (id, tenant) in [(1, "acme"), (2, "globex"), (3, "nobody")] {
        let mut request = Request::new(id, "echo", b"x");
        (request.tenant, request.idempotency_key) = (Some(tenant), Some("k"));
        batch.frame(&ClientFrame::Request(request)).await;
    }
    batch.seal(3).await;
    let seen = batch.transcript().await;
    let accepted = seen.iter().filter(|l| l.starts_with("JobAccepted")).count();
    assert_eq!(
        (accepted, seen.last().map(String::as_str)),
        (2, Some("summary Sealed 2/3")),
        "{seen:?}"
    );
    let own = client.jobs().list(&tollgate_client::JobFilter::new()).await.expect("a list");
    assert_eq!(own.len(), 1, "acme sees its own");
    let attach = |tenant| {
        ClientFrame::Attach(Attach {
            target: JobTarget::Job(own[0].id),
            tenant,
            after: Number::default(),
            follow: true,
            extensions: Extensions::EMPTY,
        })
    };
    let mut stream = raw.stream().await;
    stream.frame(&attach(Some("acme"))).await;
    assert_eq!(stream.transcript().await.len(), 3, "accepted, result, end");
    for tenant in [Some("globex"), Some("nobody"), None] {
        let told = told(&raw, attach(tenant)).await;
        assert_eq!(told.len(), 1, "{tenant:?} {told:?}");
    }
}
