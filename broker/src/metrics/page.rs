//! The page: what is counted here and what was read elsewhere, in the two text formats.

use std::{fmt, sync::atomic::Ordering::Relaxed, time::SystemTime};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, prometheus_text, text},
    registry::Registry,
};
use tollgate_protocol::close::CloseCode;

use super::{
    Closes, Handshake, Metrics, StreamEnd,
    duration::Durations,
    process::Process,
    readings::{self, Readings, Tenant},
    series::{self, Series},
};

/// In which format the page is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Prometheus text, version 0.0.4: what everything reads.
    #[default]
    Text,
    /// OpenMetrics text, version 1.0.0: what Prometheus asks for.
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header asks for.
    pub fn of_accept(accept: &str) -> Format {
        let names = |part: &str| part.trim().starts_with("application/openmetrics-text");
        if accept.split(',').any(names) { Format::OpenMetrics } else { Format::Text }
    }

    /// The `Content-Type` of it.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => prometheus_text::CONTENT_TYPE,
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Metrics {
    /// The page, in a format.
    pub(crate) fn render(&self, readings: Readings, format: Format) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Page { metrics: self.clone(), readings }));
        let mut page = String::new();
        let written = match format {
            Format::Text => prometheus_text::encode(&mut page, &registry),
            Format::OpenMetrics => text::encode(&mut page, &registry),
        };
        written.expect("a string takes all that is written to it");
        page
    }
}

#[derive(Debug)]
struct Page {
    metrics: Metrics,
    readings: Readings,
}

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Writer(encoder);
        self.broker(&mut to)?;
        self.transport(&mut to)?;
        self.items(&mut to)?;
        self.workers(&mut to)?;
        self.jobs(&mut to)?;
        self.topics(&mut to)?;
        self.tenants(&mut to)?;
        self.upstreams(&mut to)?;
        self.http(&mut to, series::HTTP_REQUESTS, series::HTTP_DURATION)?;
        if self.metrics.0.compat_names {
            self.compat(&mut to)?;
        }
        process(&mut to)
    }
}

impl Page {
    fn broker(&self, to: &mut Writer<'_>) -> fmt::Result {
        let r = &self.readings;
        to.gauges(series::BUILD_INFO, [([("version", r.version)], 1)])?;
        to.gauge(series::DRAINING, u64::from(r.draining))?;
        if let Some(at) = r.certificate_expires {
            let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            to.gauge(series::CERTIFICATE_EXPIRY, at.as_secs())?;
        }
        to.gauge(series::MEMORY_PRESSURE, u64::from(r.memory_pressure))?;
        to.gauge(series::STORE_BYTES, r.store_bytes)?;
        to.gauge(series::STORE_POISONED, u64::from(r.store_poisoned))?;
        let Some(s) = &r.store else { return Ok(()) };
        to.counter(series::STORE_GROUPS, s.groups)?;
        to.counter(series::STORE_ENTRIES, s.entries)?;
        to.counter(series::STORE_WRITTEN, s.written)?;
        to.histograms(series::STORE_SYNC, [(NO_LABELS, &*s.syncs)])?;
        to.gauge(series::STORE_FREE, s.free)?;
        to.gauge(series::STORE_RESERVE, s.reserve)?;
        to.gauge(series::STORE_CHECKPOINT_AGE, s.checkpoint_age.as_secs_f64())?;
        to.counter(series::STORE_PUT_OFF, s.put_off)
    }

    fn transport(&self, to: &mut Writer<'_>) -> fmt::Result {
        let m = &self.metrics.0;
        let connections = m.connections.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let connections = connections.clone();
        let open = connections.iter().map(|(role, c)| ([("role", *role)], c.open));
        to.gauges(series::CONNECTIONS, open)?;
        let opened = connections.iter().map(|(role, c)| ([("role", *role)], c.opened));
        to.counters(series::CONNECTIONS_OPENED, opened)?;
        to.counters(series::CONNECTIONS_REFUSED, closes(&m.refused))?;
        to.counters(series::CONNECTIONS_CLOSED, closes(&m.closed))?;
        let handshakes = Handshake::ALL.iter().zip(&m.handshakes);
        to.counters(
            series::HANDSHAKES,
            handshakes.map(|(h, n)| ([("outcome", h.name())], n.load(Relaxed))),
        )?;
        to.gauge(series::HANDSHAKES_IN_FLIGHT, m.handshakes_in_flight.load(Relaxed))?;
        to.gauge(series::STREAMS, u64::from(self.readings.streams))?;
        let ends = StreamEnd::ALL.iter().zip(&m.streams_ended);
        to.counters(
            series::STREAMS_ENDED,
            ends.map(|(end, n)| ([("how", end.name())], n.load(Relaxed))),
        )
    }

    fn items(&self, to: &mut Writer<'_>) -> fmt::Result {
        let (items, r) = (self.metrics.items(), &self.readings);
        // Ends are read before the beginnings, so that what is open is never below nothing.
        let ended = items.ended();
        let opened = items.opened();
        to.counter(series::BATCHES_OPENED, opened)?;
        to.counters(series::BATCHES_ENDED, ended.map(|(how, n)| ([("how", how)], n)))?;
        let over: u64 = ended.iter().map(|e| e.1).sum();
        to.gauge(series::BATCHES_IN_FLIGHT, opened.saturating_sub(over))?;

        let recipes = || items.recipes().map(|r| (r, [("recipe", &*r.name)]));
        let started = recipes().map(|(r, labels)| (labels, r.started.load(Relaxed)));
        to.counters(series::ITEMS_STARTED, started)?;
        let succeeded = recipes().map(|(r, labels)| (labels, r.succeeded.load(Relaxed)));
        to.counters(series::ITEMS_SUCCEEDED, succeeded)?;
        let failed = items.recipes().flat_map(|r| {
            r.failures().map(|(code, n)| ([("recipe", &*r.name), ("code", code.name())], n))
        });
        to.counters(series::ITEMS_FAILED, failed)?;
        to.histograms(series::ITEM_DURATION, recipes().map(|(r, labels)| (labels, &r.running)))?;
        to.histograms(series::ITEM_QUEUE, recipes().map(|(r, labels)| (labels, &r.queued)))?;

        to.gauge(series::SLOTS_RUNNING, u64::from(r.slots.running))?;
        to.gauge(series::SLOTS_WAITING, r.slots.waiting as u64)?;
        to.gauge(series::SLOTS_MAX, u64::from(r.slots.max))?;
        to.gauge(series::POOL_RUNNING, r.pool.running as u64)?;
        to.gauge(series::POOL_QUEUED, r.pool.queued as u64)?;
        to.gauge(series::POOL_THREADS, r.pool.threads as u64)
    }

    fn workers(&self, to: &mut Writer<'_>) -> fmt::Result {
        let w = &self.readings.workers;
        let scopes = [([("scope", "platform")], w.platform), ([("scope", "tenant")], w.tenant)];
        to.gauges(series::WORKERS, scopes)?;
        to.gauge(series::WORKER_CREDIT, w.credit)?;
        to.gauge(series::WORKER_LEASES, w.leases)?;
        let waiting = [([("served", "yes")], w.waiting), ([("served", "no")], w.unserved)];
        to.gauges(series::WORKER_QUEUE, waiting)?;
        to.counter(series::WORKER_DISPATCHES, w.dispatches)?;
        let outcomes =
            [([("outcome", "succeeded")], w.succeeded), ([("outcome", "failed")], w.failed)];
        to.counters(series::WORKER_ANSWERS, outcomes)?;
        to.counter(series::WORKER_LATE, w.late)?;
        to.counter(series::WORKER_LOST, w.lost)?;
        to.counter(series::WORKER_REPORTS_DROPPED, w.reports_dropped)
    }

    fn jobs(&self, to: &mut Writer<'_>) -> fmt::Result {
        let r = &self.readings;
        let states = r.jobs.iter().flat_map(|jobs| {
            let row = |(state, n): &(&'static str, u64)| {
                ([("tenant", &*jobs.label), ("state", *state)], *n)
            };
            jobs.states.iter().map(row)
        });
        to.gauges(series::JOBS, states)?;
        let bytes = r.jobs.iter().map(|jobs| ([("tenant", &*jobs.label)], jobs.bytes));
        to.gauges(series::JOBS_BYTES, bytes)?;
        let ended = r.jobs_ended.iter().map(|(state, n)| ([("state", *state)], *n));
        to.counters(series::JOBS_ENDED, ended)
    }

    fn topics(&self, to: &mut Writer<'_>) -> fmt::Result {
        let r = &self.readings;
        type Of = fn(&readings::Topics) -> u64;
        let series: [(_, Of); 7] = [
            (series::TOPICS, |t| t.topics),
            (series::TOPIC_PARTITIONS, |t| t.partitions),
            (series::TOPIC_MESSAGES, |t| t.messages),
            (series::TOPIC_BYTES, |t| t.bytes),
            (series::TOPIC_GROUPS, |t| t.groups),
            (series::TOPIC_LAG, |t| t.lag),
            (series::TOPIC_DEAD, |t| t.dead),
        ];
        for (series, of) in series {
            to.gauges(series, r.topics.iter().map(|t| ([("tenant", &*t.label)], of(t))))?;
        }
        let (appended, delivered) = r.messages;
        to.counter(series::MESSAGES_APPENDED, appended)?;
        to.counter(series::MESSAGES_DELIVERED, delivered)
    }

    fn tenants(&self, to: &mut Writer<'_>) -> fmt::Result {
        let r = &self.readings;
        to.gauges(series::TENANTS, r.tenants.iter().map(|(state, n)| ([("state", *state)], *n)))?;
        let outcomes = r.by_tenant.iter().flat_map(|t| {
            let row = |outcome, n| ([("tenant", &*t.label), ("outcome", outcome)], n);
            [row("succeeded", t.succeeded), row("failed", t.failed)]
        });
        to.counters(series::TENANT_ITEMS, outcomes)?;
        let of = |value: fn(&Tenant) -> u64| {
            r.by_tenant.iter().map(move |t| ([("tenant", &*t.label)], value(t)))
        };
        to.counters(series::TENANT_BYTES_IN, of(|t| t.bytes_in))?;
        to.counters(series::TENANT_BYTES_OUT, of(|t| t.bytes_out))?;
        let latencies = r.by_tenant.iter().flat_map(|t| {
            let row = |(quantile, d): &(&'static str, std::time::Duration)| {
                ([("tenant", &*t.label), ("quantile", *quantile)], d.as_secs_f64())
            };
            t.latencies.iter().map(row)
        });
        to.gauges(series::TENANT_LATENCY, latencies)?;
        to.counters(series::THROTTLES, of(|t| t.throttles))?;
        let throttled =
            r.by_tenant.iter().map(|t| ([("tenant", &*t.label)], t.throttled.as_secs_f64()));
        to.counters(series::THROTTLED_SECONDS, throttled)?;
        let refusals = self.metrics.items().refusals();
        let refusals =
            refusals.iter().map(|(quota, scope, n)| ([("quota", *quota), ("scope", *scope)], *n));
        to.counters(series::QUOTA_REFUSALS, refusals)?;
        let quotas = || {
            r.by_tenant.iter().flat_map(|t| {
                t.quotas.iter().map(|q| ([("tenant", &*t.label), ("quota", q.name)], q))
            })
        };
        let used = quotas().map(|(labels, q)| (labels, q.utilisation));
        to.gauges(series::QUOTA_UTILISATION, used)?;
        let levels = quotas().map(|(labels, q)| (labels, u64::from(q.level)));
        to.gauges(series::QUOTA_LEVEL, levels)?;
        to.gauge(series::QUOTA_DRIFT, r.drift)
    }

    fn upstreams(&self, to: &mut Writer<'_>) -> fmt::Result {
        let all = || self.readings.upstreams.iter().map(|u| (u, [("upstream", &*u.name)]));
        let ended = all().flat_map(|(u, _)| {
            let row = move |(outcome, n)| ([("upstream", &*u.name), ("outcome", outcome)], n);
            u.counts.read().into_iter().map(row)
        });
        to.counters(series::UPSTREAM_REQUESTS, ended)?;
        let in_flight = all().map(|(u, labels)| (labels, u.counts.in_flight()));
        to.gauges(series::UPSTREAM_IN_FLIGHT, in_flight)?;
        let breakers = all().map(|(u, labels)| (labels, u64::from(u.breaker)));
        to.gauges(series::UPSTREAM_BREAKER, breakers)?;
        let durations = all().map(|(u, labels)| (labels, &u.counts.durations));
        to.histograms(series::UPSTREAM_DURATION, durations)
    }

    fn http(&self, to: &mut Writer<'_>, requests: Series, durations: Series) -> fmt::Result {
        let http = self.metrics.0.http.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let counts: Vec<_> = http
            .iter()
            .flat_map(|(r, answers)| {
                answers.statuses.iter().map(move |(status, n)| (r, status.to_string(), *n))
            })
            .collect();
        to.counters(
            requests,
            counts.iter().map(|(r, status, n)| {
                ([("method", r.method), ("route", &*r.route), ("status", status)], *n)
            }),
        )?;
        let took = http
            .iter()
            .map(|(r, answers)| ([("method", r.method), ("route", &*r.route)], &answers.durations));
        to.histograms(durations, took)
    }

    /// Copies under the names that dashboards of such systems expect.
    fn compat(&self, to: &mut Writer<'_>) -> fmt::Result {
        let r = &self.readings;
        self.http(to, series::COMPAT_HTTP_REQUESTS, series::COMPAT_HTTP_DURATION)?;
        let active = r.tenants.iter().find(|(state, _)| *state == "active").map_or(0, |t| t.1);
        to.gauge(series::COMPAT_ACTIVE_TENANTS, active)?;
        let answered = self.metrics.items().recipes().map(|r| r.answered()).sum();
        to.counter(series::COMPAT_MESSAGES, answered)?;
        let in_broker = (r.slots.waiting + r.pool.queued) as u64;
        let w = &r.workers;
        let jobs: u64 = r.jobs.iter().map(|jobs| jobs.waiting).sum();
        to.gauge(series::COMPAT_QUEUE_DEPTH, in_broker + w.waiting + w.unserved + jobs)?;
        to.gauge(series::COMPAT_WORKERS, w.platform + w.tenant)
    }
}

fn process(to: &mut Writer<'_>) -> fmt::Result {
    let Some(p) = Process::read() else { return Ok(()) };
    to.counters(series::PROCESS_CPU, [(NO_LABELS, p.cpu_seconds)])?;
    to.gauge(series::PROCESS_RSS, p.resident_bytes)?;
    to.gauge(series::PROCESS_VIRTUAL, p.virtual_bytes)?;
    to.gauge(series::PROCESS_FDS, p.fds)?;
    to.gauge(series::PROCESS_FDS_MAX, p.fds_max)?;
    to.gauges(series::PROCESS_START, [(NO_LABELS, p.started)])
}

/// How often each close code was used, of those that were.
fn closes(closes: &Closes) -> impl Iterator<Item = ([(&'static str, &'static str); 1], u64)> {
    let counts = CloseCode::ALL.iter().zip(closes).map(|(code, n)| (code, n.load(Relaxed)));
    counts.filter(|(_, n)| *n > 0).map(|(code, n)| ([("code", code.name())], n))
}

const NO_LABELS: [(&str, &str); 0] = [];

/// Writes families; one without rows is not shown.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn gauge(&mut self, series: Series, value: impl EncodeGaugeValue) -> fmt::Result {
        self.gauges(series, [(NO_LABELS, value)])
    }

    fn counter(&mut self, series: Series, value: u64) -> fmt::Result {
        self.counters(series, [(NO_LABELS, value)])
    }

    fn gauges<'l, const N: usize>(
        &mut self,
        series: Series,
        rows: impl IntoIterator<Item = ([(&'static str, &'l str); N], impl EncodeGaugeValue)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut family =
            self.0.encode_descriptor(series.name, series.help, None, series.metric_type())?;
        for (labels, value) in rows {
            check(series, &labels);
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn counters<'l, const N: usize>(
        &mut self,
        series: Series,
        rows: impl IntoIterator<Item = ([(&'static str, &'l str); N], impl EncodeCounterValue)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut family =
            self.0.encode_descriptor(series.name, series.help, None, series.metric_type())?;
        for (labels, value) in rows {
            check(series, &labels);
            let no_exemplar =
                None::<&prometheus_client::metrics::exemplar::Exemplar<[(&str, &str); 0], f64>>;
            family.encode_family(&labels)?.encode_counter(&value, no_exemplar)?;
        }
        Ok(())
    }

    fn histograms<'l, const N: usize>(
        &mut self,
        series: Series,
        rows: impl IntoIterator<Item = ([(&'static str, &'l str); N], &'l Durations)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut family =
            self.0.encode_descriptor(series.name, series.help, None, series.metric_type())?;
        for (labels, durations) in rows {
            check(series, &labels);
            let (sum, count, buckets) = durations.read();
            let mut row = family.encode_family(&labels)?;
            row.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

fn check(series: Series, labels: &[(&'static str, &str)]) {
    debug_assert!(
        labels.iter().map(|l| l.0).eq(series.labels.iter().copied()),
        "{} has the labels {:?}",
        series.name,
        series.labels
    );
}
