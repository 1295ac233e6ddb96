//! Streams that are silent, that stall, and that are churned.

use quinn::{TransportConfig, VarInt};
use tollgate_broker::Config;
use tollgate_protocol::{
    ClientFrame, Code,
    batch::Request,
    close::{CloseCode, StreamCode},
    encode,
};
use tollgate_tests::{
    Rig,
    raw::{self, Ending, Raw, RawStream},
    resident_bytes,
};

const STALLED: Ending = Ending::Reset(StreamCode::Stalled);

/// How long a frame may stall in these tests, in milliseconds.
const STALL_MS: u64 = 300;

fn impatient(config: &mut Config) {
    config.limits.first_frame_timeout_ms = STALL_MS;
    config.limits.frame_timeout_ms = STALL_MS;
}

/// Waits, by the broker's own clock, until a frame that begins now counts as stalled.
async fn a_stall(raw: &Raw) {
    let mut stream = raw.batch().await;
    stream.bytes(&[0, 0]).await;
    stream.until("error TIMEOUT").await;
}

fn requests(ids: std::ops::Range<u64>, recipe: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in ids {
        encode(&ClientFrame::Request(Request::new(id, recipe, payload)), &mut bytes);
    }
    bytes
}

#[tokio::test]
async fn a_stream_without_its_first_frame_is_reset() {
    let (rig, _stage) = Rig::staged(impatient).await;
    let (raw, other) = (rig.raw("acme").await, rig.raw("globex").await);
    let partial = requests(0..1, "echo", b"x");
    for bytes in [&[0][..], &[0, 0, 0, 9], &partial[..partial.len() - 1]] {
        let mut stream = raw.stream().await;
        stream.bytes(bytes).await;
        assert_eq!(stream.stopped().await, Some(StreamCode::Stalled), "{bytes:?}");
        assert_eq!(stream.ending().await, STALLED, "{bytes:?}");
    }
    assert!(raw.serves().await && other.serves().await);
    rig.idle().await;
}

#[tokio::test]
async fn many_silent_streams_are_in_nobodys_way() {
    let (rig, _stage) = Rig::staged(impatient).await;
    let (raw, other) = (rig.raw("acme").await, rig.raw("globex").await);
    let before = resident_bytes();
    // More than may be open at once: the later ones wait until the first are reset.
    for _ in 0..3 {
        let mut silent = Vec::new();
        for _ in 0..200 {
            let mut stream = raw.stream().await;
            stream.bytes(&[0]).await;
            silent.push(stream);
        }
        assert!(raw.serves().await && other.serves().await);
        for mut stream in silent {
            assert_eq!(stream.ending().await, STALLED);
        }
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
    rig.idle().await;
}

#[tokio::test]
async fn a_frame_that_stalls_ends_its_batch() {
    let (rig, stage) = Rig::staged(impatient).await;
    let (raw, other) = (rig.raw("acme").await, rig.raw("globex").await);
    let whole = requests(2..3, "echo", b"x");
    for cut in [1, 3, 4, 5, whole.len() - 1] {
        let mut batch = raw.batch().await;
        batch.request(1, "gate", b"1").await;
        stage.running(1).await;
        batch.bytes(&whole[..cut]).await;
        assert_eq!(batch.stopped().await, Some(StreamCode::Stalled), "{cut}");
        let told = batch.failures().await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((told[0].id, told[0].code()), (None, Some(Code::Timeout)));
        assert_eq!(told[0].detail("config_key"), "limits.frame_timeout_ms");
        stage.running(0).await;
    }
    assert!(raw.serves().await && other.serves().await);
    rig.idle().await;
}

#[tokio::test]
async fn silence_between_frames_is_no_stall() {
    let (rig, _stage) = Rig::staged(impatient).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.until("accepted").await;
    a_stall(&raw).await;
    batch.request(1, "echo", b"1").await;
    a_stall(&raw).await;
    batch.seal(1).await;
    assert_eq!(batch.transcript().await, ["result 1 OK 1", "summary Sealed 1/1"]);
    rig.idle().await;
}

#[tokio::test]
async fn time_in_which_a_stream_is_held_is_no_stall() {
    let (rig, stage) = Rig::staged(|c| {
        impatient(c);
        c.batch.waiting_items_max = 1;
    })
    .await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch_with(|open| open.concurrency_max = 1).await;
    let last = requests(4..5, "echo", b"last");
    // One runs, one waits, one has no room, and behind it stands half a frame.
    batch.bytes(&requests(1..4, "gate", b"x")).await;
    batch.bytes(&last[..7]).await;
    stage.running(1).await;
    a_stall(&raw).await;
    a_stall(&raw).await;
    stage.open(3);
    batch.until("result 1").await;
    batch.bytes(&last[7..]).await;
    batch.seal(4).await;
    batch.until("summary Sealed 4/4").await;
    rig.idle().await;
}

#[tokio::test]
async fn time_in_which_results_are_not_taken_is_no_stall() {
    let (rig, _stage) = Rig::staged(impatient).await;
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(16 << 10));
    let raw = raw::connect_with(rig.addr(), &rig.credentials("acme"), transport).await;
    let mut batch = raw.batch().await;
    let last = requests(60..61, "echo", b"last");
    // More than is answered ahead of the reader, and less than the windows hold.
    batch.bytes(&requests(0..60, "echo", &[b'x'; 4_096])).await;
    batch.bytes(&last[..7]).await;
    a_stall(&raw).await;
    a_stall(&raw).await;
    batch.until("result 30").await;
    batch.bytes(&last[7..]).await;
    batch.seal(61).await;
    batch.until("summary Sealed 61/61").await;
    rig.idle().await;
}

/// Exactly so many unfinished streams are borne, and not one more.
async fn check_churn(churn: impl AsyncFn(&Raw)) {
    let (rig, _stage) = Rig::staged(|c| {
        (c.limits.unfinished_per_second, c.limits.unfinished_burst) = (0, 30);
        c.limits.frame_timeout_ms = STALL_MS;
    })
    .await;
    let (raw, other) = (rig.raw("acme").await, rig.raw("globex").await);
    for n in 0..30 {
        churn(&raw).await;
        assert!(raw.conn.close_reason().is_none(), "after {n}");
    }
    // They all ended; the connection is kept, and work that is completed costs nothing.
    rig.idle().await;
    for _ in 0..40 {
        assert!(raw.serves().await);
    }
    let mut over = raw.stream().await;
    over.bytes(&[0, 0, 0, 0]).await;
    assert_eq!(raw.closed().await, Some(CloseCode::Abuse.number().into()));
    assert!(other.serves().await);
    assert!(rig.raw("acme").await.serves().await, "it may come back");
    rig.idle().await;
}

#[tokio::test]
async fn streams_opened_and_reset_are_borne_up_to_a_limit() {
    check_churn(async |raw| {
        let mut stream = raw.stream().await;
        stream.bytes(&[0]).await;
        stream.reset(9);
        stream.ending().await;
    })
    .await;
}

#[tokio::test]
async fn streams_opened_and_ended_are_borne_up_to_a_limit() {
    check_churn(async |raw| {
        let mut stream = raw.stream().await;
        stream.fin();
        stream.ending().await;
    })
    .await;
}

#[tokio::test]
async fn readers_that_leave_are_borne_up_to_a_limit() {
    check_churn(async |raw| {
        let mut batch = raw.batch().await;
        batch.until("accepted").await;
        batch.recv.stop(VarInt::from_u32(0)).expect("open");
        batch.stopped().await;
    })
    .await;
}

#[tokio::test]
async fn refused_operations_are_borne_up_to_a_limit() {
    check_churn(async |raw| {
        let mut stream = raw.stream().await;
        stream.bytes(&[0, 0, 0, 1, 99]).await;
        stream.until("error MALFORMED_FRAME").await;
        stream.ending().await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_cancels_is_no_abuser() {
    let (rig, _stage) = Rig::staged(|c| {
        (c.limits.unfinished_per_second, c.limits.unfinished_burst) = (0, 3);
        c.limits.resets_per_second = 0;
    })
    .await;
    let raw = rig.raw("acme").await;
    for n in 0..50 {
        let mut batch = raw.batch().await;
        batch.request(1, "gate", b"x").await;
        batch.until("accepted").await;
        batch.reset([1, 2, 0][n % 3]);
        if n % 3 == 1 {
            // What runs may finish: it does not, so give that up too.
            drop(batch);
            break;
        }
        batch.until("summary Cancelled").await;
    }
    assert!(raw.serves().await);
    drop(raw);
    rig.idle().await;
}

#[tokio::test]
async fn resets_have_a_limit_of_their_own() {
    let (rig, _stage) = Rig::staged(|c| {
        c.limits.unfinished_burst = 1_000_000;
        c.limits.resets_per_second = 20;
    })
    .await;
    let raw = rig.raw("acme").await;
    for _ in 0..100_000 {
        let Ok((mut send, _recv)) = raw.conn.open_bi().await else { break };
        let _ = send.write(&[0]).await;
        let _ = send.reset(VarInt::from_u32(9));
    }
    assert_eq!(raw.closed().await, Some(CloseCode::Abuse.number().into()));
    assert!(rig.raw("globex").await.serves().await);
    rig.idle().await;
}

#[tokio::test]
async fn no_more_streams_than_allowed_are_open_at_once() {
    let (rig, _stage) = Rig::staged(|c| c.limits.streams_max = 32).await;
    let (raw, other) = (rig.raw("acme").await, rig.raw("globex").await);
    let mut open: Vec<RawStream> = Vec::new();
    for _ in 0..32 {
        let mut batch = raw.batch().await;
        batch.until("accepted").await;
        open.push(batch);
    }
    let next = raw.conn.open_bi();
    tokio::pin!(next);
    assert!(other.serves().await);
    assert!(futures::poll!(next.as_mut()).is_pending());
    // QUIC stacks give credit for several at once.
    for mut one in open.split_off(20) {
        one.seal(0).await;
        one.until("summary").await;
    }
    tokio::time::timeout(tollgate_tests::SOON, next).await.expect("a stream").expect("open");
    drop(open);
    rig.idle().await;
}

#[tokio::test]
async fn there_are_no_streams_of_one_way_and_no_datagrams() {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    assert!(raw.serves().await);
    let uni = raw.conn.open_uni();
    tokio::pin!(uni);
    assert!(raw.serves().await);
    assert!(futures::poll!(uni.as_mut()).is_pending());
    assert_eq!(raw.conn.max_datagram_size(), None);
}
