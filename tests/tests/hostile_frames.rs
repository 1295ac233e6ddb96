//! Bytes that no client would send: each gets its code, and costs nobody else anything.

#[path = "hostile/bounds.rs"]
mod bounds;
#[path = "hostile/cut.rs"]
mod cut;
#[path = "hostile/misplaced.rs"]
mod misplaced;
#[path = "hostile/wrong.rs"]
mod wrong;

use tollgate_protocol::{ClientFrame, Code, encode};
use tollgate_tests::{
    Rig,
    raw::{Raw, RawStream, Told},
    stage::Stage,
};

/// A broker, an attacker's connection, and another tenant's.
struct Scene {
    rig: Rig,
    stage: Stage,
    raw: Raw,
    other: Raw,
}

impl Scene {
    async fn new() -> Scene {
        Scene::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut tollgate_broker::Config)) -> Scene {
        let (rig, stage) = Rig::staged(change).await;
        let (raw, other) = (rig.raw("acme").await, rig.raw("globex").await);
        Scene { rig, stage, raw, other }
    }

    /// A stream on which such bytes were sent.
    async fn sent(&self, bytes: &[u8]) -> RawStream {
        let mut stream = self.raw.stream().await;
        // The broker may answer, and stop reading, before all of it is sent.
        let _ = stream.send.write_all(bytes).await;
        stream
    }

    /// The one failure that such bytes get, of the operation as a whole, and nothing after it.
    async fn refused(&self, bytes: &[u8]) -> Told {
        let mut stream = self.sent(bytes).await;
        let mut told = stream.failures().await;
        assert_eq!(told.len(), 1, "{told:?}");
        let told = told.pop().expect("one");
        assert_eq!(told.id, None, "an error of the whole: {told:?}");
        told
    }

    /// The connection serves the next batch, and another tenant's does.
    async fn serves(&self) {
        assert!(self.raw.serves().await, "the connection is kept");
        assert!(self.other.serves().await, "another tenant is served");
    }

    /// Everybody is served, and nothing is left behind.
    async fn end(self) {
        self.serves().await;
        self.rig.idle().await;
        assert_eq!(self.stage.seen().running, 0);
    }
}

fn bytes(frames: &[ClientFrame<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    frames.iter().for_each(|frame| encode(frame, &mut out));
    out
}

/// A frame's content with its prefix.
fn framed(content: &[u8]) -> Vec<u8> {
    let mut out = (content.len() as u32).to_be_bytes().to_vec();
    out.extend_from_slice(content);
    out
}

fn open() -> ClientFrame<'static> {
    use tollgate_protocol::{batch::BatchOpen, id::BatchId};
    ClientFrame::Batch(BatchOpen::new(BatchId::random()))
}

fn request(id: u64) -> ClientFrame<'static> {
    ClientFrame::Request(tollgate_protocol::batch::Request::new(id, "echo", b"x"))
}

/// Such bytes, alone on a stream, get such an error, with such a detail.
async fn check_first(bytes: &[u8], code: Code, detail: (&str, &str)) {
    let scene = Scene::new().await;
    let told = scene.refused(bytes).await;
    assert_eq!((told.code(), told.detail(detail.0)), (Some(code), detail.1), "{told:?}");
    scene.end().await;
}

/// Such bytes, in a batch in which one item ran and one runs, get such an error, and end both.
async fn check_within(bytes: &[u8], code: Code, detail: (&str, &str)) {
    let scene = Scene::new().await;
    let mut batch = scene.raw.batch().await;
    batch.request(1, "echo", b"1").await;
    batch.until("result 1 OK").await;
    batch.request(2, "gate", b"2").await;
    scene.stage.running(1).await;
    batch.bytes(bytes).await;
    let told = batch.failures().await;
    assert_eq!(told.len(), 1, "no result is told on the way: {told:?}");
    let told = &told[0];
    assert_eq!((told.id, told.code()), (None, Some(code)), "{told:?}");
    assert_eq!(told.detail(detail.0), detail.1, "{told:?}");
    assert!(!told.side_effect_free, "an item ran: {told:?}");
    scene.stage.until("what ran is stopped", |s| s.dropped == ["2"]).await;
    scene.end().await;
}
