//! From two looks to rows: rates, the quota closest to its limit, order and filter. No I/O.

use std::{cmp::Ordering, collections::HashMap, time::Duration};

use clap::ValueEnum;

use super::sample::{Gateway, Sample};
use crate::cli::api::model::{Level, Stats, Usage, WorkerTotal};

/// What rows are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Sort {
    /// Items a second, then bytes a second
    #[default]
    Load,
    /// Bytes a second coming in
    In,
    /// Bytes a second going out
    Out,
    /// Failures a second
    Failures,
    /// The latency that 99 of 100 items stay below
    P99,
    /// Batches in flight
    InFlight,
    /// Connections
    Connections,
    /// The quota closest to its limit
    Quota,
    /// The id
    Tenant,
}

impl Sort {
    const ALL: [Sort; 9] = [
        Sort::Load,
        Sort::In,
        Sort::Out,
        Sort::Failures,
        Sort::P99,
        Sort::InFlight,
        Sort::Connections,
        Sort::Quota,
        Sort::Tenant,
    ];

    /// The one so many further on, around the end.
    pub(super) fn step(self, by: isize) -> Sort {
        let at = Self::ALL.iter().position(|s| *s == self).unwrap_or(0);
        let len = Self::ALL.len() as isize;
        Self::ALL[(at as isize + by).rem_euclid(len) as usize]
    }
}

/// What a tenant did between two looks, and what it uses now.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub tenant: String,
    pub rates: Option<Rates>,
    /// Of all its items since the broker started.
    pub p99_us: Option<u64>,
    pub in_flight: u64,
    pub connections: u64,
    pub worst: Option<Worst>,
}

/// What happened a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    pub items: f64,
    pub failures: f64,
    pub bytes_in: f64,
    pub bytes_out: f64,
}

/// The quota closest to its limit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Worst {
    pub quota: String,
    pub percent: f64,
    pub level: Level,
}

/// All that is shown.
#[derive(Debug, Default)]
pub(super) struct Picture {
    /// The time between the two looks; none after the first.
    pub interval: Option<Duration>,
    /// Of all tenants that were looked at, shown or not.
    pub total: Row,
    /// All workers together.
    pub workers: WorkerTotal,
    pub tenants: usize,
    pub more: bool,
    /// What gateways have open; what they do is their tenants'.
    pub gateways: Vec<(String, Gateway)>,
    pub rows: Vec<Row>,
}

impl Picture {
    /// What two looks show; with one, only what is used now.
    pub(super) fn between(before: Option<&Sample>, now: &Sample) -> Picture {
        let interval = before.map(|b| now.at.saturating_duration_since(b.at));
        let then: HashMap<&str, &Stats> =
            before.iter().flat_map(|b| &b.stats).map(|s| (s.tenant_id.as_str(), s)).collect();
        let stats: HashMap<&str, &Stats> =
            now.stats.iter().map(|s| (s.tenant_id.as_str(), s)).collect();
        let row = |usage: &Usage| {
            let id = usage.tenant_id.as_str();
            let nothing = Stats::default();
            let stats = stats.get(id).copied();
            let then = then.get(id).copied().unwrap_or(&nothing);
            Row {
                tenant: id.to_owned(),
                rates: interval.map(|i| Rates::between(then, stats.unwrap_or(&nothing), i)),
                p99_us: stats.map(|s| s.latency_us).filter(|l| l.count > 0).map(|l| l.p99),
                in_flight: current(usage, "batches_in_flight"),
                connections: current(usage, "connections"),
                worst: worst(usage),
            }
        };
        let rows: Vec<Row> = now.usage.iter().map(row).collect();
        let gateways = now.gateways.iter().map(|(name, open)| (name.clone(), *open)).collect();
        let (total, tenants) = (total(&rows), rows.len());
        let workers = now.workers;
        Picture { interval, total, workers, tenants, more: now.more, gateways, rows }
    }

    /// Leaves only the tenants with this in their id, in this order.
    pub(super) fn arrange(&mut self, by: Sort, smallest_first: bool, filter: &str) {
        self.rows.retain(|row| row.tenant.contains(filter));
        self.rows.sort_by(|a, b| {
            let order = compare(b, a, by);
            let order = if smallest_first { order.reverse() } else { order };
            order.then_with(|| a.tenant.cmp(&b.tenant))
        });
    }
}

impl Rates {
    fn between(then: &Stats, now: &Stats, interval: Duration) -> Rates {
        // A broker that started anew counts from zero.
        let anew = now.items_succeeded < then.items_succeeded;
        let seconds = interval.as_secs_f64().max(1e-3);
        let rate = |of: fn(&Stats) -> u64| {
            let from = if anew { 0 } else { of(then) };
            of(now).saturating_sub(from) as f64 / seconds
        };
        Rates {
            items: rate(|s| s.items_succeeded + s.items_failed),
            failures: rate(|s| s.items_failed),
            bytes_in: rate(|s| s.bytes_in),
            bytes_out: rate(|s| s.bytes_out),
        }
    }
}

/// Compares as numbers: the ids the other way around, so that a comes first when z is larger.
fn compare(a: &Row, b: &Row, by: Sort) -> Ordering {
    let rate = |of: fn(&Rates) -> f64| {
        let value = |row: &Row| row.rates.as_ref().map_or(0.0, of);
        value(a).total_cmp(&value(b))
    };
    match by {
        Sort::Load => rate(|r| r.items)
            .then_with(|| rate(|r| r.bytes_in + r.bytes_out))
            .then_with(|| a.in_flight.cmp(&b.in_flight)),
        Sort::In => rate(|r| r.bytes_in),
        Sort::Out => rate(|r| r.bytes_out),
        Sort::Failures => rate(|r| r.failures),
        Sort::P99 => a.p99_us.cmp(&b.p99_us),
        Sort::InFlight => a.in_flight.cmp(&b.in_flight),
        Sort::Connections => a.connections.cmp(&b.connections),
        Sort::Quota => {
            let percent = |row: &Row| row.worst.as_ref().map_or(-1.0, |w| w.percent);
            percent(a).total_cmp(&percent(b))
        }
        Sort::Tenant => b.tenant.cmp(&a.tenant),
    }
}

fn current(usage: &Usage, quota: &str) -> u64 {
    usage.quotas.iter().find(|q| q.quota == quota).map_or(0, |q| q.current)
}

fn worst(usage: &Usage) -> Option<Worst> {
    let used = usage.quotas.iter().filter(|q| q.current > 0 && q.limit >= 0);
    let used = used.filter_map(|q| Some((q, q.utilisation_percent?)));
    let (q, percent) = used.max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    Some(Worst { quota: q.quota.clone(), percent, level: q.level })
}

fn total(rows: &[Row]) -> Row {
    let mut total = Row::default();
    for row in rows {
        total.in_flight += row.in_flight;
        total.connections += row.connections;
        if let Some(rates) = row.rates {
            let sum = total.rates.get_or_insert_default();
            sum.items += rates.items;
            sum.failures += rates.failures;
            sum.bytes_in += rates.bytes_in;
            sum.bytes_out += rates.bytes_out;
        }
    }
    total
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Instant;

    use serde_json::json;

    use super::*;
    use crate::cli::api::model;

    /// A look at tenants: id, items that succeeded and failed, connections of ten.
    pub(crate) fn sample(at: Instant, tenants: &[(&str, u64, u64, u64)]) -> Sample {
        let usage = tenants.iter().map(|(id, _, _, connections)| {
            let percent = *connections as f64 * 10.0;
            let level = match *connections {
                0..8 => "normal",
                8..10 => "warning",
                _ => "critical",
            };
            json!({"tenant_id": id, "quotas": [
                {"quota": "connections", "current": connections, "limit": 10,
                 "utilisation_percent": percent, "level": level},
                {"quota": "batches_in_flight", "current": 3, "limit": -1},
            ]})
        });
        let stats = tenants.iter().map(|(id, succeeded, failed, _)| {
            json!({"tenant_id": id, "items_succeeded": succeeded, "items_failed": failed,
                "failures": {}, "bytes_in": succeeded * 1024, "bytes_out": succeeded * 2048,
                "latency_us": {"p99": succeeded * 10, "count": succeeded}})
        });
        let read = |items: serde_json::Value| json!({ "items": items });
        Sample {
            at,
            usage: model::items(&read(usage.collect())).expect("usage"),
            stats: model::items(&read(stats.collect())).expect("stats"),
            workers: WorkerTotal { workers: 2, credit: 16, leased: 5, ..WorkerTotal::default() },
            gateways: Default::default(),
            more: false,
        }
    }

    fn order(picture: &Picture) -> Vec<&str> {
        picture.rows.iter().map(|r| r.tenant.as_str()).collect()
    }

    #[test]
    fn rates_are_what_changed_between_two_looks() {
        let at = Instant::now();
        let before = sample(at, &[("acme", 100, 10, 1), ("globex", 500, 0, 9)]);
        let now =
            sample(at + Duration::from_secs(2), &[("acme", 300, 20, 1), ("globex", 20, 0, 9)]);
        let picture = Picture::between(Some(&before), &now);
        let acme = picture.rows[0].rates.expect("rates");
        assert_eq!((acme.items, acme.failures, acme.bytes_in), (105.0, 5.0, 102_400.0));
        // It started anew in between.
        assert_eq!(picture.rows[1].rates.map(|r| r.items), Some(10.0));
        assert_eq!(picture.total.rates.map(|r| r.items), Some(115.0));
        assert_eq!((picture.total.connections, picture.total.in_flight), (10, 6));
        let alone = Picture::between(None, &now);
        assert!(alone.rows.iter().all(|row| row.rates.is_none() && row.connections > 0));
    }

    #[test]
    fn rows_are_ordered_and_filtered() {
        let at = Instant::now();
        let before = sample(at, &[("a", 0, 0, 0), ("b", 0, 0, 0), ("cc", 0, 0, 0)]);
        let now = sample(
            at + Duration::from_secs(1),
            &[("a", 1, 9, 9), ("b", 90, 1, 3), ("cc", 5, 0, 10)],
        );
        let by = |sort, smallest_first, filter: &str| {
            let mut picture = Picture::between(Some(&before), &now);
            picture.arrange(sort, smallest_first, filter);
            order(&picture).join(" ")
        };
        assert_eq!(by(Sort::Load, false, ""), "b a cc");
        assert_eq!(by(Sort::Load, true, ""), "cc a b");
        assert_eq!(by(Sort::Failures, false, ""), "a b cc");
        assert_eq!(by(Sort::Quota, false, ""), "cc a b");
        assert_eq!(by(Sort::Tenant, false, ""), "a b cc");
        assert_eq!(by(Sort::P99, false, "c"), "cc");
        assert_eq!(by(Sort::InFlight, false, ""), "a b cc", "ids decide");
        assert_eq!(by(Sort::Load, false, "nobody"), "");
    }

    #[test]
    fn every_order_is_reached_and_left() {
        let mut sort = Sort::Load;
        for expected in Sort::ALL {
            assert_eq!(sort, expected);
            sort = sort.step(1);
        }
        assert_eq!(sort, Sort::Load);
        assert_eq!(Sort::Load.step(-1), Sort::Tenant);
    }
}
