//! The splitter against the simplest model there is: all the bytes in one buffer.

mod support;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use support::with_prefix;
use tollgate_protocol::{FrameTooLarge, Run, Splitter};

/// How chunks are handed over and frames taken out in one turn.
#[derive(Debug, Clone, Copy)]
struct Turn {
    /// Bytes of each chunk.
    chunk: usize,
    /// Chunks handed over at once.
    chunks: usize,
    /// Through `buffers` and `filled` instead of `push`.
    in_place: bool,
    take: Take,
}

#[derive(Debug, Clone, Copy)]
enum Take {
    /// `peek` and `advance`.
    One,
    /// `ready`, of which this many frames are consumed.
    Some(usize),
    /// `ready`, consumed whole.
    All,
    /// `ready`, and `take_gathered` where that gives something.
    Gathered,
    /// Nothing: more chunks come first, as far as there is room.
    Nothing,
}

fn turn() -> impl Strategy<Value = Turn> {
    let take = prop_oneof![
        Just(Take::One),
        (0usize..4).prop_map(Take::Some),
        Just(Take::All),
        Just(Take::Gathered),
        Just(Take::Nothing),
    ];
    let chunk = prop_oneof![Just(1usize), 0usize..9, 10usize..200, 1_000usize..90_000];
    (chunk, 1usize..8, any::<bool>(), take).prop_map(|(chunk, chunks, in_place, take)| Turn {
        chunk,
        chunks,
        in_place,
        take,
    })
}

fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let len = prop_oneof![4 => 0usize..20, 2 => 20usize..400, 1 => 60_000usize..140_000];
    let frame = (len, any::<u8>())
        .prop_map(|(len, seed)| (0..len).map(|i| seed.wrapping_add(i as u8)).collect());
    vec(frame, 0..30)
}

/// Takes frames out; false when there was none.
fn take(s: &mut Splitter, how: Take, out: &mut Vec<Vec<u8>>) -> Result<bool, FrameTooLarge> {
    let before = out.len();
    match how {
        Take::Nothing => return Ok(false),
        Take::One => {
            if let Some(frame) = s.peek()? {
                out.push(frame.to_vec());
            }
            s.advance();
        }
        Take::Some(n) => {
            let some: Vec<Vec<u8>> = s.ready()?.take(n).map(<[u8]>::to_vec).collect();
            s.consume(some.iter().map(|f| Run::wire_len(f)).sum());
            out.extend(some);
        }
        Take::All => {
            let all: Vec<Vec<u8>> = s.ready()?.map(<[u8]>::to_vec).collect();
            s.consume(all.iter().map(|f| Run::wire_len(f)).sum());
            out.extend(all);
        }
        Take::Gathered => {
            let shown: Vec<Vec<u8>> = s.ready()?.map(<[u8]>::to_vec).collect();
            match s.take_gathered() {
                Some(wire) => {
                    assert_eq!(shown[0], wire[4..], "the first that was shown");
                    assert!(wire.capacity() <= 2 * wire.len(), "nothing more than it is kept");
                    out.push(wire[4..].to_vec());
                }
                None => {
                    s.consume(shown.iter().map(|f| Run::wire_len(f)).sum());
                    out.extend(shown);
                }
            }
        }
    }
    Ok(out.len() > before)
}

/// Feeds the wire in turns, the last one repeated until all is in; returns the frames and the
/// splitter as it is left.
fn run(wire: &[u8], turns: &[Turn], max: usize) -> (Vec<Vec<u8>>, Result<usize, FrameTooLarge>) {
    let mut s = Splitter::new(max);
    let (mut rest, mut out) = (wire, Vec::new());
    let mut waiting = 0;
    for turn in turns.iter().copied().chain(std::iter::repeat(Turn {
        chunk: 4_096,
        chunks: 3,
        in_place: false,
        take: Take::All,
    })) {
        if rest.is_empty() {
            break;
        }
        // Chunks that wait are used up only when everything whole was taken out.
        if waiting + turn.chunks > 32 || turn.in_place {
            loop {
                match take(&mut s, Take::All, &mut out) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(e) => return (out, Err(e)),
                }
            }
            waiting = 0;
        }
        let mut next = || {
            let (head, tail) = rest.split_at(turn.chunk.min(rest.len()));
            rest = tail;
            Bytes::copy_from_slice(head)
        };
        if turn.in_place {
            let buffers = s.buffers();
            assert_eq!(buffers.len(), 32, "everything before was used up");
            for b in &mut buffers[..turn.chunks] {
                *b = next();
            }
            s.filled(turn.chunks);
        } else {
            for _ in 0..turn.chunks {
                s.push(next());
            }
        }
        waiting += turn.chunks;
        if let Err(e) = take(&mut s, turn.take, &mut out) {
            return (out, Err(e));
        }
        let taken: usize = out.iter().map(|f| Run::wire_len(f)).sum();
        assert_eq!(s.buffered(), wire.len() - rest.len() - taken, "every byte is accounted for");
    }
    loop {
        match take(&mut s, Take::All, &mut out) {
            Ok(true) => {}
            Ok(false) => return (out, Ok(s.buffered())),
            Err(e) => return (out, Err(e)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn however_it_is_cut_the_same_frames_come_out(
        frames in frames(),
        turns in vec(turn(), 0..60),
        tail in 0usize..4,
    ) {
        let mut wire: Vec<u8> = frames.iter().flat_map(|f| with_prefix(f)).collect();
        // The beginning of one more frame, which never ends.
        wire.extend(&[0, 0, 1, 0][..tail]);
        let (out, left) = run(&wire, &turns, 200_000);
        prop_assert!(out == frames, "{} frames in, {} out", frames.len(), out.len());
        prop_assert_eq!(left, Ok(tail));
    }

    #[test]
    fn a_frame_that_is_too_large_is_refused_after_all_before_it_came_out(
        frames in frames(),
        turns in vec(turn(), 0..60),
        over in prop_oneof![Just(1u32), 1u32..1_000, Just(u32::MAX - 200_000)],
    ) {
        let mut wire: Vec<u8> = frames.iter().flat_map(|f| with_prefix(f)).collect();
        wire.extend((200_000 + over).to_be_bytes());
        wire.extend([0; 7]);
        let (out, left) = run(&wire, &turns, 200_000);
        prop_assert!(out == frames, "{} frames in, {} out", frames.len(), out.len());
        prop_assert_eq!(left, Err(FrameTooLarge { len: 200_000 + over as usize, max: 200_000 }));
    }
}

#[test]
fn a_frame_of_exactly_the_maximum_passes_and_one_byte_more_does_not() {
    let mut s = Splitter::new(10);
    s.push(with_prefix(&[7; 10]).into());
    assert_eq!(s.peek(), Ok(Some(&[7; 10][..])));
    s.advance();
    s.push(with_prefix(&[7; 11]).into());
    assert_eq!(s.peek(), Err(FrameTooLarge { len: 11, max: 10 }));
    assert_eq!(s.peek(), Err(FrameTooLarge { len: 11, max: 10 }), "and stays refused");
}

#[test]
fn a_frame_is_shown_again_until_it_is_consumed() {
    let mut s = Splitter::new(10);
    s.push(with_prefix(&[1]).into());
    s.push(with_prefix(&[2]).into());
    assert_eq!(s.peek(), Ok(Some(&[1][..])));
    assert_eq!(s.peek(), Ok(Some(&[1][..])));
    s.advance();
    assert_eq!(s.peek(), Ok(Some(&[2][..])));
    s.advance();
    assert_eq!(s.peek(), Ok(None));
    s.advance();
    assert_eq!(s.peek(), Ok(None));
    assert_eq!(s.buffered(), 0);
}
