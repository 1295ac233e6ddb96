//! A record as bytes, the same in the journal and in segments.
//!
//! ```text
//!  0  len     u32   bytes of the body
//!  4  crc     u32   CRC-32C over the scope's number (8 bytes), then everything from byte 8 on
//!                   and the length: tenant, stream, offset, epoch and body are all covered
//!  8  tag     u16   what it is (`record.rs`), or one of the store's own below
//! 10  layout  u8    how its body is laid out
//! 11  flags   u8    bit 0: the body is not the record but names it (see `Named`)
//! 12  zero    u32
//! 16  epoch   u64   of the fence it was committed with
//! 24  stream  u64
//! 32  offset  u64   its place in the stream
//! 40  body
//! ```
//!
//! All numbers are little-endian. Only turns bytes to values and back; reads whatever it is given
//! without a panic.

use super::super::port::{ScopeId, Stream};

/// Bytes before the body.
pub(super) const HEAD: usize = 40;
/// A stream was trimmed: the offset says up to where.
pub(super) const TRIM: u16 = 0xff01;

const NAMED: u8 = 1;

/// A record, its body borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub tag: u16,
    pub layout: u8,
    /// Whether the body is a [`Named`].
    pub named: bool,
    pub epoch: u64,
    pub stream: Stream,
    pub offset: u64,
    pub body: &'a [u8],
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Damage {
    /// They end too early: this many are needed, if the length can be believed.
    Short(usize),
    /// They are not what was written.
    Checksum,
}

impl Frame<'_> {
    /// How many bytes it is.
    pub(super) fn len(&self) -> usize {
        HEAD + self.body.len()
    }

    /// Appends it.
    ///
    /// # Panics
    /// With a body of 4 GiB; commits are bounded far below.
    pub(super) fn put(&self, scope: ScopeId, out: &mut Vec<u8>) {
        let len = u32::try_from(self.body.len()).expect("records are bounded far below");
        let begin = out.len();
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.tag.to_le_bytes());
        out.extend_from_slice(&[self.layout, if self.named { NAMED } else { 0 }]);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.stream.0.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(self.body);
        let crc = checksum(scope, len, &out[begin + 8..]);
        out[begin + 4..begin + 8].copy_from_slice(&crc.to_le_bytes());
    }

    /// The frame that the bytes begin with.
    ///
    /// # Errors
    /// [`Damage`] when they are not what was written for this scope.
    pub(super) fn parse(scope: ScopeId, bytes: &[u8]) -> Result<Frame<'_>, Damage> {
        let head = bytes.first_chunk::<HEAD>().ok_or(Damage::Short(HEAD))?;
        let len = u32_at(head, 0);
        let end = HEAD + len as usize;
        let bytes = bytes.get(..end).ok_or(Damage::Short(end))?;
        if !super::plant::is(super::plant::Bug::SkipChecksum)
            && checksum(scope, len, &bytes[8..]) != u32_at(head, 4)
        {
            return Err(Damage::Checksum);
        }
        Ok(Frame {
            tag: u16::from_le_bytes([head[8], head[9]]),
            layout: head[10],
            named: head[11] & NAMED != 0,
            epoch: u64_at(head, 16),
            stream: Stream(u64_at(head, 24)),
            offset: u64_at(head, 32),
            body: &bytes[HEAD..],
        })
    }
}

/// Where a large record lies: what its frame has for a body.
///
/// ```text
///  0  file  u64   the large file of the stream that begins with this offset
///  8  at    u64   where in it
/// 16  len   u32   how many bytes
/// 20  crc   u32   CRC-32C of them
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    pub file: u64,
    pub at: u64,
    pub len: u32,
    pub crc: u32,
}

impl Named {
    pub(super) const LEN: usize = 24;

    pub(super) fn to_bytes(self) -> [u8; Named::LEN] {
        let mut out = [0; Named::LEN];
        out[..8].copy_from_slice(&self.file.to_le_bytes());
        out[8..16].copy_from_slice(&self.at.to_le_bytes());
        out[16..20].copy_from_slice(&self.len.to_le_bytes());
        out[20..].copy_from_slice(&self.crc.to_le_bytes());
        out
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Named> {
        let bytes: &[u8; Named::LEN] = bytes.try_into().ok()?;
        Some(Named {
            file: u64_at(bytes, 0),
            at: u64_at(bytes, 8),
            len: u32_at(bytes, 16),
            crc: u32_at(bytes, 20),
        })
    }
}

fn checksum(scope: ScopeId, len: u32, rest: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&scope.0.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &len.to_le_bytes());
    crc32c::crc32c_append(crc, rest)
}

/// The number at this place of a head.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

/// The number at this place of a head.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(scope: u64, stream: u64, offset: u64, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let stream = Stream(stream);
        Frame { tag: 7, layout: 2, named: false, epoch: 9, stream, offset, body }
            .put(ScopeId(scope), &mut out);
        out
    }

    #[test]
    fn the_bytes_are_what_is_on_disks() {
        let mut expected = vec![3, 0, 0, 0, 0, 0, 0, 0, 7, 0, 2, 0, 0, 0, 0, 0];
        expected.extend([9, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend(b"abc");
        let bytes = bytes_of(4, 5, 6, b"abc");
        expected[4..8].copy_from_slice(&bytes[4..8]);
        assert_eq!(bytes, expected);
        assert_eq!(u32_at(&bytes, 4), 0x98a4_5adc, "the checksum");
    }

    proptest! {
        #[test]
        fn a_frame_is_read_back(scope: u64, stream: u64, offset: u64, body: Vec<u8>) {
            let bytes = bytes_of(scope, stream, offset, &body);
            let frame = Frame::parse(ScopeId(scope), &bytes).expect("a frame");
            prop_assert_eq!(frame.len(), bytes.len());
            prop_assert_eq!((frame.stream.0, frame.offset, frame.body), (stream, offset, &body[..]));
        }

        #[test]
        fn a_flipped_bit_a_cut_and_another_scope_are_seen(body: Vec<u8>, at: prop::sample::Index) {
            let bytes = bytes_of(1, 2, 3, &body);
            let mut flipped = bytes.clone();
            let bit = at.index(bytes.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Frame::parse(ScopeId(1), &flipped).is_err());
            prop_assert!(Frame::parse(ScopeId(1), &bytes[..at.index(bytes.len())]).is_err());
            prop_assert!(Frame::parse(ScopeId(2), &bytes).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = Frame::parse(ScopeId(1), &bytes);
            let _ = Named::parse(&bytes);
        }
    }
}
