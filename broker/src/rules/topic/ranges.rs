//! A set of offsets, as the ranges that it consists of.

use std::collections::BTreeMap;

/// Offsets: disjoint ranges that do not touch, each by its first and its last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds a range; empty when `last` is before `first`.
    pub fn insert(&mut self, mut first: u64, mut last: u64) {
        if last < first {
            return;
        }
        // Those that touch become one with it.
        if let Some((f, l)) = self.0.range(..=first).next_back().map(|(f, l)| (*f, *l))
            && l.saturating_add(1) >= first
        {
            (first, last) = (f, last.max(l));
            self.0.remove(&f);
        }
        while let Some((f, l)) = self.0.range(first..).next().map(|(f, l)| (*f, *l))
            && f <= last.saturating_add(1)
        {
            last = last.max(l);
            self.0.remove(&f);
        }
        self.0.insert(first, last);
    }

    /// Whether an offset is in it.
    pub fn contains(&self, offset: u64) -> bool {
        self.0.range(..=offset).next_back().is_some_and(|(_, last)| *last >= offset)
    }

    /// The end of the range that an offset is in: the next that is not.
    pub fn end_of(&self, offset: u64) -> Option<u64> {
        let (_, last) = self.0.range(..=offset).next_back()?;
        (*last >= offset).then(|| last.saturating_add(1))
    }

    /// Forgets what is before an offset.
    pub fn forget_before(&mut self, offset: u64) {
        while let Some((first, last)) = self.0.first_key_value().map(|(f, l)| (*f, *l))
            && first < offset
        {
            self.0.pop_first();
            if last >= offset {
                self.0.insert(offset, last);
            }
        }
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().map(|(first, last)| (*first, *last))
    }
}

impl FromIterator<(u64, u64)> for Ranges {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(ranges: I) -> Ranges {
        let mut all = Ranges::default();
        ranges.into_iter().for_each(|(first, last)| all.insert(first, last));
        all
    }
}
