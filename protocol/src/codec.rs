//! Reading and writing the primitive types of the format, with bounds and named fields.
//!
//! Never allocates: strings, bytes and maps are borrowed from the frame. Never reads past a frame.

use std::fmt;

use crate::limits;

/// Why a frame could not be decoded: which field, what was found and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// The field at fault, as `PROTOCOL.md` names it.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
    /// The item, or on a stream of work the lease, that the frame names, when its number could
    /// still be read.
    pub item: Option<u64>,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The frame ends within the field.
    Truncated,
    /// Bytes follow the last field.
    TrailingBytes(usize),
    /// A variant, or an option or boolean tag, that this version does not know.
    UnknownVariant(u64),
    /// A varint that does not fit its type.
    Overflow,
    /// A string or byte field longer than allowed.
    TooLong {
        /// Its length in bytes.
        len: u64,
        /// The longest allowed, in bytes.
        max: usize,
    },
    /// A collection with more elements than allowed.
    TooMany {
        /// How many are announced.
        len: u64,
        /// The most allowed.
        max: usize,
    },
    /// A number outside its range.
    OutOfRange {
        /// The number found.
        found: u64,
        /// The largest allowed.
        max: u64,
    },
    /// A string that is not UTF-8.
    NotUtf8,
}

impl DecodeError {
    pub(crate) fn new(field: &'static str, problem: Problem) -> Self {
        DecodeError { field, problem, item: None }
    }

    /// Whether the frame is well formed but for one value outside its bounds, so that the item it
    /// names can be refused alone and the stream can go on.
    pub fn is_out_of_bounds(&self) -> bool {
        use Problem::{NotUtf8, OutOfRange, TooLong, TooMany};
        matches!(self.problem, TooLong { .. } | TooMany { .. } | OutOfRange { .. } | NotUtf8)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field `{}`: ", self.field)?;
        match &self.problem {
            Problem::Truncated => f.write_str("the frame ends within it"),
            Problem::TrailingBytes(n) => write!(f, "{n} bytes follow the last field"),
            Problem::UnknownVariant(v) => write!(f, "variant {v} is unknown"),
            Problem::Overflow => f.write_str("the varint does not fit its type"),
            Problem::TooLong { len, max } => write!(f, "{len} bytes, at most {max} are allowed"),
            Problem::TooMany { len, max } => write!(f, "{len} elements, at most {max} are allowed"),
            Problem::OutOfRange { found, max } => write!(f, "{found}, at most {max} is allowed"),
            Problem::NotUtf8 => f.write_str("not UTF-8"),
        }
    }
}

impl std::error::Error for DecodeError {}

pub(crate) type Result<T> = std::result::Result<T, DecodeError>;

/// What is left of a frame.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(frame: &'a [u8]) -> Self {
        Reader { rest: frame }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn finish(self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            n => Err(DecodeError::new("frame", Problem::TrailingBytes(n))),
        }
    }

    #[inline]
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8> {
        let (&b, rest) =
            self.rest.split_first().ok_or(DecodeError::new(field, Problem::Truncated))?;
        self.rest = rest;
        Ok(b)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N]> {
        let (a, rest) =
            self.rest.split_first_chunk().ok_or(DecodeError::new(field, Problem::Truncated))?;
        self.rest = rest;
        Ok(*a)
    }

    #[inline]
    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            v => Err(DecodeError::new(field, Problem::UnknownVariant(v.into()))),
        }
    }

    /// A varint: seven bits a byte, least significant first, the top bit set on all but the last.
    #[inline]
    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64> {
        match self.rest {
            [b, rest @ ..] if *b < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*b))
            }
            _ => self.long_varint(field),
        }
    }

    fn long_varint(&mut self, field: &'static str) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let b = self.u8(field)?;
            let bits = u64::from(b & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::new(field, Problem::Overflow));
            }
            value |= bits << shift;
            if b < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::new(field, Problem::Overflow))
    }

    /// Goes past `expected`, if that is what comes next.
    #[inline]
    pub(crate) fn skip<const N: usize>(&mut self, expected: &[u8; N]) -> bool {
        match self.rest.split_first_chunk() {
            Some((found, rest)) if found == expected => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    #[inline]
    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32> {
        self.u64(field)?.try_into().map_err(|_| DecodeError::new(field, Problem::Overflow))
    }

    #[inline]
    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16> {
        self.u64(field)?.try_into().map_err(|_| DecodeError::new(field, Problem::Overflow))
    }

    /// A variant number; postcard writes it as a varint of 32 bits.
    #[inline]
    pub(crate) fn variant(&mut self, field: &'static str) -> Result<u32> {
        self.u32(field)
    }

    #[inline]
    pub(crate) fn bytes(&mut self, field: &'static str, max: usize) -> Result<&'a [u8]> {
        let n = self.len_within_frame(field)?;
        if n > max {
            return Err(DecodeError::new(field, Problem::TooLong { len: n as u64, max }));
        }
        let (head, rest) = self.rest.split_at(n);
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    pub(crate) fn str(&mut self, field: &'static str, max: usize) -> Result<&'a str> {
        std::str::from_utf8(self.bytes(field, max)?)
            .map_err(|_| DecodeError::new(field, Problem::NotUtf8))
    }

    #[inline]
    pub(crate) fn option<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<Option<T>> {
        match self.u8(field)? {
            0 => Ok(None),
            1 => read(self).map(Some),
            v => Err(DecodeError::new(field, Problem::UnknownVariant(v.into()))),
        }
    }

    /// The announced length of a collection, checked before anything is kept.
    #[inline]
    pub(crate) fn count(&mut self, field: &'static str, max: usize) -> Result<usize> {
        let n = self.len_within_frame(field)?;
        if n > max {
            return Err(DecodeError::new(field, Problem::TooMany { len: n as u64, max }));
        }
        Ok(n)
    }

    /// An announced length or count. Every element takes a byte or more, so one that is larger than
    /// what is left of the frame can not be true: the frame is malformed, whatever the bound says.
    #[inline]
    fn len_within_frame(&mut self, field: &'static str) -> Result<usize> {
        let len = self.u64(field)?;
        usize::try_from(len)
            .ok()
            .filter(|n| *n <= self.rest.len())
            .ok_or(DecodeError::new(field, Problem::Truncated))
    }
}

/// A varint of one to four bytes at the front, and what follows it. None for longer ones.
#[inline]
pub(crate) fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let low = |b: u8| u64::from(b & 0x7f);
    match *bytes {
        [a, ref rest @ ..] if a < 0x80 => Some((a.into(), rest)),
        [a, b, ref rest @ ..] if b < 0x80 => Some((low(a) | low(b) << 7, rest)),
        [a, b, c, ref rest @ ..] if c < 0x80 => Some((low(a) | low(b) << 7 | low(c) << 14, rest)),
        [a, b, c, d, ref rest @ ..] if d < 0x80 => {
            Some((low(a) | low(b) << 7 | low(c) << 14 | low(d) << 21, rest))
        }
        _ => None,
    }
}

/// The first bytes of a frame, written where they belong: the output grows once for all of them.
pub(crate) struct Head<'a> {
    bytes: &'a mut [u8; Head::BYTES],
    len: usize,
}

impl Head<'_> {
    /// The most it takes.
    pub(crate) const BYTES: usize = 64;

    /// Appends what `fill` puts, behind the prefix of a frame that goes on with `follows` bytes.
    ///
    /// # Panics
    /// When that is more than there is room for: whoever uses this knows what it puts.
    #[inline(always)]
    pub(crate) fn append(out: &mut Vec<u8>, follows: usize, fill: impl FnOnce(&mut Head<'_>)) {
        let start = out.len();
        out.resize(start + Head::BYTES, 0);
        let bytes = out[start..].first_chunk_mut().expect("it was made long enough");
        let mut head = Head { bytes, len: limits::PREFIX_BYTES };
        fill(&mut head);
        let len = head.len;
        head.bytes[..limits::PREFIX_BYTES].copy_from_slice(&prefix(len, follows));
        out.truncate(start + len);
    }

    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    #[inline]
    pub(crate) fn u64(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.bytes[self.len] = v as u8 | 0x80;
            self.len += 1;
            v >>= 7;
        }
        self.bytes[self.len] = v as u8;
        self.len += 1;
    }
}

/// The prefix of a frame of which `len` bytes are there, the prefix among them, and `follows` are to
/// come.
#[inline]
pub(crate) fn prefix(len: usize, follows: usize) -> [u8; limits::PREFIX_BYTES] {
    let len = len - limits::PREFIX_BYTES + follows;
    // Frames are bounded by FRAME_BYTES_HARD_MAX and a few bounded fields: far below 4 GiB.
    u32::try_from(len).expect("a frame is shorter than 4 GiB").to_be_bytes()
}

#[inline]
pub(crate) fn put_u64(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

#[inline]
pub(crate) fn put_bool(out: &mut Vec<u8>, v: bool) {
    out.push(v.into());
}

#[inline]
pub(crate) fn put_bytes(out: &mut Vec<u8>, v: &[u8]) {
    put_u64(out, v.len() as u64);
    out.extend_from_slice(v);
}

#[inline]
pub(crate) fn put_str(out: &mut Vec<u8>, v: &str) {
    put_bytes(out, v.as_bytes());
}

#[inline]
pub(crate) fn put_option<T>(out: &mut Vec<u8>, v: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    match v {
        None => out.push(0),
        Some(v) => {
            out.push(1);
            put(out, v);
        }
    }
}
