//! Payloads that tell whose they are: made from a tenant's pattern and an item's id, checked by
//! comparing.
//!
//! Bytes 0 to 7 are the id, the rest is a window into the pattern at a place that the id decides.
//! An answer that belongs to another item, batch or tenant differs, and so does a cut one.

/// Windows start at multiples of this many bytes...
const STEP: usize = 8;
/// ...and there are so many of them.
const WINDOWS: u64 = 509;
/// With which a payload begins: its item's id.
pub const ID_BYTES: usize = 8;

/// What the payloads of one tenant are cut from.
#[derive(Debug)]
pub struct Pattern(Box<[u8]>);

impl Pattern {
    /// A pattern for payloads of up to `payload_max` bytes; another one for every seed.
    pub fn new(seed: u64, payload_max: usize) -> Self {
        let len = payload_max + WINDOWS as usize * STEP;
        let mut x = seed ^ 0x9e37_79b9_7f4a_7c15;
        let mut bytes = Vec::with_capacity(len + ID_BYTES);
        while bytes.len() < len {
            bytes.extend_from_slice(&mix(x).to_le_bytes());
            x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        }
        Pattern(bytes.into())
    }

    /// Replaces `out` by the payload of an item.
    pub fn fill(&self, id: u64, len: usize, out: &mut Vec<u8>) {
        out.clear();
        let head = len.min(ID_BYTES);
        out.extend_from_slice(&id.to_le_bytes()[..head]);
        out.extend_from_slice(self.window(id, len - head));
    }

    /// Whether these bytes are the payload of that item.
    pub fn is_of(&self, id: u64, len: usize, payload: &[u8]) -> bool {
        if payload.len() != len {
            return false;
        }
        let (head, rest) = payload.split_at(len.min(ID_BYTES));
        head == &id.to_le_bytes()[..head.len()] && rest == self.window(id, rest.len())
    }

    fn window(&self, id: u64, len: usize) -> &[u8] {
        let at = (id % WINDOWS) as usize * STEP;
        &self.0[at..at + len]
    }
}

/// One step of splitmix64: numbers that follow each other come out unlike, and no two alike.
#[inline]
pub fn mix(n: u64) -> u64 {
    let x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_only_its_own_items_and_tenants() {
        let (ours, theirs) = (Pattern::new(1, 1_000), Pattern::new(2, 1_000));
        let mut p = Vec::new();
        for len in [0, 1, 7, 8, 9, 64, 1_000] {
            ours.fill(77, len, &mut p);
            assert!(p.len() == len && ours.is_of(77, len, &p));
            if len > 0 {
                assert!(!ours.is_of(78, len, &p), "{len}");
                assert!(!ours.is_of(77, len, &p[1..]), "{len}");
                *p.last_mut().expect("not empty") ^= 1;
                assert!(!ours.is_of(77, len, &p), "{len}");
            }
            if len > ID_BYTES {
                theirs.fill(77, len, &mut p);
                assert!(!ours.is_of(77, len, &p), "{len}");
            }
        }
    }
}
