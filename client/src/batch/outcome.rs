//! What a whole batch came to, for those who wait for all of it.

use tollgate_protocol::batch::Ended;

use crate::{error::BatchError, event::Summary, item::ItemResult};

/// The results of a batch: exactly one for each of its items, in the order of their ids.
///
/// Items may have failed: look at [`failures`](Self::failures), or turn failures into an error
/// with [`into_result`](Self::into_result).
#[derive(Debug, Clone)]
#[must_use = "items may have failed: look at `failures()` or use `into_result()`"]
pub struct BatchResult {
    results: Vec<ItemResult>,
    summary: Summary,
}

impl BatchResult {
    /// `results` are in the order of their ids, one each; the counts of `summary` are taken anew,
    /// because items may have been refused here or tried again.
    pub(super) fn new(results: Vec<ItemResult>, mut summary: Summary) -> Self {
        summary.total = results.len() as u64;
        summary.succeeded = results.iter().filter(|r| r.is_success()).count() as u64;
        summary.failed.clear();
        for code in results.iter().filter(|r| !r.is_success()).map(|r| r.code_number) {
            match summary.failed.binary_search_by_key(&code, |f| f.0) {
                Ok(i) => summary.failed[i].1 += 1,
                Err(i) => summary.failed.insert(i, (code, 1)),
            }
        }
        BatchResult { results, summary }
    }

    /// How many items there were.
    pub fn len(&self) -> usize {
        self.results.len()
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    /// The result of an item. Without ids of your own, the n-th request has the id n, from 0.
    pub fn get(&self, id: u64) -> Option<&ItemResult> {
        let at = self.results.binary_search_by_key(&id, |r| r.id).ok()?;
        Some(&self.results[at])
    }

    /// Every result, in the order of the ids.
    pub fn iter(&self) -> std::slice::Iter<'_, ItemResult> {
        self.results.iter()
    }

    /// The items that succeeded, in the order of their ids.
    pub fn successes(&self) -> impl Iterator<Item = &ItemResult> {
        self.results.iter().filter(|r| r.is_success())
    }

    /// The items that failed, in the order of their ids.
    pub fn failures(&self) -> impl Iterator<Item = &ItemResult> {
        self.results.iter().filter(|r| !r.is_success())
    }

    /// The items with an HTTP status, such as 429, in the order of their ids.
    pub fn by_status(&self, status: u16) -> impl Iterator<Item = &ItemResult> {
        self.results.iter().filter(move |r| r.status == status)
    }

    /// Gateways only: the items of a tenant, in the order of their ids.
    pub fn for_tenant<'a>(&'a self, tenant: &'a str) -> impl Iterator<Item = &'a ItemResult> {
        self.results.iter().filter(move |r| r.tenant.as_deref() == Some(tenant))
    }

    /// How the batch ended. Its counts are those of the results here, whereas times and bytes are
    /// the broker's, retries included.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// What ended the batch; mostly `Sealed`.
    pub fn ended(&self) -> Ended {
        self.summary.ended
    }

    /// The results, if every item succeeded.
    ///
    /// # Errors
    /// [`BatchError::ItemsFailed`] with the first failure, if any item failed. To see them all,
    /// look at [`failures`](Self::failures) before.
    pub fn into_result(self) -> Result<Vec<ItemResult>, BatchError> {
        let first = self.failures().next().and_then(|r| Some((r.id, r.failure()?.clone())));
        match first {
            None => Ok(self.results),
            Some((first_id, first)) => Err(BatchError::ItemsFailed {
                failed: self.failures().count(),
                total: self.len(),
                first_id,
                first: Box::new(first),
            }),
        }
    }

    /// The results, failed ones too.
    pub fn into_vec(self) -> Vec<ItemResult> {
        self.results
    }
}

impl<'a> IntoIterator for &'a BatchResult {
    type Item = &'a ItemResult;
    type IntoIter = std::slice::Iter<'a, ItemResult>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for BatchResult {
    type Item = ItemResult;
    type IntoIter = std::vec::IntoIter<ItemResult>;

    fn into_iter(self) -> Self::IntoIter {
        self.results.into_iter()
    }
}
