//! String maps and extensions, kept in their encoded form on both sides.
//!
//! Checked once when decoded or built; from then on iterating can not fail and allocates nothing.

use crate::{
    codec::{DecodeError, Problem, Reader, Result, put_bool, put_bytes, put_str, put_u64},
    limits,
};

/// A string map as it stands in a frame: keys in the sender's order, repeated keys allowed (the
/// last one counts).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pairs<'a> {
    count: usize,
    encoded: &'a [u8],
}

impl<'a> Pairs<'a> {
    /// No pairs.
    pub const EMPTY: Pairs<'static> = Pairs { count: 0, encoded: &[] };

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The pairs, in the sender's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut r = Reader::new(self.encoded);
        (0..self.count).map_while(move |_| read_pair("pairs", &mut r).ok())
    }

    /// The value of a key, if it is there.
    pub fn find(&self, key: &str) -> Option<&'a str> {
        self.iter().filter(|(k, _)| *k == key).last().map(|(_, v)| v)
    }

    /// How many pairs there are, and their bytes as they stand in a frame: to be kept as they are.
    pub fn encoded(&self) -> (usize, &'a [u8]) {
        (self.count, self.encoded)
    }

    /// The pairs whose bytes were kept.
    ///
    /// # Errors
    /// [`DecodeError`] when they are not the bytes of so many pairs.
    pub fn from_encoded(count: usize, encoded: &'a [u8]) -> Result<Self> {
        let mut r = Reader::new(encoded);
        for _ in 0..count {
            read_pair("pairs", &mut r)?;
        }
        r.finish()?;
        Ok(Pairs { count, encoded })
    }

    /// An owned copy.
    pub fn to_buf(&self) -> PairsBuf {
        PairsBuf { count: self.count, encoded: self.encoded.into() }
    }

    #[inline]
    pub(crate) fn read(field: &'static str, r: &mut Reader<'a>) -> Result<Self> {
        let count = r.count(field, limits::PAIRS_MAX)?;
        let start = r.rest();
        for _ in 0..count {
            read_pair(field, r)?;
        }
        let len = start.len() - r.rest().len();
        if len > limits::PAIRS_BYTES_MAX {
            let problem = Problem::TooLong { len: len as u64, max: limits::PAIRS_BYTES_MAX };
            return Err(DecodeError::new(field, problem));
        }
        Ok(Pairs { count, encoded: &start[..len] })
    }

    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.count as u64);
        out.extend_from_slice(self.encoded);
    }
}

fn read_pair<'a>(field: &'static str, r: &mut Reader<'a>) -> Result<(&'a str, &'a str)> {
    Ok((r.str(field, limits::PAIR_KEY_BYTES_MAX)?, r.str(field, limits::PAIR_VALUE_BYTES_MAX)?))
}

impl std::fmt::Debug for Pairs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// An owned string map, encoded as it will be sent.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PairsBuf {
    count: usize,
    encoded: Vec<u8>,
}

impl PairsBuf {
    /// An empty map; allocates nothing until the first pair.
    pub const fn new() -> Self {
        PairsBuf { count: 0, encoded: Vec::new() }
    }

    /// Adds a pair.
    ///
    /// # Errors
    /// [`DecodeError`] when the key, the value or the whole map would pass its bound
    /// ([`limits::PAIR_KEY_BYTES_MAX`], [`limits::PAIR_VALUE_BYTES_MAX`], [`limits::PAIRS_MAX`],
    /// [`limits::PAIRS_BYTES_MAX`]); the map is then unchanged.
    pub fn push(&mut self, key: &str, value: &str) -> Result<()> {
        let too_long = |field, len: usize, max| {
            Err(DecodeError::new(field, Problem::TooLong { len: len as u64, max }))
        };
        if key.len() > limits::PAIR_KEY_BYTES_MAX {
            return too_long("key", key.len(), limits::PAIR_KEY_BYTES_MAX);
        }
        if value.len() > limits::PAIR_VALUE_BYTES_MAX {
            return too_long("value", value.len(), limits::PAIR_VALUE_BYTES_MAX);
        }
        if self.count == limits::PAIRS_MAX {
            let problem = Problem::TooMany { len: self.count as u64 + 1, max: limits::PAIRS_MAX };
            return Err(DecodeError::new("pairs", problem));
        }
        let before = self.encoded.len();
        put_str(&mut self.encoded, key);
        put_str(&mut self.encoded, value);
        let len = self.encoded.len();
        if len > limits::PAIRS_BYTES_MAX {
            self.encoded.truncate(before);
            return too_long("pairs", len, limits::PAIRS_BYTES_MAX);
        }
        self.count += 1;
        Ok(())
    }

    /// Adds a pair, cut to its bounds; dropped when the map is full. For the broker's own messages,
    /// where less detail beats no answer.
    pub fn push_lossy(&mut self, key: &str, value: &str) {
        let _ = self.push(
            truncate(key, limits::PAIR_KEY_BYTES_MAX),
            truncate(value, limits::PAIR_VALUE_BYTES_MAX),
        );
    }

    /// The map, borrowed.
    pub fn as_pairs(&self) -> Pairs<'_> {
        Pairs { count: self.count, encoded: &self.encoded }
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl std::fmt::Debug for PairsBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_pairs().fmt(f)
    }
}

/// The longest prefix of `s` that has at most `max` bytes and ends at a character.
pub fn truncate(s: &str, max: usize) -> &str {
    &s[..s.floor_char_boundary(max)]
}

/// An addition to a frame that this version of the protocol does not define.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension<'a> {
    /// Which extension; numbers are assigned in `PROTOCOL.md`.
    pub number: u32,
    /// Whether a receiver that does not know it must refuse the frame instead of ignoring it.
    pub critical: bool,
    /// Its content.
    pub body: &'a [u8],
}

/// The extensions of one frame, as they stand in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Extensions<'a> {
    count: usize,
    encoded: &'a [u8],
}

impl<'a> Extensions<'a> {
    /// No extensions.
    pub const EMPTY: Extensions<'static> = Extensions { count: 0, encoded: &[] };

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The extensions, in the sender's order.
    pub fn iter(&self) -> impl Iterator<Item = Extension<'a>> + use<'a> {
        let mut r = Reader::new(self.encoded);
        (0..self.count).map_while(move |_| read_extension(&mut r).ok())
    }

    /// The first extension that must be understood; this version of the protocol knows none.
    pub fn first_critical(&self) -> Option<Extension<'a>> {
        if self.count == 0 { None } else { self.iter().find(|e| e.critical) }
    }

    #[inline]
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        let count = r.count("extensions", limits::EXTENSIONS_MAX)?;
        let start = r.rest();
        for _ in 0..count {
            read_extension(r)?;
        }
        let len = start.len() - r.rest().len();
        Ok(Extensions { count, encoded: &start[..len] })
    }

    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.count as u64);
        out.extend_from_slice(self.encoded);
    }
}

fn read_extension<'a>(r: &mut Reader<'a>) -> Result<Extension<'a>> {
    Ok(Extension {
        number: r.u32("extensions.number")?,
        critical: r.bool("extensions.critical")?,
        body: r.bytes("extensions.body", limits::EXTENSION_BYTES_MAX)?,
    })
}

impl std::fmt::Debug for Extensions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Owned extensions, encoded as they will be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtensionsBuf {
    count: usize,
    encoded: Vec<u8>,
}

impl ExtensionsBuf {
    /// Adds an extension.
    ///
    /// # Errors
    /// [`DecodeError`] when there would be more than [`limits::EXTENSIONS_MAX`] or the body is
    /// longer than [`limits::EXTENSION_BYTES_MAX`].
    pub fn push(&mut self, e: Extension<'_>) -> Result<()> {
        if self.count == limits::EXTENSIONS_MAX {
            let problem =
                Problem::TooMany { len: self.count as u64 + 1, max: limits::EXTENSIONS_MAX };
            return Err(DecodeError::new("extensions", problem));
        }
        if e.body.len() > limits::EXTENSION_BYTES_MAX {
            let problem =
                Problem::TooLong { len: e.body.len() as u64, max: limits::EXTENSION_BYTES_MAX };
            return Err(DecodeError::new("extensions.body", problem));
        }
        put_u64(&mut self.encoded, e.number.into());
        put_bool(&mut self.encoded, e.critical);
        put_bytes(&mut self.encoded, e.body);
        self.count += 1;
        Ok(())
    }

    /// The extensions, borrowed.
    pub fn as_extensions(&self) -> Extensions<'_> {
        Extensions { count: self.count, encoded: &self.encoded }
    }
}
