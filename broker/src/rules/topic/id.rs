//! The id of a message: a UUID of version 7 (RFC 9562, section 5.7) that says where the message is.
//!
//! ```text
//!  48 bits           4   12 bits    2   32 bits            30 bits
//! +-----------------+---+----------+---+------------------+---------------------+
//! | milliseconds    | 7 | counter  | 2 | number of the    | offset, its lowest  |
//! |                 |   |          |   | partition        | 30 bits             |
//! +-----------------+---+----------+---+------------------+---------------------+
//! ```
//!
//! Within a partition ids rise, also when the clock steps back: then time stands still, and the
//! counter goes on; when that is used up, time goes ahead by a millisecond (section 6.2). So no
//! index is needed to find a message: the partition is in the id, and so is all of the offset that
//! is not shared by messages 2^30 places apart.

use super::At;

const COUNTER_MAX: u16 = (1 << 12) - 1;
const OFFSET_BITS: u32 = 30;
const TIME_MAX: u64 = (1 << 48) - 1;

/// What the next id of a partition must be above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Last {
    /// Its time.
    pub ms: At,
    /// Its counter.
    pub counter: u16,
}

impl Last {
    /// The place in time of the next message.
    #[must_use]
    pub fn next(self, now: At) -> Last {
        let now = now.min(TIME_MAX);
        match self {
            Last { ms, .. } if now > ms => Last { ms: now, counter: 0 },
            Last { ms, counter: COUNTER_MAX } => Last { ms: ms + 1, counter: 0 },
            Last { ms, counter } => Last { ms, counter: counter + 1 },
        }
    }
}

/// The parts of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// When it was appended.
    pub at: Last,
    /// The number of its partition among all that the tenant ever had.
    pub partition: u32,
    /// The lowest 30 bits of its offset.
    pub low: u32,
}

/// The id of the message at this place.
pub fn make(at: Last, partition: u32, offset: u64) -> [u8; 16] {
    let low = offset & ((1 << OFFSET_BITS) - 1);
    let high = at.ms << 16 | 7 << 12 | u64::from(at.counter);
    let rest = 2 << 62 | u64::from(partition) << OFFSET_BITS | low;
    (u128::from(high) << 64 | u128::from(rest)).to_be_bytes()
}

/// What an id says; none when it is none of ours.
pub fn parts(id: [u8; 16]) -> Option<Parts> {
    let all = u128::from_be_bytes(id);
    let (high, rest) = ((all >> 64) as u64, all as u64);
    if high >> 12 & 0xf != 7 || rest >> 62 != 2 {
        return None;
    }
    Some(Parts {
        at: Last { ms: high >> 16, counter: (high & u64::from(COUNTER_MAX)) as u16 },
        partition: (rest >> OFFSET_BITS) as u32,
        low: (rest & ((1 << OFFSET_BITS) - 1)) as u32,
    })
}

/// The offsets from `first` to before `next` that a message with these lowest bits may have.
pub fn offsets(low: u32, first: u64, next: u64) -> impl Iterator<Item = u64> {
    let step = 1 << OFFSET_BITS;
    let base = first & !(step - 1) | u64::from(low);
    let begin = if base < first { base.saturating_add(step) } else { base };
    (begin..next).step_by(step as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_and_leads_back() {
        let at = Last { ms: 1_700_000_000_123, counter: 77 };
        let id = make(at, 0xdead_beef, (5 << 30) + 9);
        let uuid = uuid::Uuid::from_bytes(id);
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(parts(id), Some(Parts { at, partition: 0xdead_beef, low: 9 }));
        assert_eq!(parts([0; 16]), None);
        assert_eq!(parts(*uuid::Uuid::new_v4().as_bytes()), None);
    }

    #[test]
    fn ids_rise_whatever_the_clock_does() {
        let (mut last, mut before) = (Last::default(), [0; 16]);
        for (n, now) in [5, 5, 4, 0, 9, 8, 8].into_iter().chain([3; 9_000]).enumerate() {
            last = last.next(now);
            let id = make(last, 1, n as u64);
            assert!(id > before, "{n}");
            before = id;
        }
        assert!(last.ms > 9, "time went ahead, as the counter was used up");
    }

    #[test]
    fn the_offset_is_found_among_those_that_are_kept() {
        let all = |low, first, next| offsets(low, first, next).collect::<Vec<_>>();
        assert_eq!(all(7, 0, 10), [7]);
        assert_eq!(all(7, 8, 10), [] as [u64; 0]);
        assert_eq!(all(7, 7, 7), [] as [u64; 0]);
        assert_eq!(all(1, (3 << 30) + 2, (4 << 30) + 2), [(4 << 30) + 1]);
        assert_eq!(all(1, 0, (2 << 30) + 2), [1, (1 << 30) + 1, (2 << 30) + 1]);
    }
}
