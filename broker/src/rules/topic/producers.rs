//! Which messages of a producer a partition has: what comes again is not appended again.

use std::collections::VecDeque;

use foldhash::HashMap;

use super::At;

/// The producers that a partition knows.
#[derive(Debug, Clone)]
pub struct Producers {
    known: HashMap<[u8; 16], Producer>,
    kept_max: usize,
    window: usize,
}

/// What a partition knows of one producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Producer {
    /// Its newest epoch.
    pub epoch: u64,
    /// The largest sequence of that epoch.
    pub last: u64,
    /// Of sequences up to this one it is not known any more whether they are here.
    pub forgotten: Option<u64>,
    /// The messages after that: sequence and offset, in the order of the sequences.
    pub recent: VecDeque<(u64, u64)>,
    /// When it was last heard of.
    pub at: At,
}

/// What is to become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// It is appended.
    New,
    /// It is there already, at this offset.
    Duplicate(u64),
    /// So old that it is not known any more whether it is there.
    Unknown,
    /// Its producer has begun anew with this epoch since.
    Fenced(u64),
}

impl Producers {
    /// Knows at most so many producers, and of each so many messages.
    pub fn new(kept_max: usize, window: usize) -> Producers {
        Producers { known: HashMap::default(), kept_max: kept_max.max(1), window: window.max(1) }
    }

    /// What is to become of a message.
    pub fn judge(&self, id: &[u8; 16], epoch: u64, sequence: u64) -> Judged {
        let Some(known) = self.known.get(id) else { return Judged::New };
        if epoch < known.epoch {
            return Judged::Fenced(known.epoch);
        }
        if epoch > known.epoch || sequence > known.last {
            return Judged::New;
        }
        match known.recent.binary_search_by_key(&sequence, |(sequence, _)| *sequence) {
            Ok(at) => Judged::Duplicate(known.recent[at].1),
            Err(_) if known.forgotten.is_some_and(|last| sequence <= last) => Judged::Unknown,
            // It was refused when it came first.
            Err(_) => Judged::New,
        }
    }

    /// A message is kept.
    pub fn note(&mut self, id: [u8; 16], epoch: u64, sequence: u64, offset: u64, at: At) {
        if !self.known.contains_key(&id) && self.known.len() >= self.kept_max {
            // The one that was silent for longest: there are few, and a new one is rare.
            let oldest = self.known.iter().min_by_key(|(_, p)| p.at).map(|(id, _)| *id);
            oldest.map(|id| self.known.remove(&id));
        }
        let known = self.known.entry(id).or_insert_with(|| Producer {
            epoch,
            last: sequence,
            forgotten: None,
            recent: VecDeque::new(),
            at,
        });
        if epoch > known.epoch {
            (known.epoch, known.last, known.forgotten) = (epoch, sequence, None);
            known.recent.clear();
        }
        (known.last, known.at) = (known.last.max(sequence), at);
        // Mostly at the end.
        let place = known.recent.partition_point(|(s, _)| *s < sequence);
        known.recent.insert(place, (sequence, offset));
        if known.recent.len() > self.window {
            known.forgotten = known.recent.pop_front().map(|(sequence, _)| sequence);
        }
    }

    /// What is known of one.
    pub fn get(&self, id: &[u8; 16]) -> Option<&Producer> {
        self.known.get(id)
    }

    /// What was kept of one.
    pub fn insert(&mut self, id: [u8; 16], producer: Producer) {
        self.known.insert(id, producer);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8; 16], &Producer)> {
        self.known.iter()
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 16] = [1; 16];

    #[test]
    fn what_comes_again_is_known_by_its_offset() {
        let mut all = Producers::new(2, 3);
        assert_eq!(all.judge(&A, 1, 5), Judged::New);
        for (sequence, offset) in [(5, 100), (6, 101), (9, 110), (10, 111)] {
            assert_eq!(all.judge(&A, 1, sequence), Judged::New);
            all.note(A, 1, sequence, offset, 0);
        }
        assert_eq!(all.judge(&A, 1, 10), Judged::Duplicate(111));
        assert_eq!(all.judge(&A, 1, 9), Judged::Duplicate(110));
        assert_eq!(all.judge(&A, 1, 5), Judged::Unknown, "too long ago");
        assert_eq!(all.judge(&A, 1, 11), Judged::New);
        assert_eq!(all.judge(&A, 1, 8), Judged::New, "it was refused when it came first");
        all.note(A, 1, 8, 112, 0);
        assert_eq!(all.judge(&A, 1, 8), Judged::Duplicate(112));
        assert_eq!(all.judge(&A, 1, 10), Judged::Duplicate(111));
        assert_eq!(all.judge(&A, 1, 6), Judged::Unknown);
    }

    #[test]
    fn a_newer_epoch_fences_the_older() {
        let mut all = Producers::new(2, 3);
        all.note(A, 1, 50, 1, 0);
        assert_eq!(all.judge(&A, 2, 1), Judged::New);
        all.note(A, 2, 1, 2, 0);
        assert_eq!(all.judge(&A, 1, 51), Judged::Fenced(2));
        assert_eq!(all.judge(&A, 2, 1), Judged::Duplicate(2));
        assert_eq!(all.judge(&A, 2, 2), Judged::New);
    }

    #[test]
    fn of_too_many_the_longest_silent_is_forgotten() {
        let mut all = Producers::new(2, 3);
        for (n, at) in [(1_u8, 10), (2, 5), (3, 20)] {
            all.note([n; 16], 1, 1, n.into(), at);
        }
        assert_eq!(all.len(), 2);
        assert_eq!(all.judge(&[2; 16], 1, 1), Judged::New, "forgotten");
        assert_eq!(all.judge(&[1; 16], 1, 1), Judged::Duplicate(1));
    }
}
