//! Cuts a stream of chunks into frames.
//!
//! A frame that lies within one chunk is borrowed from it; only one that spans chunks is gathered.
//! Memory grows with the bytes that arrived, never with the length that was announced.

use bytes::Bytes;

use crate::limits::PREFIX_BYTES;

/// A frame was announced that is longer than allowed. Nothing of it was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {len} bytes, at most {max} are allowed")]
pub struct FrameTooLarge {
    /// The length announced, in bytes.
    pub len: usize,
    /// The longest allowed, in bytes.
    pub max: usize,
}

/// How many chunks can be handed over at once.
const CHUNKS: usize = 32;
/// A gathering buffer that has grown past this is given back after its frame.
const KEEP_BYTES: usize = 64 << 10;

/// Cuts chunks into frames, in place where it can.
///
/// ```
/// # use bytes::Bytes;
/// # use tollgate_protocol::Splitter;
/// let mut s = Splitter::new(1024);
/// s.push(Bytes::from_static(&[0, 0, 0, 2, 7]));
/// assert_eq!(s.peek(), Ok(None));
/// s.push(Bytes::from_static(&[8, 0, 0]));
/// assert_eq!(s.peek(), Ok(Some(&[7, 8][..])));
/// s.advance();
/// assert_eq!(s.peek(), Ok(None));
/// assert_eq!(s.buffered(), 2);
/// ```
#[derive(Debug)]
pub struct Splitter {
    /// Apart, as a splitter is moved and these are large.
    chunks: Box<[Bytes; CHUNKS]>,
    /// The chunk being cut, and how many there are.
    at: usize,
    filled: usize,
    /// How much of the chunk being cut is used up.
    offset: usize,
    /// A frame that spans chunks, with its prefix, as far as it arrived.
    carry: Vec<u8>,
    frame_bytes_max: usize,
}

impl Splitter {
    /// A splitter for frames of at most `frame_bytes_max` bytes.
    pub fn new(frame_bytes_max: usize) -> Self {
        Splitter {
            chunks: Default::default(),
            at: 0,
            filled: 0,
            offset: 0,
            carry: Vec::new(),
            frame_bytes_max,
        }
    }

    /// Where to put arriving chunks: follow with [`filled`](Self::filled). Empty until every chunk
    /// that was handed over before is used up.
    pub fn buffers(&mut self) -> &mut [Bytes] {
        if self.at == self.filled { &mut self.chunks[..] } else { &mut [] }
    }

    /// Says how many of [`buffers`](Self::buffers) now hold chunks.
    pub fn filled(&mut self, n: usize) {
        debug_assert!(self.at == self.filled && n <= CHUNKS);
        (self.at, self.filled, self.offset) = (0, n, 0);
    }

    /// Hands over one chunk.
    ///
    /// # Panics
    /// When 32 chunks wait already: take the frames out first.
    pub fn push(&mut self, chunk: Bytes) {
        if self.at == self.filled {
            (self.at, self.filled, self.offset) = (0, 0, 0);
        }
        assert!(self.filled < CHUNKS, "frames are taken out before more chunks are pushed");
        self.chunks[self.filled] = chunk;
        self.filled += 1;
    }

    /// Bytes that arrived and were not handed out as part of a frame.
    pub fn buffered(&self) -> usize {
        let chunks: usize = self.chunks[self.at..self.filled].iter().map(Bytes::len).sum();
        self.carry.len() + chunks.saturating_sub(self.offset)
    }

    /// Whether bytes were handed over that are not consumed, whole frames or not.
    pub fn has_unread(&self) -> bool {
        self.at < self.filled || !self.carry.is_empty()
    }

    /// The next whole frames, as many as can be shown at once: at least one, unless more bytes have
    /// to arrive first. The same ones again until [`consume`](Self::consume).
    ///
    /// # Errors
    /// [`FrameTooLarge`] as soon as a prefix says so and every frame before it was consumed; the
    /// splitter is then of no more use.
    pub fn ready(&mut self) -> Result<Run<'_>, FrameTooLarge> {
        let max = self.frame_bytes_max;
        if self.carry.is_empty() {
            while self.at < self.filled && self.offset == self.chunks[self.at].len() {
                self.next_chunk();
            }
            if self.at == self.filled {
                return Ok(Run { gathered: &[], rest: &[], max });
            }
            if frame_end(&self.chunks[self.at][self.offset..], max)?.is_some() {
                return Ok(Run { gathered: &[], rest: &self.chunks[self.at][self.offset..], max });
            }
        }
        if !self.gather()? {
            return Ok(Run { gathered: &[], rest: &[], max });
        }
        let rest = if self.at < self.filled { &self.chunks[self.at][self.offset..] } else { &[] };
        Ok(Run { gathered: &self.carry, rest, max })
    }

    /// Goes past `bytes` of what [`ready`](Self::ready) showed, prefixes included: the sum of
    /// [`Run::wire_len`] over the frames that are done with.
    pub fn consume(&mut self, bytes: usize) {
        if self.carry.is_empty() || bytes == 0 {
            self.offset += bytes;
            return;
        }
        debug_assert!(bytes >= self.carry.len(), "a gathered frame is consumed whole");
        self.offset += bytes - self.carry.len();
        if self.carry.capacity() > KEEP_BYTES {
            self.carry = Vec::new();
        } else {
            self.carry.clear();
        }
    }

    /// The next frame without its prefix, or `None` until more bytes arrive. The same frame again
    /// until [`advance`](Self::advance).
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub fn peek(&mut self) -> Result<Option<&[u8]>, FrameTooLarge> {
        Ok(self.ready()?.next())
    }

    /// Goes past the frame that [`peek`](Self::peek) showed; does nothing when it showed none.
    pub fn advance(&mut self) {
        if let Ok(Some(frame)) = self.peek() {
            let bytes = Run::wire_len(frame);
            self.consume(bytes);
        }
    }

    /// Takes the frame that [`ready`](Self::ready) shows first, prefix included, as one owned buffer,
    /// and goes past it, if it was gathered. `None` when the frame is borrowed from a chunk.
    pub fn take_gathered(&mut self) -> Option<Vec<u8>> {
        let prefix = self.carry.first_chunk()?;
        let whole = frame_len(*prefix, self.frame_bytes_max) == Ok(self.carry.len() - PREFIX_BYTES);
        whole.then(|| {
            let mut frame = std::mem::take(&mut self.carry);
            // The buffer may have served a longer frame before; whoever keeps this one pays for it.
            if frame.capacity() > 2 * frame.len() {
                frame.shrink_to_fit();
            }
            frame
        })
    }

    /// Takes what arrived behind the frames that were consumed, as it came: for a stream that goes
    /// on without frames.
    pub fn take_rest(&mut self) -> impl Iterator<Item = Bytes> + use<> {
        let mut rest = vec![std::mem::take(&mut self.carry).into()];
        while self.at < self.filled {
            let chunk = std::mem::take(&mut self.chunks[self.at]);
            rest.push(chunk.slice(self.offset..));
            self.next_chunk();
        }
        rest.into_iter().filter(|chunk| !chunk.is_empty())
    }

    /// Moves bytes from the chunks to the carry; true once it holds a whole frame.
    fn gather(&mut self) -> Result<bool, FrameTooLarge> {
        loop {
            let want = match self.carry.first_chunk() {
                None => PREFIX_BYTES,
                Some(prefix) => PREFIX_BYTES + frame_len(*prefix, self.frame_bytes_max)?,
            };
            let missing = want - self.carry.len();
            if missing == 0 {
                return Ok(true);
            }
            if self.at == self.filled {
                return Ok(false);
            }
            let chunk = &self.chunks[self.at][self.offset..];
            let n = missing.min(chunk.len());
            if self.carry.capacity() - self.carry.len() < n {
                // Doubles what arrived, but never past the frame.
                self.carry.reserve_exact(self.carry.len().clamp(n, missing));
            }
            self.carry.extend_from_slice(&chunk[..n]);
            self.offset += n;
            if self.offset == self.chunks[self.at].len() {
                self.next_chunk();
            }
        }
    }

    fn next_chunk(&mut self) {
        self.chunks[self.at] = Bytes::new();
        self.at += 1;
        self.offset = 0;
    }
}

/// Whole frames that follow each other: one that was gathered, and those behind it in one chunk.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    /// With its prefix; empty once it was given out, or when there is none.
    gathered: &'a [u8],
    rest: &'a [u8],
    max: usize,
}

impl Run<'_> {
    /// What a frame takes on the wire: itself and its prefix, in bytes.
    pub fn wire_len(frame: &[u8]) -> usize {
        PREFIX_BYTES + frame.len()
    }
}

impl<'a> Iterator for Run<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if !self.gathered.is_empty() {
            return Some(&std::mem::take(&mut self.gathered)[PREFIX_BYTES..]);
        }
        let end = frame_end(self.rest, self.max).ok()??;
        let (frame, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(&frame[PREFIX_BYTES..])
    }
}

fn frame_len(prefix: [u8; PREFIX_BYTES], max: usize) -> Result<usize, FrameTooLarge> {
    let len = u32::from_be_bytes(prefix) as usize;
    if len > max { Err(FrameTooLarge { len, max }) } else { Ok(len) }
}

/// Where the frame that starts `chunk` ends, if the chunk holds all of it.
fn frame_end(chunk: &[u8], max: usize) -> Result<Option<usize>, FrameTooLarge> {
    let Some(prefix) = chunk.first_chunk() else { return Ok(None) };
    let end = PREFIX_BYTES + frame_len(*prefix, max)?;
    Ok((end <= chunk.len()).then_some(end))
}
