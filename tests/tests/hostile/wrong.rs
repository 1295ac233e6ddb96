//! Frames that can not be taken apart, or are too long.

use tollgate_protocol::{ClientFrame, Code, batch::CancelScope};
use tollgate_tests::{raw::Ending, resident_bytes};

use super::{Scene, bytes, check_first, check_within, framed, open, request};

const MALFORMED: Code = Code::MalformedFrame;

#[tokio::test]
async fn a_frame_of_four_gigabytes_is_refused_at_its_length() {
    let length = u32::MAX.to_string();
    check_first(&[0xff; 4], Code::FrameTooLarge, ("length", &length)).await;
    check_within(&[0xff; 4], Code::FrameTooLarge, ("length", &length)).await;
}

#[tokio::test]
async fn the_largest_frame_passes_and_one_byte_more_does_not() {
    let scene = Scene::with(|c| c.limits.frame_bytes_max = 4_096).await;
    let of_length = |len: usize| {
        let mut payload = vec![b'x'; len];
        loop {
            let request = tollgate_protocol::batch::Request::new(1, "echo", &payload);
            let frame = bytes(&[ClientFrame::Request(request)]);
            if frame.len() - 4 == len {
                return frame;
            }
            payload.pop();
        }
    };
    let mut batch = scene.raw.batch().await;
    batch.bytes(&of_length(4_096)).await;
    batch.until("result 1 OK").await;
    drop(batch);
    let told = scene.refused(&[bytes(&[open()]), of_length(4_097)].concat()).await;
    assert_eq!((told.code(), told.detail("limit")), (Some(Code::FrameTooLarge), "4096"));
    assert_eq!(told.detail("config_key"), "limits.frame_bytes_max");
    scene.end().await;
}

#[tokio::test]
async fn memory_grows_with_what_arrives_not_with_what_is_announced() {
    let scene = Scene::with(|c| c.limits.frame_bytes_max = 16 << 20).await;
    let before = resident_bytes();
    let mut open_streams = Vec::new();
    // 16 frames of 16 MiB are announced; of each, 1 KiB is sent.
    for _ in 0..16 {
        let mut batch = scene.raw.batch().await;
        batch.until("accepted").await;
        batch.bytes(&(16u32 << 20).to_be_bytes()).await;
        batch.bytes(&[9; 1_024]).await;
        open_streams.push(batch);
    }
    scene.serves().await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for 16 KiB");
    drop(open_streams);
    scene.end().await;
}

#[tokio::test]
async fn an_empty_frame_is_not_a_clients() {
    check_first(&framed(b""), MALFORMED, ("field", "frame")).await;
    check_within(&framed(b""), MALFORMED, ("field", "frame")).await;
}

#[tokio::test]
async fn an_unknown_variant_is_malformed() {
    for variant in [&[18][..], &[19], &[127], &[200, 1], &[0xff, 0xff, 0xff, 0xff, 0x0f]] {
        check_first(&framed(variant), MALFORMED, ("field", "frame")).await;
    }
    check_within(&framed(&[99, 1, 2, 3]), MALFORMED, ("field", "frame")).await;
}

#[tokio::test]
async fn a_frame_of_the_brokers_is_not_a_clients() {
    use tollgate_protocol::{BrokerFrame, encode};
    // `End` has the number of the client's `Fetch`, and nothing behind it.
    let mut end = Vec::new();
    encode(&BrokerFrame::End, &mut end);
    check_first(&end, MALFORMED, ("field", "work")).await;
    check_within(&end, MALFORMED, ("field", "work")).await;
}

#[tokio::test]
async fn bytes_after_the_last_field_are_malformed() {
    let longer = |frame: ClientFrame<'_>| {
        let mut content = bytes(&[frame])[4..].to_vec();
        content.push(0);
        framed(&content)
    };
    check_first(&longer(open()), MALFORMED, ("field", "frame")).await;
    check_within(&longer(request(3)), MALFORMED, ("field", "frame")).await;
    check_within(&longer(ClientFrame::Seal { items: 2 }), MALFORMED, ("field", "frame")).await;
    check_within(&longer(ClientFrame::Cancel(CancelScope::All)), MALFORMED, ("field", "frame"))
        .await;
}

#[tokio::test]
async fn lengths_beyond_the_frame_are_malformed_whatever_they_promise() {
    // A recipe's name of 2^64 - 1 bytes, and of 4 GiB; a map of as many pairs; a payload.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let request = |rest: &[&[u8]]| framed(&[&[9, 3][..], &rest.concat()].concat());
    check_within(&request(&[&huge]), MALFORMED, ("field", "recipe")).await;
    let map = [&[4][..], b"echo", &[0, 0, 0, 0], &huge];
    check_within(&request(&map), MALFORMED, ("field", "metadata")).await;
    let payload = [&[4][..], b"echo", &[0, 0, 0, 0, 0], &huge];
    check_within(&request(&payload), MALFORMED, ("field", "payload")).await;
    let endless = [0xff; 11];
    check_within(&framed(&[&[9][..], &endless].concat()), MALFORMED, ("field", "id")).await;
}

#[tokio::test]
async fn tags_that_are_neither_yes_nor_no_are_malformed() {
    let request = [&[9, 3, 4][..], b"echo", &[2, 0, 0, 0, 0]].concat();
    check_within(&framed(&request), MALFORMED, ("field", "timeout_ms")).await;
    for (at, field) in [(17, "tenant"), (18, "durability"), (19, "mode"), (20, "order")] {
        let mut frame = bytes(&[open()]);
        frame[4 + at] = 2;
        check_first(&frame, MALFORMED, ("field", field)).await;
    }
    check_within(&framed(&[11, 2]), MALFORMED, ("field", "scope")).await;
}

#[tokio::test]
async fn noise_is_answered_or_ended_and_never_more() {
    let scene = Scene::with(|c| c.limits.first_frame_timeout_ms = 300).await;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..200 {
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(round * 3)
        .collect();
        let mut stream = scene.raw.stream().await;
        if round % 2 == 0 {
            // Taken for a frame, so that its content is looked at.
            stream.bytes(&framed(&noise)).await;
        } else {
            let _ = stream.send.write_all(&noise).await;
        }
        let _ = stream.send.finish();
        let end = stream.ending().await;
        assert!(end != Ending::Lost, "round {round}");
    }
    scene.end().await;
}
