//! A group as bytes: everything that one sync of the journal makes durable.
//!
//! ```text
//!  0  magic    8 bytes  "TGgroup1"
//!  8  salt     u64      the store's own secret number: no tenant's bytes can pass for a group
//! 16  number   u64      groups are numbered without holes; n+1 is written after n was synced
//! 24  entries  u32
//! 28  bytes    u32      of all bodies
//! 32  crc      u32      CRC-32C over bytes 0..32 and the directory
//! 36  zero     u32
//! 40  directory, an entry each:  scope u64, len u32, what u32 (1 commit, 2 trim, 3 drop)
//!     zeros up to a multiple of 4,096
//!     bodies, one after the other: the frames of the entry
//!     zeros up to a multiple of 4,096
//! ```
//!
//! So no sector belongs to two groups, and what is in a group is known, scope by scope, even when
//! a body is damaged. Only turns bytes to values and back; reads whatever it is given without a
//! panic.

use super::{
    super::port::ScopeId,
    frame::{u32_at, u64_at},
};

/// Groups begin at multiples of this, and so do their bodies.
pub(super) const BLOCK: u64 = 4_096;
/// Bytes before the directory.
pub(super) const FIXED: usize = 40;
/// Bytes of an entry in the directory.
const ENTRY: usize = 16;
/// More entries are no group.
const ENTRIES_MAX: u32 = 1 << 20;

const MAGIC: [u8; 8] = *b"TGgroup1";

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Records, all or none.
    Commit,
    /// One frame that says up to where a stream is trimmed.
    Trim,
    /// The scope is gone. No body.
    Drop,
}

impl What {
    fn number(self) -> u32 {
        match self {
            What::Commit => 1,
            What::Trim => 2,
            What::Drop => 3,
        }
    }

    fn parse(number: u32) -> Option<What> {
        [What::Commit, What::Trim, What::Drop].into_iter().find(|what| what.number() == number)
    }
}

/// A line of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub scope: ScopeId,
    pub what: What,
    /// Bytes of its body.
    pub len: u32,
}

/// The head of a group: everything but the bodies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub number: u64,
    pub entries: Vec<Entry>,
}

impl Head {
    /// Bytes up to the bodies.
    pub(super) fn len(&self) -> u64 {
        head_len(self.entries.len())
    }

    /// Bytes of all bodies.
    pub(super) fn body_len(&self) -> u64 {
        self.entries.iter().map(|entry| u64::from(entry.len)).sum()
    }

    /// Bytes from the group's begin to that of the next one.
    pub(super) fn extent(&self) -> u64 {
        self.len() + self.body_len().next_multiple_of(BLOCK)
    }

    /// Its bytes, up to where the bodies begin.
    ///
    /// # Panics
    /// With more entries or bytes than a group may have.
    pub(super) fn to_bytes(&self, salt: u64) -> Vec<u8> {
        let count = u32::try_from(self.entries.len()).expect("a group is bounded");
        let bytes = u32::try_from(self.body_len()).expect("a group is bounded");
        let len = usize::try_from(self.len()).expect("a group is bounded");
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&salt.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&bytes.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        for entry in &self.entries {
            out.extend_from_slice(&entry.scope.0.to_le_bytes());
            out.extend_from_slice(&entry.len.to_le_bytes());
            out.extend_from_slice(&entry.what.number().to_le_bytes());
        }
        let crc = checksum(&out);
        out[32..36].copy_from_slice(&crc.to_le_bytes());
        out.resize(len, 0);
        out
    }

    /// How many bytes a head is that begins like this; `None` when it is none of this store.
    pub(super) fn wanted(salt: u64, begin: &[u8]) -> Option<u64> {
        let fixed = begin.first_chunk::<FIXED>()?;
        let count = u32_at(fixed, 24);
        let ours = fixed[..8] == MAGIC && u64_at(fixed, 8) == salt;
        (ours && (1..=ENTRIES_MAX).contains(&count)).then(|| head_len(count as usize))
    }

    /// The head that the bytes begin with; `None` when they are none, or damaged.
    pub(super) fn parse(salt: u64, bytes: &[u8]) -> Option<Head> {
        let len = usize::try_from(Head::wanted(salt, bytes)?).ok()?;
        let bytes = bytes.get(..len)?;
        let count = u32_at(bytes, 24) as usize;
        let written = &bytes[..FIXED + count * ENTRY];
        if checksum(written) != u32_at(bytes, 32) {
            return None;
        }
        let entry = |bytes: &[u8]| {
            let what = What::parse(u32_at(bytes, 12))?;
            Some(Entry { scope: ScopeId(u64_at(bytes, 0)), len: u32_at(bytes, 8), what })
        };
        let entries =
            written[FIXED..].chunks_exact(ENTRY).map(entry).collect::<Option<Vec<_>>>()?;
        let head = Head { number: u64_at(bytes, 16), entries };
        (head.body_len() == u64::from(u32_at(bytes, 28))).then_some(head)
    }
}

fn head_len(entries: usize) -> u64 {
    ((FIXED + entries * ENTRY) as u64).next_multiple_of(BLOCK)
}

/// Over everything but the checksum itself and the zeros after it.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..32]), &bytes[FIXED..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head() -> impl Strategy<Value = Head> {
        let what = prop::sample::select(vec![What::Commit, What::Trim, What::Drop]);
        let entry = (any::<u64>(), 0..1_000_000u32, what).prop_map(|(scope, len, what)| Entry {
            scope: ScopeId(scope),
            len,
            what,
        });
        (any::<u64>(), prop::collection::vec(entry, 1..600))
            .prop_map(|(number, entries)| Head { number, entries })
    }

    #[test]
    fn the_bytes_are_what_is_on_disks() {
        let entry = Entry { scope: ScopeId(3), what: What::Drop, len: 0 };
        let bytes = Head { number: 2, entries: vec![entry] }.to_bytes(1);
        let mut expected = b"TGgroup1".to_vec();
        expected.extend([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[..32], expected);
        assert_eq!(bytes[36..56], [0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(bytes.len(), 4_096);
    }

    proptest! {
        #[test]
        fn a_head_is_read_back(head in head(), salt: u64) {
            let bytes = head.to_bytes(salt);
            prop_assert_eq!(bytes.len() as u64, head.len());
            prop_assert_eq!(Head::wanted(salt, &bytes), Some(head.len()));
            prop_assert_eq!(Head::parse(salt, &bytes), Some(head));
            prop_assert_eq!(Head::parse(salt.wrapping_add(1), &bytes), None);
        }

        #[test]
        fn a_flipped_bit_and_a_cut_are_seen(head in head(), at: prop::sample::Index) {
            let bytes = head.to_bytes(1);
            let written = FIXED + head.entries.len() * ENTRY;
            let bit = at.index(written * 8);
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // The four zeros after the checksum mean nothing.
            if !(36..40).contains(&(bit / 8)) {
                prop_assert_eq!(Head::parse(1, &flipped), None);
            }
            prop_assert_eq!(Head::parse(1, &bytes[..at.index(written)]), None);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(mut bytes: Vec<u8>, ours: bool) {
            if ours && bytes.len() >= 16 {
                bytes[..8].copy_from_slice(&MAGIC);
                bytes[8..16].copy_from_slice(&1u64.to_le_bytes());
            }
            let _ = (Head::wanted(1, &bytes), Head::parse(1, &bytes));
        }
    }
}
