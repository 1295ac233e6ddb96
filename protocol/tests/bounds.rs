//! Every bound of the format exactly at its limit and one over, and every tag that is no tag.

mod support;

use support::{
    model::{
        BatchOpen, Blob, Body, Broker, Client, Describe, Ext, Failure, ItemResult, Map, Notice,
        NoticeKind, Progress, Recipe, Request, Subject, Summary, Throttled, UsageLine,
        job::{
            Attach, JobAccepted, JobAction, JobAsk, JobError, JobFilter, JobInfo, JobWhich, Jobs,
        },
        topic::{
            Assigned, ConsumeAccepted, ConsumeOpen, Delivery, GroupAction, GroupAsk, GroupInfo,
            Listed, Message, ProduceAccepted, ProduceFailed, ProduceOpen, StartAt, TopicAction,
            TopicAsk, TopicInfo,
        },
        work::{self, ToWorker, Worker},
    },
    vectors,
};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, DecodeError, DispatchFrame, Problem, WorkerFrame, encode, limits,
};

/// A bound that a size is held against: `make(max)` is a frame, `make(max + 1)` is refused.
#[track_caller]
fn client(field: &str, max: usize, make: impl Fn(usize) -> Client) {
    ClientFrame::decode(&make(max).bytes()).expect("the bound itself is allowed");
    let over = make(max + 1).bytes();
    refused(field, max, &ClientFrame::decode(&over).expect_err("one over is refused"));
}

#[track_caller]
fn broker(field: &str, max: usize, make: impl Fn(usize) -> Broker) {
    BrokerFrame::decode(&make(max).bytes()).expect("the bound itself is allowed");
    let over = make(max + 1).bytes();
    refused(field, max, &BrokerFrame::decode(&over).expect_err("one over is refused"));
}

#[track_caller]
fn worker(field: &str, max: usize, make: impl Fn(usize) -> Worker) {
    WorkerFrame::decode(&make(max).bytes()).expect("the bound itself is allowed");
    let over = make(max + 1).bytes();
    refused(field, max, &WorkerFrame::decode(&over).expect_err("one over is refused"));
}

#[track_caller]
fn dispatch(field: &str, max: usize, make: impl Fn(usize) -> ToWorker) {
    DispatchFrame::decode(&make(max).bytes()).expect("the bound itself is allowed");
    let over = make(max + 1).bytes();
    refused(field, max, &DispatchFrame::decode(&over).expect_err("one over is refused"));
}

#[track_caller]
fn refused(field: &str, bound: usize, e: &DecodeError) {
    assert_eq!(e.field, field);
    assert!(e.is_out_of_bounds(), "{e}");
    let (over, max) = match e.problem {
        Problem::TooLong { len, max } | Problem::TooMany { len, max } => (len, max),
        Problem::OutOfRange { found, max } => (found, max as usize),
        _ => panic!("{e}"),
    };
    assert_eq!((over, max), (bound as u64 + 1, bound));
}

fn x(n: usize) -> String {
    "x".repeat(n)
}

fn pairs(n: usize, key: usize, value: usize) -> Map {
    vec![(x(key), x(value)); n]
}

/// A map that takes `n` bytes after its count.
fn map_of(n: usize) -> Map {
    let mut map = pairs(4, 1, 4_092);
    map[3].1 = x(4_092 + n - limits::PAIRS_BYTES_MAX);
    map
}

fn exts(n: usize, body: usize) -> Vec<Ext> {
    vec![Ext { number: 1, critical: false, body: Blob(vec![0; body]) }; n]
}

#[test]
fn the_fields_of_an_open_frame_end_at_their_bounds() {
    let open = vectors::batch;
    client("tenant", 63, |n| Client::Batch(BatchOpen { tenant: Some(x(n)), ..open() }));
    client("priority", 7, |n| Client::Batch(BatchOpen { priority: n as u8, ..open() }));
    client("traceparent", 256, |n| Client::Batch(BatchOpen { traceparent: Some(x(n)), ..open() }));
    client("extensions", 16, |n| Client::Batch(BatchOpen { extensions: exts(n, 9), ..open() }));
    client("extensions.body", 1_024, |n| {
        Client::Batch(BatchOpen { extensions: exts(2, n), ..open() })
    });
    client("tenant", 63, |n| {
        let tenant = Some(x(n));
        Client::Describe(Describe { subject: Subject::Usage, tenant, extensions: vec![] })
    });
}

#[test]
fn the_fields_of_a_request_end_at_their_bounds() {
    let with = |f: &dyn Fn(&mut Request)| {
        let mut r = vectors::request(17, "echo");
        f(&mut r);
        Client::Request(r)
    };
    client("recipe", 128, |n| with(&|r| r.recipe = x(n)));
    client("idempotency_key", 256, |n| with(&|r| r.idempotency_key = Some(x(n))));
    client("tenant", 63, |n| with(&|r| r.tenant = Some(x(n))));
    client("metadata", 64, |n| with(&|r| r.metadata = pairs(n, 1, 1)));
    client("metadata", 128, |n| with(&|r| r.metadata = pairs(2, n, 1)));
    client("metadata", 4_096, |n| with(&|r| r.metadata = pairs(2, 1, n)));
    client("metadata", 16_384, |n| with(&|r| r.metadata = map_of(n)));
}

#[test]
fn the_fields_of_a_failure_end_at_their_bounds() {
    let with = |f: &dyn Fn(&mut Failure)| {
        let mut failure = vectors::failure_every_field();
        f(&mut failure);
        Broker::Error { code: 1, failure }
    };
    broker("message", 4_096, |n| with(&|f| f.message = x(n)));
    broker("app_code", 128, |n| with(&|f| f.app_code = Some(x(n))));
    broker("quota", 128, |n| with(&|f| f.quota.as_mut().expect("set").quota = x(n)));
    broker("details", 64, |n| with(&|f| f.details = pairs(n, 1, 1)));
    broker("details", 16_384, |n| with(&|f| f.details = map_of(n)));
    broker("message", 4_096, |n| {
        let failure = Failure { message: x(n), ..vectors::failure("") };
        Broker::Result(ItemResult { body: Body::Failure(failure), ..vectors::result() })
    });
}

#[test]
fn the_fields_of_the_brokers_frames_end_at_their_bounds() {
    let (progress, result, recipe) = (vectors::progress, vectors::result, vectors::recipe);
    broker("message", 4_096, |n| Broker::Progress(Progress { message: x(n), ..progress() }));
    broker("metadata", 64, |n| {
        Broker::Progress(Progress { metadata: pairs(n, 0, 0), ..progress() })
    });
    broker("tenant", 63, |n| Broker::Result(ItemResult { tenant: Some(x(n)), ..result() }));
    broker("metadata", 128, |n| {
        Broker::Result(ItemResult { metadata: pairs(1, n, 0), ..result() })
    });
    broker("extensions", 16, |n| Broker::Result(ItemResult { extensions: exts(n, 0), ..result() }));
    broker("quota", 128, |n| Broker::Throttled(Throttled { quota: x(n), ..vectors::throttled() }));
    broker("message", 4_096, |n| {
        Broker::Notice(Notice { kind: NoticeKind::Draining, at_unix_ms: 1, message: x(n) })
    });
    broker("failed", 256, |n| {
        Broker::Summary(Summary { failed: vec![(300, 1); n], ..vectors::summary_every_field() })
    });
    broker("protocol", 128, |n| Broker::Version { protocol: x(n), broker: x(0) });
    broker("broker", 128, |n| Broker::Version { protocol: x(0), broker: x(n) });
    broker("name", 128, |n| Broker::Recipe(Recipe { name: x(n), ..recipe() }));
    broker("description", 4_096, |n| Broker::Recipe(Recipe { description: x(n), ..recipe() }));
    broker("schema", 65_536, |n| Broker::Recipe(Recipe { schema: Some(x(n)), ..recipe() }));
    let line = |n| UsageLine { quota: x(n), current: 1, limit: None };
    broker("lines", 64, |n| Broker::Usage { lines: vec![line(1); n] });
    broker("quota", 128, |n| Broker::Usage { lines: vec![line(n)] });
}

#[test]
fn the_fields_of_what_is_asked_of_jobs_end_at_their_bounds() {
    let attach = vectors::job::attach;
    client("tenant", 63, |n| Client::Attach(Attach { tenant: Some(x(n)), ..attach() }));
    client("extensions", 16, |n| Client::Attach(Attach { extensions: exts(n, 9), ..attach() }));
    let ask = |action| Client::Job(JobAsk { tenant: None, action, extensions: vec![] });
    let (filter, list) = (vectors::job::filter, vectors::job::list);
    client("tenant", 63, |n| {
        Client::Job(JobAsk { tenant: Some(x(n)), ..vectors::job::list_every_field() })
    });
    client("extensions", 16, |n| {
        Client::Job(JobAsk { extensions: exts(n, 9), ..vectors::job::list_every_field() })
    });
    client("states", 127, |n| ask(list(JobFilter { states: n as u8, ..filter() }, None, 0)));
    client("recipe", 128, |n| ask(list(JobFilter { recipe: Some(x(n)), ..filter() }, None, 0)));
    client("cursor", 256, |n| ask(list(filter(), Some(x(n)), 0)));
    client("limit", 1_000, |n| ask(list(filter(), None, n as u32)));
    client("states", 127, |n| {
        let filter = JobFilter { states: n as u8, ..filter() };
        ask(JobAction::Purge { which: JobWhich::Filter(filter) })
    });
}

#[test]
fn the_fields_of_what_is_told_of_jobs_end_at_their_bounds() {
    let (accepted, info) = (vectors::job::accepted, vectors::job::info);
    broker("tenant", 63, |n| Broker::JobAccepted(JobAccepted { tenant: Some(x(n)), ..accepted() }));
    broker("extensions", 16, |n| {
        Broker::JobAccepted(JobAccepted { extensions: exts(n, 0), ..accepted() })
    });
    broker("recipe", 128, |n| Broker::Job(JobInfo { recipe: x(n), ..info() }));
    broker("message", 4_096, |n| Broker::Job(JobInfo { message: x(n), ..info() }));
    broker("idempotency_key", 256, |n| {
        Broker::Job(JobInfo { idempotency_key: Some(x(n)), ..info() })
    });
    let error = |n| JobError { attempt: 1, at_unix_ms: 1, code: 17, message: x(n) };
    broker("errors", 32, |n| Broker::Job(JobInfo { errors: vec![error(1); n], ..info() }));
    broker("errors.message", 512, |n| Broker::Job(JobInfo { errors: vec![error(n)], ..info() }));
    broker("extensions", 16, |n| Broker::Job(JobInfo { extensions: exts(n, 0), ..info() }));
    broker("next", 256, |n| Broker::Jobs(Jobs { count: 1, next: Some(x(n)) }));
}

#[test]
fn the_fields_of_what_opens_a_workers_streams_end_at_their_bounds() {
    client("credit", 65_536, |n| {
        Client::Work(work::WorkOpen { credit: n as u32, extensions: vec![] })
    });
    client("extensions", 16, |n| {
        Client::Work(work::WorkOpen { credit: 1, extensions: exts(n, 9) })
    });
    client("metadata", 64, |n| {
        Client::Deliver(work::Deliver { metadata: pairs(n, 1, 1), ..vectors::work::deliver() })
    });
}

#[test]
fn the_fields_of_a_workers_frames_end_at_their_bounds() {
    let spec = vectors::work::spec_every_field;
    let register = |f: &dyn Fn(&mut work::RecipeSpec)| {
        let mut s = spec();
        f(&mut s);
        Worker::Register(s)
    };
    worker("name", 128, |n| register(&|s| s.name = x(n)));
    worker("description", 4_096, |n| register(&|s| s.description = x(n)));
    worker("schema", 65_536, |n| register(&|s| s.schema = Some(x(n))));
    worker("extensions", 16, |n| register(&|s| s.extensions = exts(n, 0)));
    worker("add", 65_536, |n| Worker::Credit { add: n as u32 });
    worker("message", 4_096, |n| {
        Worker::Progress(work::CallProgress { message: x(n), ..vectors::work::progress() })
    });
    let answer = vectors::work::answer;
    worker("metadata", 16_384, |n| {
        Worker::Answer(work::Answer { metadata: map_of(n), ..answer() })
    });
    worker("payload", 65_536, |n| {
        Worker::Answer(work::Answer { payload: Blob(vec![7; n]), ..answer() })
    });
    let failed = vectors::work::failed;
    worker("message", 4_096, |n| Worker::Failed(work::Failed { message: x(n), ..failed() }));
    worker("app_code", 128, |n| Worker::Failed(work::Failed { app_code: Some(x(n)), ..failed() }));
    worker("details", 64, |n| Worker::Failed(work::Failed { details: pairs(n, 1, 1), ..failed() }));
}

#[test]
fn the_fields_of_the_brokers_frames_to_workers_end_at_their_bounds() {
    let with = |f: &dyn Fn(&mut work::Call)| {
        let mut call = vectors::work::call();
        f(&mut call);
        ToWorker::Dispatch(call)
    };
    dispatch("tenant", 63, |n| with(&|c| c.tenant = x(n)));
    dispatch("traceparent", 256, |n| with(&|c| c.traceparent = Some(x(n))));
    dispatch("metadata", 64, |n| with(&|c| c.metadata = pairs(n, 1, 1)));
    dispatch("payload", 65_536, |n| with(&|c| c.payload = Blob(vec![7; n])));
    dispatch("message", 4_096, |n| {
        ToWorker::Notice(Notice { kind: NoticeKind::Draining, at_unix_ms: 1, message: x(n) })
    });
    dispatch("message", 4_096, |n| ToWorker::Error { code: 9, failure: vectors::failure(&x(n)) });
}

#[test]
fn the_fields_of_what_opens_a_topics_streams_end_at_their_bounds() {
    let (produce, consume) = (vectors::topic::produce, vectors::topic::consume);
    client("topic", 128, |n| Client::Produce(ProduceOpen { topic: x(n), ..produce() }));
    client("tenant", 63, |n| Client::Produce(ProduceOpen { tenant: Some(x(n)), ..produce() }));
    client("extensions", 16, |n| {
        Client::Produce(ProduceOpen { extensions: exts(n, 9), ..produce() })
    });
    client("topic", 128, |n| Client::Consume(ConsumeOpen { topic: x(n), ..consume() }));
    client("tenant", 63, |n| Client::Consume(ConsumeOpen { tenant: Some(x(n)), ..consume() }));
    client("offsets", 1_024, |n| {
        let offsets = (0..n as u32).map(|partition| (partition, 300)).collect();
        Client::Consume(ConsumeOpen { offsets, ..consume() })
    });
    client("group", 128, |n| Client::Consume(ConsumeOpen { group: Some(x(n)), ..consume() }));
    client("extensions", 16, |n| {
        Client::Consume(ConsumeOpen { extensions: exts(n, 9), ..consume() })
    });
}

#[test]
fn the_fields_of_what_is_asked_of_topics_end_at_their_bounds() {
    let ask = |action| Client::Topic(TopicAsk { tenant: None, action, extensions: vec![] });
    let (create, kept) = (vectors::topic::create, vectors::topic::KEPT);
    let every = vectors::topic::create_every_field;
    client("tenant", 63, |n| Client::Topic(TopicAsk { tenant: Some(x(n)), ..every() }));
    client("extensions", 16, |n| Client::Topic(TopicAsk { extensions: exts(n, 9), ..every() }));
    client("partitions", 1_024, |n| ask(create(n as u32, kept)));
    client("topic", 128, |n| {
        ask(TopicAction::Create { topic: x(n), partitions: 1, retention: kept })
    });
    client("topic", 128, |n| ask(TopicAction::Delete { topic: x(n) }));
    client("topic", 128, |n| ask(TopicAction::Get { topic: x(n) }));
    client("topic", 128, |n| ask(TopicAction::Update { topic: x(n), retention: kept }));
    client("cursor", 256, |n| ask(vectors::topic::list_topics(Some(x(n)), 0)));
    client("limit", 1_000, |n| ask(vectors::topic::list_topics(None, n as u32)));
}

#[test]
fn the_fields_of_what_is_asked_of_groups_end_at_their_bounds() {
    let ask = |action| Client::Group(GroupAsk { tenant: None, action, extensions: vec![] });
    let (list, every) = (vectors::topic::list_groups, vectors::topic::reset_every_field);
    client("tenant", 63, |n| Client::Group(GroupAsk { tenant: Some(x(n)), ..every() }));
    client("extensions", 16, |n| Client::Group(GroupAsk { extensions: exts(n, 9), ..every() }));
    client("topic", 128, |n| ask(GroupAction::Get { topic: x(n), group: x(1) }));
    client("group", 128, |n| ask(GroupAction::Get { topic: x(1), group: x(n) }));
    client("topic", 128, |n| ask(list(Some(x(n)), None, 0)));
    client("cursor", 256, |n| ask(list(None, Some(x(n)), 0)));
    client("limit", 1_000, |n| ask(list(None, None, n as u32)));
    client("topic", 128, |n| ask(GroupAction::Delete { topic: x(n), group: x(1) }));
    client("group", 128, |n| ask(GroupAction::Delete { topic: x(1), group: x(n) }));
    let reset = |topic, group| {
        ask(GroupAction::Reset { topic, group, partition: None, to: StartAt::Earliest })
    };
    client("topic", 128, |n| reset(x(n), x(1)));
    client("group", 128, |n| reset(x(1), x(n)));
}

#[test]
fn the_fields_of_a_message_end_at_their_bounds() {
    let message = || vectors::topic::message(17);
    client("key", 1_024, |n| Client::Message(Message { key: Some(Blob(vec![7; n])), ..message() }));
    client("headers", 64, |n| Client::Message(Message { headers: pairs(n, 1, 1), ..message() }));
    client("headers", 128, |n| Client::Message(Message { headers: pairs(2, n, 1), ..message() }));
    client("headers", 4_096, |n| Client::Message(Message { headers: pairs(2, 1, n), ..message() }));
    client("headers", 16_384, |n| Client::Message(Message { headers: map_of(n), ..message() }));

    let long = Message { key: Some(Blob(vec![7; 1_025])), ..vectors::topic::message(300) };
    let e = ClientFrame::decode(&Client::Message(long).bytes()).expect_err("too long");
    assert_eq!((e.item, e.is_out_of_bounds(), e.field), (Some(300), true, "key"));
    // Sequence 300, and no tag of an option.
    let e = ClientFrame::decode(&[15, 0xac, 0x02, 2]).expect_err("no option tag");
    assert_eq!((e.item, e.is_out_of_bounds(), e.field), (Some(300), false, "partition"));
}

#[test]
fn the_fields_of_what_is_told_of_topics_end_at_their_bounds() {
    let (topic, group) = (vectors::topic::topic_info, vectors::topic::group_info);
    broker("topic", 128, |n| Broker::Topic(TopicInfo { topic: x(n), ..topic() }));
    broker("partitions", 1_024, |n| {
        let partitions = vec![topic().partitions[0]; n];
        Broker::Topic(TopicInfo { partitions, ..topic() })
    });
    broker("extensions", 16, |n| Broker::Topic(TopicInfo { extensions: exts(n, 0), ..topic() }));
    broker("topic", 128, |n| Broker::Group(GroupInfo { topic: x(n), ..group() }));
    broker("group", 128, |n| Broker::Group(GroupInfo { group: x(n), ..group() }));
    broker("partitions", 1_024, |n| {
        let partitions = vec![group().partitions[0]; n];
        Broker::Group(GroupInfo { partitions, ..group() })
    });
    broker("extensions", 16, |n| Broker::Group(GroupInfo { extensions: exts(n, 0), ..group() }));
    broker("next", 256, |n| Broker::Listed(Listed { count: 1, next: Some(x(n)) }));
}

#[test]
fn the_fields_of_a_topics_streams_end_at_their_bounds() {
    let (produce, consume) = (vectors::topic::produce_accepted, vectors::topic::consume_accepted);
    broker("extensions", 16, |n| {
        Broker::ProduceAccepted(ProduceAccepted { extensions: exts(n, 0), ..produce() })
    });
    broker("message", 4_096, |n| {
        let failure = vectors::failure(&x(n));
        Broker::ProduceFailed(ProduceFailed { failure, ..vectors::topic::produce_failed() })
    });
    broker("extensions", 16, |n| {
        Broker::ConsumeAccepted(ConsumeAccepted { extensions: exts(n, 0), ..consume() })
    });
    let delivery = vectors::topic::delivery;
    broker("key", 1_024, |n| {
        Broker::Delivery(Delivery { key: Some(Blob(vec![7; n])), ..delivery() })
    });
    broker("headers", 64, |n| Broker::Delivery(Delivery { headers: pairs(n, 1, 1), ..delivery() }));
    broker("headers", 16_384, |n| Broker::Delivery(Delivery { headers: map_of(n), ..delivery() }));
    broker("partitions", 1_024, |n| {
        Broker::Assigned(Assigned { generation: 1, partitions: vec![300; n] })
    });
}

#[test]
fn a_lease_whose_answer_is_out_of_bounds_is_named() {
    let answer = work::Answer { payload: Blob(vec![7; 65_537]), ..vectors::work::answer() };
    let long = Worker::Answer(work::Answer { lease: 300, ..answer });
    let e = WorkerFrame::decode(&long.bytes()).expect_err("too long");
    assert_eq!((e.item, e.is_out_of_bounds(), e.field), (Some(300), true, "payload"));
    // A failure of lease 300 that ends within its message.
    let e = WorkerFrame::decode(&[4, 0xac, 0x02, 17, 0, 9, b'x']).expect_err("cut");
    assert_eq!((e.item, e.is_out_of_bounds(), e.field), (Some(300), false, "message"));
}

#[test]
fn an_item_out_of_bounds_is_named_and_a_malformed_one_is_not_forgiven() {
    let long = Client::Request(Request { tenant: Some(x(64)), ..vectors::request(300, "echo") });
    let e = ClientFrame::decode(&long.bytes()).expect_err("too long");
    assert_eq!((e.item, e.is_out_of_bounds()), (Some(300), true));

    // id 300, a recipe of one byte that is no UTF-8.
    let e = ClientFrame::decode(&[9, 0xac, 0x02, 1, 0xff, 0, 0, 0, 0, 0, 0]).expect_err("no UTF-8");
    assert_eq!((e.item, e.is_out_of_bounds(), e.field), (Some(300), true, "recipe"));

    // A length past the end of the frame is no bound: nothing after it can be found.
    let e = ClientFrame::decode(&[9, 5, 0xff, 0x01, b'x']).expect_err("past the end");
    assert_eq!((e.problem.clone(), e.is_out_of_bounds()), (Problem::Truncated, false));

    let e = ClientFrame::decode(&[9, 5, 1, b'x', 2]).expect_err("no option tag");
    assert_eq!((e.field, e.is_out_of_bounds()), ("timeout_ms", false));
}

#[test]
fn unknown_variants_and_wrong_directions_are_refused() {
    for frame in [&[][..], &[18], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff; 10]] {
        assert!(ClientFrame::decode(frame).is_err(), "{frame:?}");
    }
    for frame in [&[27][..], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff; 10]] {
        assert!(BrokerFrame::decode(frame).is_err(), "{frame:?}");
    }
    for frame in [&[][..], &[6], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff; 10]] {
        assert!(WorkerFrame::decode(frame).is_err(), "{frame:?}");
    }
    for frame in [&[6][..], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff; 10]] {
        assert!(DispatchFrame::decode(frame).is_err(), "{frame:?}");
    }
}

#[test]
fn longer_varints_are_read_up_to_ten_bytes_and_those_that_do_not_fit_are_refused() {
    let seal = |varint: &[u8]| {
        ClientFrame::decode(&[&[10], varint].concat()).map(|f| match f {
            ClientFrame::Seal { items } => items,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(seal(&[0x80, 0x00]), Ok(0));
    assert_eq!(seal(&[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), Ok(127));
    assert_eq!(seal(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Ok(u64::MAX));
    for bad in [
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02][..],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
    ] {
        let e = seal(bad).expect_err("does not fit");
        assert_eq!(e.problem, Problem::Overflow);
    }
    // An attempt is a u32, a status a u16: one more than fits.
    let e = BrokerFrame::decode(&[1, 0, 0x80, 0x80, 0x80, 0x80, 0x10]).expect_err("2^32");
    assert_eq!((e.field, e.problem), ("attempt", Problem::Overflow));
    let e = BrokerFrame::decode(&[2, 0, 0, 0x80, 0x80, 0x04]).expect_err("2^16");
    assert_eq!((e.field, e.problem), ("status", Problem::Overflow));
}

/// Whatever single byte of a frame is changed: what is still taken for a frame is written as it was
/// read, or shorter where a varint was longer than it had to be. So no two tags mean the same.
#[test]
fn no_changed_byte_is_read_as_something_it_does_not_say() {
    fn check(name: &str, bytes: &[u8], again: impl Fn(&[u8]) -> Option<Vec<u8>>) {
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut changed = bytes.to_vec();
                changed[at] = value;
                if let Some(out) = again(&changed) {
                    assert!(
                        out == changed || out.len() < changed.len(),
                        "{name}, byte {at}: {value}"
                    );
                }
            }
        }
    }
    for (name, model) in vectors::client() {
        check(name, &model.bytes(), |frame| Some(encoded(&ClientFrame::decode(frame).ok()?)));
    }
    for (name, model) in vectors::broker() {
        check(name, &model.bytes(), |frame| Some(encoded(&BrokerFrame::decode(frame).ok()?)));
    }
    for (name, model) in vectors::work::worker() {
        check(name, &model.bytes(), |frame| Some(encoded(&WorkerFrame::decode(frame).ok()?)));
    }
    for (name, model) in vectors::work::dispatch() {
        check(name, &model.bytes(), |frame| Some(encoded(&DispatchFrame::decode(frame).ok()?)));
    }
}

fn encoded(frame: &impl tollgate_protocol::Frame) -> Vec<u8> {
    let mut out = Vec::new();
    encode(frame, &mut out);
    out.split_off(limits::PREFIX_BYTES)
}
