//! What all tenants use together: counted by looking at each of them, and remembered for a moment.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Filter, Registry, TURN};
use crate::tenancy::quotas::Quota;

type Used = [u64; Quota::ALL.len()];

/// What was counted last, and when. A leaf.
#[derive(Debug, Default)]
pub(super) struct Totals(Mutex<Option<(Instant, Used)>>);

impl Totals {
    fn last(&self) -> MutexGuard<'_, Option<(Instant, Used)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// What all tenants use together of every quota, in the order of [`Quota::ALL`]; as of a second
    /// ago at most. Others have their turn while it counts.
    pub async fn used_by_all(&self) -> [u64; Quota::ALL.len()] {
        let last = *self.0.totals.last();
        if let Some((at, used)) = last
            && at.elapsed() < FRESH
        {
            return used;
        }
        let mut all = [0u64; Quota::ALL.len()];
        let mut after = None;
        loop {
            let page = self.page(after.as_ref(), TURN, Filter::default());
            let now = Instant::now();
            for used in page.iter().map(|tenant| tenant.used_of_all(now)) {
                all.iter_mut().zip(used).for_each(|(all, used)| *all = all.saturating_add(used));
            }
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            tokio::task::yield_now().await;
        }
        *self.0.totals.last() = Some((Instant::now(), all));
        all
    }
}

/// How long it is good for: whoever reads page after page does not have all counted for each.
const FRESH: Duration = Duration::from_secs(1);
