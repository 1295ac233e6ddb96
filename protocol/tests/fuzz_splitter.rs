//! Whatever bytes arrive, in whatever pieces: the splitter finds the frames that are there.
//!
//! The first byte of the input says how long the pieces are. The seeds are batches made of vectors.

mod support;

use std::time::Duration;

use bytes::Bytes;
use support::{seeds, vectors, with_prefix};
use tollgate_protocol::{FrameTooLarge, Splitter};

const FRAME_BYTES_MAX: usize = 300;

#[test]
fn fuzz_splitter() {
    let client: Vec<u8> =
        vectors::client().iter().flat_map(|(_, m)| with_prefix(&m.bytes())).collect();
    let broker: Vec<u8> =
        vectors::broker().iter().flat_map(|(_, m)| with_prefix(&m.bytes())).collect();
    let too_large = [with_prefix(&[9; 300]), vec![0, 0, 1, 45, 9]].concat();
    let pieces = |piece: u8, wire: &[u8]| [&[piece], wire].concat();
    seeds(
        "splitter",
        [
            ("client_whole", pieces(255, &client)),
            ("client_bytes", pieces(0, &client)),
            ("broker_pieces", pieces(37, &broker)),
            ("too_large", pieces(3, &too_large)),
        ],
    );
    bolero::check!(name = "splitter").with_test_time(Duration::from_millis(500)).for_each(
        |input: &[u8]| {
            let Some((&piece, wire)) = input.split_first() else { return };
            assert_eq!(split(wire, usize::from(piece) + 1), model(wire));
        },
    );
}

type Split = (Vec<Vec<u8>>, Result<usize, FrameTooLarge>);

fn split(wire: &[u8], piece: usize) -> Split {
    let mut s = Splitter::new(FRAME_BYTES_MAX);
    let mut frames = Vec::new();
    for chunk in wire.chunks(piece) {
        s.push(Bytes::copy_from_slice(chunk));
        loop {
            match s.peek() {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) => break,
                Err(e) => return (frames, Err(e)),
            }
            s.advance();
        }
    }
    (frames, Ok(s.buffered()))
}

/// All the bytes at once, cut where the lengths say.
fn model(mut wire: &[u8]) -> Split {
    let mut frames = Vec::new();
    while let Some((prefix, rest)) = wire.split_first_chunk() {
        let len = u32::from_be_bytes(*prefix) as usize;
        if len > FRAME_BYTES_MAX {
            return (frames, Err(FrameTooLarge { len, max: FRAME_BYTES_MAX }));
        }
        let Some((frame, rest)) = rest.split_at_checked(len) else { break };
        frames.push(frame.to_vec());
        wire = rest;
    }
    (frames, Ok(wire.len()))
}
