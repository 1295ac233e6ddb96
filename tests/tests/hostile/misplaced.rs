//! Good frames where they do not belong, ids that do not rise, seals that do not match.

use tollgate_protocol::{
    ClientFrame, Code,
    batch::{CancelScope, Request},
    describe::{Describe, Subject},
    topic::{
        Ack, ConsumeOpen, GroupAction, GroupAsk, Message, Nack, ProduceOpen, TopicAction, TopicAsk,
    },
};

use super::{Scene, bytes, check_first, check_within, framed, open, request};

const MISPLACED: Code = Code::InvalidAction;

fn describe() -> ClientFrame<'static> {
    ClientFrame::Describe(Describe {
        subject: Subject::Version,
        tenant: None,
        extensions: tollgate_protocol::Extensions::EMPTY,
    })
}

#[tokio::test]
async fn a_batchs_frame_does_not_open_a_stream() {
    let frames = [
        request(1),
        ClientFrame::Seal { items: 0 },
        ClientFrame::Cancel(CancelScope::All),
        ClientFrame::Cancel(CancelScope::Pending),
        ClientFrame::Detach,
    ];
    for frame in frames {
        check_first(&bytes(&[frame]), MISPLACED, ("nothing", "")).await;
    }
}

fn of_topics() -> [ClientFrame<'static>; 4] {
    let (topic, group) = ("orders", "billing");
    [
        ClientFrame::Produce(ProduceOpen::new(topic)),
        ClientFrame::Consume(ConsumeOpen::new(topic)),
        ClientFrame::Topic(TopicAsk::new(TopicAction::Get { topic })),
        ClientFrame::Group(GroupAsk::new(GroupAction::Get { topic, group })),
    ]
}

fn within_topics() -> [ClientFrame<'static>; 3] {
    let (partition, first, last) = (0, 0, 0);
    [
        ClientFrame::Message(Message::new(1, b"x")),
        ClientFrame::Ack(Ack { partition, first, last }),
        ClientFrame::Nack(Nack { partition, first, last }),
    ]
}

#[tokio::test]
async fn what_belongs_into_a_stream_of_a_topic_opens_none() {
    for frame in within_topics() {
        check_first(&bytes(&[frame]), MISPLACED, ("nothing", "")).await;
    }
}

#[tokio::test]
async fn frames_of_topics_do_not_belong_into_a_batch() {
    for frame in of_topics().into_iter().chain(within_topics()) {
        check_within(&bytes(&[frame]), MISPLACED, ("nothing", "")).await;
    }
}

#[tokio::test]
async fn a_stream_has_one_opening() {
    check_within(&bytes(&[open()]), MISPLACED, ("nothing", "")).await;
    check_within(&bytes(&[describe()]), MISPLACED, ("nothing", "")).await;
}

#[tokio::test]
async fn who_has_not_sealed_does_not_detach() {
    check_within(&bytes(&[ClientFrame::Detach]), MISPLACED, ("nothing", "")).await;
}

#[tokio::test]
async fn an_idempotency_key_of_nothing_is_that_items_fault_alone() {
    let scene = Scene::new().await;
    let mut batch = scene.raw.batch().await;
    let keyed = Request { idempotency_key: Some(""), ..Request::new(1, "echo", b"") };
    batch.frame(&ClientFrame::Request(keyed)).await;
    batch.request(2, "echo", b"2").await;
    batch.seal(2).await;
    let told = batch.failures().await;
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].id, told[0].code()), (Some(1), Some(Code::ValidationError)));
    assert_eq!(told[0].detail("field"), "idempotency_key");
    scene.end().await;
}

/// In a batch that is sealed and not done, such bytes get such an error.
async fn check_sealed(bytes: &[u8], code: Code) {
    let scene = Scene::new().await;
    let mut batch = scene.raw.batch().await;
    batch.request(1, "gate", b"1").await;
    batch.seal(1).await;
    scene.stage.running(1).await;
    batch.bytes(bytes).await;
    let told = batch.failures().await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].id, told[0].code()), (None, Some(code)), "{told:?}");
    scene.stage.until("what ran is stopped", |s| s.dropped == ["1"]).await;
    scene.end().await;
}

#[tokio::test]
async fn after_its_seal_a_batch_takes_no_more() {
    check_sealed(&bytes(&[request(2)]), MISPLACED).await;
    check_sealed(&bytes(&[request(1)]), MISPLACED).await;
    check_sealed(&bytes(&[ClientFrame::Seal { items: 1 }]), MISPLACED).await;
    check_sealed(&bytes(&[ClientFrame::Seal { items: 7 }]), MISPLACED).await;
    check_sealed(&bytes(&[open()]), MISPLACED).await;
    let name = "x".repeat(129);
    let bad = ClientFrame::Request(Request::new(2, &name, b""));
    check_sealed(&bytes(&[bad]), MISPLACED).await;
    check_sealed(&framed(b""), Code::MalformedFrame).await;
    check_sealed(&framed(&[99]), Code::MalformedFrame).await;
    check_sealed(&[0xff; 4], Code::FrameTooLarge).await;
}

#[tokio::test]
async fn ids_rise_strictly_or_the_batch_ends() {
    // The item before has the id 2.
    for id in [2, 1, 0] {
        check_within(&bytes(&[request(id)]), Code::ValidationError, ("field", "id")).await;
        let name = "x".repeat(129);
        let bad = ClientFrame::Request(Request::new(id, &name, b""));
        check_within(&bytes(&[bad]), Code::ValidationError, ("field", "id")).await;
    }
}

#[tokio::test]
async fn the_largest_id_is_an_id_and_none_follows_it() {
    let scene = Scene::new().await;
    let mut batch = scene.raw.batch().await;
    batch.request(0, "echo", b"0").await;
    batch.request(u64::MAX, "echo", b"max").await;
    assert_eq!(batch.until(&format!("result {}", u64::MAX)).await.len(), 3);
    batch.request(0, "echo", b"0").await;
    let told = batch.failures().await;
    assert_eq!(told[0].code(), Some(Code::ValidationError));
    scene.end().await;
}

#[tokio::test]
async fn a_seal_counts_the_requests_that_were_sent() {
    // Two were.
    for items in [0, 1, 3, u64::MAX] {
        let frame = bytes(&[ClientFrame::Seal { items }]);
        check_within(&frame, Code::ValidationError, ("read", "2")).await;
    }
}

#[tokio::test]
async fn a_refused_opening_starts_nothing_of_what_was_sent_with_it() {
    let scene = Scene::new().await;
    let ClientFrame::Batch(batch) = open() else { unreachable!("it is one") };
    let foreign = tollgate_protocol::batch::BatchOpen { tenant: Some("globex"), ..batch };
    let gate = ClientFrame::Request(Request::new(1, "gate", b"1"));
    let told = scene.refused(&bytes(&[ClientFrame::Batch(foreign), gate])).await;
    assert!(told.side_effect_free, "{told:?}");
    scene.serves().await;
    assert!(scene.stage.seen().started.is_empty());
    scene.end().await;
}

#[tokio::test]
async fn a_question_takes_no_second_frame() {
    let scene = Scene::new().await;
    // The broker reads nothing after the question: what follows it is not even looked at.
    let mut stream = scene.sent(&[bytes(&[describe()]), vec![0xff; 64]].concat()).await;
    assert_eq!(stream.transcript().await.len(), 2);
    scene.end().await;
}
