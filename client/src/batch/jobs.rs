//! Which items of a batch are jobs that are not over, and where to read on when its stream is lost.
//!
//! Pure bookkeeping: nothing here attaches.

use std::{collections::BTreeMap, sync::Arc};

use tollgate_protocol::{
    batch::{ItemResult, Number},
    id::JobId,
    job::JobAccepted,
};

/// A tenant's numbers, as far as this batch has seen them. A client has one, a gateway one for each
/// tenant that it works for.
#[derive(Debug)]
struct Space {
    tenant: Option<Arc<str>>,
    last: Number,
    /// Jobs that were made in this batch and are not over.
    open: u64,
}

/// A job of another batch, or of this one when it is resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Existing {
    pub(super) job_id: JobId,
    pub(super) tenant: Option<Arc<str>>,
}

#[derive(Debug, Default)]
pub(super) struct Jobs {
    spaces: Vec<Space>,
    existing: BTreeMap<u64, Existing>,
    /// Results come in the order of requests: so numbers do not rise.
    pub(super) unordered: bool,
}

impl Jobs {
    /// An item became a job.
    pub(super) fn accepted(&mut self, x: &JobAccepted<'_>) {
        if x.existing {
            let tenant = x.tenant.map(Into::into);
            self.existing.insert(x.id, Existing { job_id: x.job_id, tenant });
        } else {
            let space = self.space(x.tenant);
            space.open += 1;
            space.last = space.last.max(x.number);
        }
    }

    /// A job is over. What has no number was none.
    pub(super) fn ended(&mut self, x: &ItemResult<'_>) {
        if x.number == Number::default() || self.existing.remove(&x.id).is_some() {
            return;
        }
        let space = self.space(x.tenant);
        space.open = space.open.saturating_sub(1);
        space.last = space.last.max(x.number);
    }

    fn space(&mut self, tenant: Option<&str>) -> &mut Space {
        let known = self.spaces.iter().position(|s| s.tenant.as_deref() == tenant);
        let at = known.unwrap_or_else(|| {
            let tenant = tenant.map(Into::into);
            self.spaces.push(Space { tenant, last: Number::default(), open: 0 });
            self.spaces.len() - 1
        });
        &mut self.spaces[at]
    }

    /// Whether any job is not over.
    pub(super) fn any_open(&self) -> bool {
        !self.existing.is_empty() || self.spaces.iter().any(|s| s.open > 0)
    }

    /// Whose jobs of this batch are not over, and after which number to read on.
    pub(super) fn open_spaces(&self) -> impl Iterator<Item = (Option<Arc<str>>, Number)> {
        let after = |last| if self.unordered { Number::default() } else { last };
        self.spaces.iter().filter(|s| s.open > 0).map(move |s| (s.tenant.clone(), after(s.last)))
    }

    /// An item that is another batch's job and not over; each is given out once.
    pub(super) fn take_existing(&mut self) -> Option<(u64, Existing)> {
        self.existing.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use tollgate_protocol::{Extensions, Pairs, batch::Body};

    use super::*;

    fn accepted(id: u64, tenant: Option<&str>, existing: bool, seq: u64) -> JobAccepted<'_> {
        JobAccepted {
            id,
            tenant,
            job_id: JobId([id as u8; 16]),
            existing,
            number: number(seq),
            extensions: Extensions::EMPTY,
        }
    }

    fn result(id: u64, tenant: Option<&str>, number: Number) -> ItemResult<'_> {
        ItemResult {
            id,
            tenant,
            status: 200,
            code: 0,
            attempts: 1,
            queued_us: 0,
            duration_us: 0,
            number,
            metadata: Pairs::EMPTY,
            extensions: Extensions::EMPTY,
            body: Body::Payload(b""),
        }
    }

    fn number(sequence: u64) -> Number {
        Number { epoch: 1, sequence }
    }

    #[test]
    fn reading_on_begins_after_the_last_number_of_the_batchs_own_jobs() {
        let mut jobs = Jobs::default();
        jobs.accepted(&accepted(0, None, false, 7));
        jobs.accepted(&accepted(1, None, false, 8));
        // Another batch's, which came much later, and one that was over long ago.
        jobs.accepted(&accepted(2, None, true, 900));
        jobs.ended(&result(2, None, number(950)));
        jobs.ended(&result(0, None, number(12)));
        jobs.ended(&result(5, None, Number::default()));
        assert!(jobs.any_open());
        assert_eq!(jobs.open_spaces().collect::<Vec<_>>(), [(None, number(12))]);
        jobs.ended(&result(1, None, number(13)));
        assert!(!jobs.any_open());
    }

    #[test]
    fn each_tenant_of_a_gateway_has_numbers_of_its_own() {
        let mut jobs = Jobs::default();
        jobs.accepted(&accepted(0, Some("a"), false, 500));
        jobs.accepted(&accepted(1, Some("b"), false, 3));
        let spaces: Vec<_> = jobs.open_spaces().collect();
        assert_eq!(spaces, [(Some("a".into()), number(500)), (Some("b".into()), number(3))]);
        jobs.unordered = true;
        assert!(jobs.open_spaces().all(|(_, after)| after == Number::default()));
    }

    #[test]
    fn a_job_of_another_batch_is_given_out_once() {
        let mut jobs = Jobs::default();
        jobs.accepted(&accepted(4, None, true, 1));
        let existing = Existing { job_id: JobId([4; 16]), tenant: None };
        assert_eq!(jobs.take_existing(), Some((4, existing)));
        assert_eq!(jobs.take_existing(), None);
    }
}
