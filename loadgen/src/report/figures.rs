//! What was measured, of one tenant or of all: counts, rates, quantiles.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    check::Wrong,
    drive::{Reread, TopicDone},
    record::Stats,
    scenario::Operation,
};

/// What was measured, of one tenant or of all.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub tenant: String,
    /// What it did; nothing for several together.
    pub operation: Option<&'static str>,
    pub operations: u64,
    pub operations_failed: u64,
    pub operations_not_sent: u64,
    pub items_succeeded: u64,
    pub items_failed: u64,
    pub items_unanswered: u64,
    pub jobs_accepted: u64,
    /// Items with a result, whatever it was.
    pub items_per_s: f64,
    pub succeeded_per_s: f64,
    pub operations_per_s: f64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Items and operations that failed, by code.
    pub errors: BTreeMap<String, u64>,
    pub wrong: Wrong,
    pub throttled_s: f64,
    pub throttlings: u64,
    /// From when an operation was due to its end.
    pub latency: Quantiles,
    /// From when its batch was due to an item's result.
    pub item_latency: Quantiles,
    /// From when its batch was due to a job's acceptance.
    pub accepted_latency: Option<Quantiles>,
    /// From when its operation was due until a reader had a message.
    pub delivered_latency: Option<Quantiles>,
    /// `latency` as pairs of a percentile and microseconds.
    pub curve: Vec<(f64, f64)>,
    /// Jobs, after the load was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reread: Option<Reread>,
    /// Its topic, over the whole run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicDone>,
}

/// Latency, in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub min_us: f64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p99_9_us: f64,
    pub p99_99_us: f64,
    pub max_us: f64,
}

impl Figures {
    pub fn new(name: &str, operation: Option<&Operation>, s: &Stats, duration: Duration) -> Self {
        // What was not measured at all has no rates, and nothing to divide.
        let secs = duration.max(Duration::from_nanos(1)).as_secs_f64();
        Figures {
            tenant: name.to_owned(),
            operation: operation.map(|o| o.name()),
            operations: s.operations,
            operations_failed: s.operations_failed,
            operations_not_sent: s.not_sent,
            items_succeeded: s.succeeded,
            items_failed: s.failed,
            items_unanswered: s.unanswered,
            jobs_accepted: s.accepted,
            items_per_s: s.answered() as f64 / secs,
            succeeded_per_s: s.succeeded as f64 / secs,
            operations_per_s: (s.operations - s.operations_failed) as f64 / secs,
            bytes_sent: s.bytes_in,
            bytes_received: s.bytes_out,
            errors: s.errors.clone(),
            wrong: s.wrong,
            throttled_s: s.throttled.as_secs_f64(),
            throttlings: s.throttlings,
            latency: Quantiles::of(&s.latency),
            item_latency: Quantiles::of(&s.item_latency),
            accepted_latency: Quantiles::of_some(&s.accepted_latency),
            delivered_latency: Quantiles::of_some(&s.delivered_latency),
            curve: curve(&s.latency),
            reread: None,
            topic: None,
        }
    }
}

impl Quantiles {
    fn of_some(h: &Histogram<u64>) -> Option<Self> {
        (!h.is_empty()).then(|| Self::of(h))
    }

    pub fn of(h: &Histogram<u64>) -> Self {
        let us = |ns: u64| ns as f64 / 1e3;
        let at = |q| us(h.value_at_quantile(q));
        let empty = h.is_empty();
        Quantiles {
            count: h.len(),
            min_us: if empty { 0.0 } else { us(h.min()) },
            mean_us: if empty { 0.0 } else { h.mean() / 1e3 },
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            p99_99_us: at(0.9999),
            max_us: us(h.max()),
        }
    }
}

/// Points of the distribution, ever closer to 100 %: as many as the number of values supports.
fn curve(h: &Histogram<u64>) -> Vec<(f64, f64)> {
    if h.is_empty() {
        return Vec::new();
    }
    let point = |p: f64| (p, h.value_at_quantile(p / 100.0) as f64 / 1e3);
    // Ten points a factor of ten in 1/(1 - p).
    let steps = ((h.len() as f64).log10() * 10.0).ceil() as u32;
    let mut all: Vec<_> =
        (0..=steps).map(|n| point(100.0 * (1.0 - 10f64.powf(-f64::from(n) / 10.0)))).collect();
    all.push((100.0, h.max() as f64 / 1e3));
    all
}
