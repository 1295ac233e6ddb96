use std::{sync::Arc, time::SystemTime};

use super::{
    readings::{Pool, Quota, Slots, Tenant, Workers},
    series::{ALL, Kind},
    *,
};

fn tenant(label: &str) -> Tenant {
    Tenant {
        label: label.into(),
        succeeded: 9,
        failed: 1,
        bytes_in: 100,
        bytes_out: 200,
        throttles: 2,
        throttled: Duration::from_millis(1_500),
        latencies: vec![("0.5", Duration::from_micros(250))],
        quotas: vec![Quota { name: "connections", utilisation: 0.5, level: 0 }],
    }
}

fn upstream() -> readings::Upstream {
    let counts = Arc::new(Upstream::default());
    counts.begins();
    counts.begins();
    counts.ends(RequestEnd::Status5xx, Duration::from_millis(2));
    counts.refused();
    readings::Upstream { name: "reports".into(), breaker: 2, counts }
}

fn readings() -> Readings {
    Readings {
        version: "1.2.3",
        draining: false,
        certificate_expires: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000)),
        memory_pressure: 1,
        store_bytes: 2,
        store_poisoned: false,
        store: Some(readings::Store { groups: 3, free: 70, ..readings::Store::default() }),
        streams: 3,
        slots: Slots { running: 4, waiting: 5, max: 6 },
        pool: Pool { threads: 7, running: 8, queued: 9 },
        workers: Workers {
            platform: 2,
            tenant: 1,
            credit: 24,
            leases: 7,
            waiting: 6,
            unserved: 5,
            dispatches: 40,
            succeeded: 30,
            failed: 2,
            late: 1,
            lost: 3,
            reports_dropped: 8,
        },
        jobs: vec![readings::Jobs {
            label: "acme".into(),
            states: vec![("queued", 3), ("dead", 1)],
            bytes: 1_024,
            waiting: 3,
        }],
        jobs_ended: vec![("succeeded", 12)],
        topics: vec![readings::Topics {
            label: "acme".into(),
            topics: 2,
            partitions: 5,
            messages: 70,
            bytes: 7_000,
            groups: 1,
            lag: 9,
            dead: 4,
        }],
        messages: (80, 160),
        tenants: vec![("active", 10), ("suspended", 11)],
        by_tenant: vec![tenant("acme"), tenant(OTHER)],
        upstreams: vec![upstream()],
        drift: 0,
    }
}

/// Counters in which everything was counted once.
fn counted() -> Metrics {
    let config = Config::default();
    let m = Metrics::new(&config, ["echo", "delay"].into_iter());
    drop(m.connection("client"));
    m.connection_refused(CloseCode::TenantUnknown);
    m.connection_closed(CloseCode::Draining);
    m.handshake(Handshake::Completed);
    m.stream_ended(StreamEnd::Completed);
    m.items().batch_opened();
    m.items().batch_ended(How::Ended(tollgate_protocol::batch::Ended::Sealed));
    let mut lap = Lap { started: 2, succeeded: 1, ..Lap::default() };
    lap.failed(tollgate_protocol::Code::Panic);
    lap.running.note(3_000);
    lap.queued.note(1_000);
    m.items().fold(Some(0), &mut lap);
    m.items().refused("connections", tollgate_protocol::batch::Scope::Tenant, 1);
    m.http_request("GET", "/health", 200, Duration::from_millis(2));
    m
}

/// The names of families and the label names of their rows, as the page declares and shows them.
fn families(page: &str) -> Vec<(String, &'static str)> {
    let types = page.lines().filter_map(|l| l.strip_prefix("# TYPE "));
    types
        .map(|l| {
            let (name, kind) = l.split_once(' ').expect("a name and a type");
            let kind = ["counter", "gauge", "histogram"].into_iter().find(|k| *k == kind);
            (name.to_owned(), kind.expect("a known type"))
        })
        .collect()
}

#[test]
fn the_page_shows_every_series_once_and_no_other() {
    let page = counted().render(readings(), Format::Text);
    let kind = |k| match k {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let expected: Vec<_> = ALL.iter().map(|s| (s.shown(), kind(s.kind))).collect();
    assert_eq!(families(&page), expected, "{page}");
    for series in ALL {
        assert!(series.help.chars().next().is_some_and(char::is_alphanumeric), "{series:?}");
    }
}

#[test]
fn values_stand_where_they_belong() {
    let page = counted().render(readings(), Format::Text);
    for line in [
        "tollgate_build_info{version=\"1.2.3\"} 1",
        "tollgate_certificate_expiry_timestamp_seconds 1000",
        "tollgate_connections{role=\"client\"} 0",
        "tollgate_connections_opened_total{role=\"client\"} 1",
        "tollgate_connections_refused_total{code=\"TENANT_UNKNOWN\"} 1",
        "tollgate_batches_ended_total{how=\"sealed\"} 1",
        "tollgate_batches_in_flight 0",
        "tollgate_items_failed_total{recipe=\"echo\",code=\"PANIC\"} 1",
        "tollgate_item_duration_seconds_bucket{recipe=\"echo\",le=\"2.048e-06\"} 0",
        "tollgate_item_duration_seconds_bucket{recipe=\"echo\",le=\"4.096e-06\"} 1",
        "tollgate_item_duration_seconds_count{recipe=\"echo\"} 1",
        "tollgate_tenant_items_total{tenant=\"acme\",outcome=\"failed\"} 1",
        "tollgate_throttled_seconds_total{tenant=\"other\"} 1.5",
        "tollgate_quota_utilisation_ratio{tenant=\"acme\",quota=\"connections\"} 0.5",
        "tollgate_quota_drift 0",
        "tollgate_upstream_requests_total{upstream=\"reports\",outcome=\"5xx\"} 1",
        "tollgate_upstream_requests_total{upstream=\"reports\",outcome=\"refused\"} 1",
        "tollgate_upstream_in_flight{upstream=\"reports\"} 1",
        "tollgate_upstream_breaker{upstream=\"reports\"} 2",
        "tollgate_upstream_duration_seconds_count{upstream=\"reports\"} 1",
        "tollgate_store_groups_total 3",
        "tollgate_store_free_bytes 70",
        "tollgate_store_sync_seconds_count 0",
        "http_requests_total{method=\"GET\",route=\"/health\",status=\"200\"} 1",
        "messages_processed_total 2",
        "message_queue_depth 28",
        "active_workers_total 3",
        "tollgate_workers{scope=\"platform\"} 2",
        "tollgate_workers{scope=\"tenant\"} 1",
        "tollgate_worker_credit 24",
        "tollgate_worker_leases 7",
        "tollgate_worker_queue_items{served=\"yes\"} 6",
        "tollgate_worker_queue_items{served=\"no\"} 5",
        "tollgate_worker_dispatches_total 40",
        "tollgate_worker_answers_total{outcome=\"succeeded\"} 30",
        "tollgate_worker_answers_total{outcome=\"failed\"} 2",
        "tollgate_worker_late_answers_total 1",
        "tollgate_worker_leases_lost_total 3",
        "tollgate_worker_reports_dropped_total 8",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is missing in\n{page}");
    }
}

#[test]
fn open_metrics_is_given_to_those_who_ask_for_it() {
    let page = counted().render(readings(), Format::OpenMetrics);
    assert!(page.contains("# TYPE tollgate_batches_opened counter\ntollgate_batches_opened_total"));
    assert!(page.ends_with("# EOF\n"));
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;q=0.5";
    assert_eq!(Format::of_accept(prometheus), Format::OpenMetrics);
    assert_eq!(Format::of_accept("text/html, */*"), Format::Text);
}

#[test]
fn copies_can_be_left_out() {
    let config = Config { compat_names: false, ..Config::default() };
    let m = Metrics::new(&config, ["echo"].into_iter());
    m.http_request("GET", "/health", 200, Duration::ZERO);
    let page = m.render(readings(), Format::Text);
    let foreign = |n: &&String| !n.starts_with("tollgate_") && !n.starts_with("process_");
    let names: Vec<_> = families(&page).into_iter().map(|f| f.0).collect();
    assert_eq!(names.iter().find(foreign), None);
}

#[test]
fn routes_are_bounded_and_methods_known() {
    let m = Metrics::new(&Config::default(), std::iter::empty());
    for i in 0..10_000 {
        m.http_request("BREW", &format!("/made-up/{i}"), 404, Duration::ZERO);
    }
    let page = m.render(Readings::default(), Format::Text);
    let rows = page.lines().filter(|l| l.starts_with("tollgate_http_requests_total{"));
    assert!(rows.count() <= ROUTES_MAX + 1);
    assert!(!page.contains("BREW"), "a method that a client made up is no label");
}

#[test]
fn labels_are_escaped() {
    let mut readings = readings();
    readings.by_tenant = vec![Tenant { label: Arc::from("a\"b\\c\nd"), ..tenant("x") }];
    let page = counted().render(readings, Format::Text);
    assert!(page.contains(r#"tollgate_tenant_bytes_in_total{tenant="a\"b\\c\nd"} 100"#));
}

/// The documentation names every series, with its labels; read by people who write alerts.
#[test]
fn the_documentation_lists_every_series() {
    let docs = include_str!("../../../docs/observability.md");
    for series in ALL {
        let row = format!("| `{}` |", series.shown());
        let line = docs.lines().find(|l| l.starts_with(&row));
        let line = line.unwrap_or_else(|| panic!("{} is not documented", series.shown()));
        for label in series.labels {
            assert!(line.contains(&format!("`{label}`")), "{}: {label}", series.shown());
        }
    }
}
