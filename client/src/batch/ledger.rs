//! Which items were sent and which have come back: what a broker's answers are checked against.
//!
//! Ids rise strictly, so they are kept as runs: a batch numbered without gaps takes one run and a
//! bit an item. No I/O.

use std::time::Duration;

use tollgate_protocol::batch::{Ended, Number, Summary};

use crate::error::Violation;

/// Ids that follow each other without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct IdRun {
    first: u64,
    len: u64,
    /// How many ids lie before this run.
    before: u64,
}

/// Strictly rising ids.
#[derive(Debug, Default)]
pub(super) struct Ids {
    runs: Vec<IdRun>,
}

impl Ids {
    /// Adds an id larger than all before.
    pub(super) fn push(&mut self, id: u64) {
        debug_assert!(self.last().is_none_or(|last| id > last));
        let before = self.len();
        match self.runs.last_mut() {
            Some(run) if run.first + run.len == id => run.len += 1,
            _ => self.runs.push(IdRun { first: id, len: 1, before }),
        }
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.runs.last().map(|r| r.first + (r.len - 1))
    }

    pub(super) fn len(&self) -> u64 {
        self.runs.last().map_or(0, |r| r.before + r.len)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.runs.iter().flat_map(|r| (0..r.len).map(|n| r.first + n))
    }

    /// Takes over what `from` has more: `self` was equal to it some time ago.
    fn catch_up(&mut self, from: &Ids) {
        let start = self.runs.len().saturating_sub(1);
        self.runs.truncate(start);
        self.runs.extend_from_slice(&from.runs[start..]);
    }

    /// The place of an id in the order of sending.
    #[inline]
    fn position(&self, id: u64) -> Option<u64> {
        let run = match &self.runs[..] {
            [only] => only,
            runs => runs[..runs.partition_point(|r| r.first <= id)].last()?,
        };
        let offset = id.checked_sub(run.first)?;
        (offset < run.len).then_some(run.before + offset)
    }
}

/// What came back for the items sent.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    sent: Ids,
    /// A bit an item, in the order of sending: it has its result.
    answered: Vec<u64>,
    /// A bit an item, likewise: it is or was a job.
    jobs: Vec<u64>,
    results: u64,
    succeeded: u64,
    /// How many failed with each code, in the order of the codes.
    failed: Vec<(u16, u64)>,
}

impl Ledger {
    /// Whether an item was sent; `sent` is looked at when it is not known yet.
    pub(super) fn knows(&self, id: u64) -> bool {
        self.sent.position(id).is_some()
    }

    pub(super) fn catch_up(&mut self, sent: &Ids) {
        self.sent.catch_up(sent);
    }

    /// Records a result.
    #[inline]
    pub(super) fn result(&mut self, id: u64, code: u16) -> Result<(), Violation> {
        let at = self.sent.position(id).ok_or(Violation::StrangeItem(id))?;
        let (word, bit) = ((at / 64) as usize, 1 << (at % 64));
        if word >= self.answered.len() {
            self.answered.resize(word + 1, 0);
        }
        if self.answered[word] & bit != 0 {
            return Err(Violation::SecondResult(id));
        }
        self.answered[word] |= bit;
        self.results += 1;
        if code == 0 {
            self.succeeded += 1;
        } else {
            match self.failed.binary_search_by_key(&code, |f| f.0) {
                Ok(i) => self.failed[i].1 += 1,
                Err(i) => self.failed.insert(i, (code, 1)),
            }
        }
        Ok(())
    }

    /// Records that an item became a job, which must still be without a result.
    pub(super) fn job(&mut self, id: u64) -> Result<(), Violation> {
        self.progress(id)?;
        let at = self.sent.position(id).ok_or(Violation::StrangeItem(id))?;
        let (word, bit) = ((at / 64) as usize, 1 << (at % 64));
        if word >= self.jobs.len() {
            self.jobs.resize(word + 1, 0);
        }
        if self.jobs[word] & bit != 0 {
            return Err(Violation::SecondJob(id));
        }
        self.jobs[word] |= bit;
        Ok(())
    }

    /// The items that have no result, in the order of their ids, and whether each is a job.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = (u64, bool)> {
        let has = |bits: &[u64], at: usize| {
            bits.get(at / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
        };
        let ids = self.sent.iter().enumerate();
        ids.filter(move |(at, _)| !has(&self.answered, *at))
            .map(move |(at, id)| (id, has(&self.jobs, at)))
    }

    /// Whether every item that was sent has its result.
    pub(super) fn is_complete(&self) -> bool {
        self.results == self.sent.len()
    }

    /// The end as it is counted here, for a batch whose stream was lost.
    pub(super) fn own_summary(&self, duration: Duration) -> crate::event::Summary {
        crate::event::Summary {
            ended: Ended::Sealed,
            total: self.results,
            succeeded: self.succeeded,
            failed: self.failed.clone(),
            last_id_read: self.sent.last(),
            duration,
            bytes_in: 0,
            bytes_out: 0,
            throttled: Duration::ZERO,
            number: Number::default(),
        }
    }

    /// Judges progress of an item, which must still be without a result.
    pub(super) fn progress(&self, id: u64) -> Result<(), Violation> {
        let at = self.sent.position(id).ok_or(Violation::StrangeItem(id))?;
        let word = self.answered.get((at / 64) as usize).copied().unwrap_or(0);
        if word & (1 << (at % 64)) != 0 { Err(Violation::SecondResult(id)) } else { Ok(()) }
    }

    /// Judges the end: every item that the broker read has its result, and the counts agree.
    pub(super) fn summary(&self, s: &Summary<'_>, sealed: bool) -> Result<(), Violation> {
        let check = |field, said, counted| {
            let agrees = said == counted;
            agrees.then_some(()).ok_or(Violation::Summary { field, said, counted })
        };
        check("total", s.total, self.results)?;
        check("succeeded", s.succeeded, self.succeeded)?;
        let mut failed = s.failed.clone();
        failed.sort_unstable_by_key(|f| f.0);
        check("codes that failed", failed.len() as u64, self.failed.len() as u64)?;
        for (said, counted) in failed.iter().zip(&self.failed) {
            check("a failed code", said.0.into(), counted.0.into())?;
            check("items that failed", said.1, counted.1)?;
        }
        // Items are read in order, so those up to the last one read are as many as the results.
        let read = match s.last_id_read {
            None => 0,
            Some(id) => self.sent.position(id).ok_or(Violation::StrangeItem(id))? + 1,
        };
        check("items read", read, self.results)?;
        match (s.ended, sealed) {
            (Ended::Sealed, true) => check("items sealed", self.sent.len(), self.results),
            (Ended::Sealed, false) => Err(Violation::Unexpected("Summary")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tollgate_protocol::Extensions;

    use super::*;

    fn ids(ids: impl IntoIterator<Item = u64>) -> Ids {
        let mut all = Ids::default();
        ids.into_iter().for_each(|id| all.push(id));
        all
    }

    fn ledger(sent: impl IntoIterator<Item = u64>) -> Ledger {
        let mut l = Ledger::default();
        l.catch_up(&ids(sent));
        l
    }

    fn summary(total: u64, failed: &[(u16, u64)], last: Option<u64>) -> Summary<'static> {
        Summary {
            ended: Ended::Sealed,
            total,
            succeeded: total - failed.iter().map(|f| f.1).sum::<u64>(),
            failed: failed.to_vec(),
            last_id_read: last,
            duration_us: 0,
            bytes_in: 0,
            bytes_out: 0,
            throttled_us: 0,
            number: Number::default(),
            extensions: Extensions::EMPTY,
        }
    }

    #[test]
    fn ids_without_gaps_are_one_run_and_others_are_found_too() {
        let dense = ids(0..1_000);
        assert_eq!(dense.runs.len(), 1);
        assert_eq!((dense.position(999), dense.position(1_000)), (Some(999), None));
        let gaps = ids([3, 4, 5, 9, 100, 101, u64::MAX]);
        let found = [3, 5, 9, 101, u64::MAX].map(|id| gaps.position(id));
        assert_eq!(found, [Some(0), Some(2), Some(3), Some(5), Some(6)]);
        assert!([0, 2, 6, 8, 10, 99, 102].iter().all(|id| gaps.position(*id).is_none()));
        assert_eq!((gaps.len(), gaps.last()), (7, Some(u64::MAX)));
        assert_eq!(Ids::default().position(0), None);
    }

    #[test]
    fn a_copy_catches_up_with_grown_and_with_new_runs() {
        let mut original = ids([1, 2]);
        let mut copy = Ids::default();
        for more in [3, 4, 10, 11, 20] {
            copy.catch_up(&original);
            assert_eq!(copy.runs, original.runs);
            original.push(more);
        }
        copy.catch_up(&original);
        assert_eq!(copy.runs, original.runs);
    }

    #[test]
    fn each_item_has_one_result_and_strangers_none() {
        let mut l = ledger([0, 1, 70]);
        assert_eq!(l.result(70, 0), Ok(()));
        assert_eq!(l.result(70, 5), Err(Violation::SecondResult(70)));
        assert_eq!(l.result(2, 0), Err(Violation::StrangeItem(2)));
        assert_eq!(l.progress(0), Ok(()));
        assert_eq!(l.progress(70), Err(Violation::SecondResult(70)));
        assert_eq!(l.progress(69), Err(Violation::StrangeItem(69)));
    }

    #[test]
    fn an_item_becomes_a_job_once_and_before_its_result() {
        let mut l = ledger([3, 4, 90]);
        assert_eq!(l.job(4), Ok(()));
        assert_eq!(l.job(4), Err(Violation::SecondJob(4)));
        assert_eq!(l.job(5), Err(Violation::StrangeItem(5)));
        assert_eq!(l.result(3, 0), Ok(()));
        assert_eq!(l.job(3), Err(Violation::SecondResult(3)));
        assert_eq!(l.unanswered().collect::<Vec<_>>(), [(4, true), (90, false)]);
        assert!(!l.is_complete());
    }

    #[test]
    fn a_summary_agrees_with_what_came_or_is_refused() {
        let mut l = ledger(0..3);
        for (id, code) in [(0, 0), (1, 17), (2, 0)] {
            l.result(id, code).expect("the first");
        }
        let right = summary(3, &[(17, 1)], Some(2));
        assert_eq!(l.summary(&right, true), Ok(()));
        let wrong = [
            summary(2, &[(17, 1)], Some(2)),
            summary(3, &[(18, 1)], Some(2)),
            summary(3, &[(17, 2)], Some(2)),
            summary(3, &[], Some(2)),
            summary(3, &[(17, 1)], Some(1)),
            summary(3, &[(17, 1)], Some(9)),
            summary(3, &[(17, 1)], None),
        ];
        for s in wrong {
            assert!(l.summary(&s, true).is_err(), "{s:?}");
        }
        assert!(ledger(0..4).summary(&right, true).is_err());
        assert!(l.summary(&right, false).is_err());
        let cancelled = Summary { ended: Ended::Cancelled, ..right };
        assert_eq!(l.summary(&cancelled, false), Ok(()));
    }
}
