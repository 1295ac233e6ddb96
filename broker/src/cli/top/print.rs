//! A picture without a terminal: a table, or an object for programs.

use std::{io, time::Duration};

use console::Style;
use serde_json::{Value, json};

use super::{
    rows::{Picture, Rates, Row},
    sample::Gateway,
};
use crate::cli::{
    api::model::Level,
    format::{self, count},
    output::{self, printable, say},
    worker,
};

/// The columns, in the order of what they can be sorted by.
pub(super) const HEADER: [&str; 9] =
    ["TENANT", "ITEMS/S", "IN/S", "OUT/S", "FAIL/S", "P99", "BATCHES", "CONNS", "CLOSEST QUOTA"];

pub(super) fn table(picture: &Picture) -> io::Result<()> {
    say!("{}", headline(picture))?;
    if let Some(workers) = workers(picture) {
        say!("{workers}")?;
    }
    let rows: Vec<[String; 9]> = picture
        .rows
        .iter()
        .map(|row| {
            let mut cells = cells(row);
            if let (Some(worst), Some(cell)) = (&row.worst, cells.last_mut()) {
                let style = match worst.level {
                    Level::Normal => Style::new(),
                    Level::Warning => Style::new().yellow(),
                    Level::Critical => Style::new().red().bold(),
                };
                *cell = style.apply_to(&*cell).to_string();
            }
            cells
        })
        .collect();
    output::table(HEADER, &rows)?;
    if picture.gateways.is_empty() {
        return Ok(());
    }
    let row = |(name, open): &(String, Gateway)| {
        [printable(name), open.connections.to_string(), open.streams.to_string()]
    };
    say!("")?;
    let rows: Vec<_> = picture.gateways.iter().map(row).collect();
    output::table(["GATEWAY", "CONNS", "STREAMS"], &rows)
}

/// All tenants in a line.
pub(super) fn headline(picture: &Picture) -> String {
    let more = if picture.more { " and more (--tenants-max)" } else { "" };
    let tenants = count(picture.tenants as u64, "tenant");
    let total = &picture.total;
    let [items, bytes_in, bytes_out, failures] = rates(total.rates.as_ref());
    let gateways = match picture.gateways.len() as u64 {
        0 => String::new(),
        n => {
            let open = picture.gateways.iter().map(|(_, open)| open.connections).sum();
            format!(", {} with {}", count(n, "gateway"), count(open, "connection"))
        }
    };
    format!(
        "{tenants}{more}, {}{gateways}, {} in flight: {items} items/s, {failures} failures/s, \
         {bytes_in}/s in, {bytes_out}/s out",
        count(total.connections, "connection"),
        match total.in_flight {
            1 => "1 batch".to_owned(),
            n => format!("{n} batches"),
        }
    )
}

/// All workers in a line, where there are any or they are waited for.
pub(super) fn workers(picture: &Picture) -> Option<String> {
    let total = &picture.workers;
    (total.workers + total.waiting > 0).then(|| worker::headline(total))
}

/// A row's cells as text.
pub(super) fn cells(row: &Row) -> [String; 9] {
    let [items, bytes_in, bytes_out, failures] = rates(row.rates.as_ref());
    let worst = row.worst.as_ref();
    [
        printable(&row.tenant),
        items,
        bytes_in,
        bytes_out,
        failures,
        row.p99_us.map_or_else(nothing, |us| format::duration(Duration::from_micros(us))),
        row.in_flight.to_string(),
        row.connections.to_string(),
        worst.map_or_else(nothing, |w| format!("{:>5.1} % {}", w.percent, printable(&w.quota))),
    ]
}

fn nothing() -> String {
    "-".to_owned()
}

fn rates(rates: Option<&Rates>) -> [String; 4] {
    let Some(r) = rates else { return std::array::from_fn(|_| nothing()) };
    let bytes = |n: f64| format::bytes(n as u64);
    [number(r.items), bytes(r.bytes_in), bytes(r.bytes_out), number(r.failures)]
}

/// A rate: whole when it is large, with a digit when it is small.
fn number(n: f64) -> String {
    match n {
        n if n >= 1e6 => format!("{:.2}M", n / 1e6),
        n if n >= 1e4 => format!("{:.1}k", n / 1e3),
        n if n >= 10.0 => format!("{n:.0}"),
        n if n > 0.0 => format!("{n:.1}"),
        _ => "0".to_owned(),
    }
}

/// A picture for programs.
pub(super) fn document(picture: &Picture) -> Value {
    let tenant = |row: &Row| {
        let mut document = json!({ "tenant_id": row.tenant, "latency_p99_us": row.p99_us });
        numbers(&mut document, row);
        document["closest_quota"] = row.worst.as_ref().map_or(Value::Null, |w| {
            json!({
                "quota": w.quota,
                "utilisation_percent": w.percent,
                "level": match w.level {
                    Level::Normal => "normal",
                    Level::Warning => "warning",
                    Level::Critical => "critical",
                },
            })
        });
        document
    };
    let gateway = |(identity, open): &(String, Gateway)| {
        json!({
            "identity": identity, "connections": open.connections, "streams": open.streams,
        })
    };
    let mut total = json!({});
    numbers(&mut total, &picture.total);
    json!({
        "at": jiff::Timestamp::now().to_string(),
        "interval_ms": picture.interval.map(|i| i.as_millis() as u64),
        "tenants_total": picture.tenants,
        "truncated": picture.more,
        "total": total,
        "workers": {
            "connected": picture.workers.workers,
            "credit": picture.workers.credit,
            "leased": picture.workers.leased,
            "waiting": picture.workers.waiting,
            "waiting_unserved": picture.workers.waiting_unserved,
        },
        "gateways": picture.gateways.iter().map(gateway).collect::<Vec<_>>(),
        "tenants": picture.rows.iter().map(tenant).collect::<Vec<_>>(),
    })
}

fn numbers(document: &mut Value, row: &Row) {
    let rates = row.rates.unwrap_or_default();
    let rounded = |n: f64| (n * 10.0).round() / 10.0;
    document["items_per_second"] = rounded(rates.items).into();
    document["failures_per_second"] = rounded(rates.failures).into();
    document["bytes_in_per_second"] = rounded(rates.bytes_in).into();
    document["bytes_out_per_second"] = rounded(rates.bytes_out).into();
    document["batches_in_flight"] = row.in_flight.into();
    document["connections"] = row.connections.into();
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{super::rows::tests::sample, *};

    fn picture() -> Picture {
        let at = Instant::now();
        let before = sample(at, &[("acme", 0, 0, 0)]);
        let now = sample(at + Duration::from_secs(1), &[("acme", 12_345, 2, 9)]);
        Picture::between(Some(&before), &now)
    }

    #[test]
    fn a_row_reads_well() {
        let picture = picture();
        let acme = ["acme", "12.3k", "12.1 MiB", "24.1 MiB", "2.0", "123 ms", "3", "9"];
        let cells = cells(&picture.rows[0]);
        assert_eq!(cells[..8], acme);
        assert_eq!(cells[8], " 90.0 % connections");
        assert_eq!(
            headline(&picture),
            "1 tenant, 9 connections, 3 batches in flight: 12.3k items/s, 2.0 failures/s, \
             12.1 MiB/s in, 24.1 MiB/s out"
        );
        assert_eq!((number(0.0), number(1_500_000.0)), ("0".into(), "1.50M".into()));
    }

    #[test]
    fn gateways_and_what_is_left_out_are_told() {
        let mut picture = picture();
        picture.more = true;
        let edge = Gateway { connections: 2, streams: 5 };
        picture.gateways = vec![("spiffe://tollgate.local/gateway/edge".into(), edge)];
        let headline = headline(&picture);
        let begin =
            "1 tenant and more (--tenants-max), 9 connections, 1 gateway with 2 connections,";
        assert!(headline.starts_with(begin), "{headline}");
        assert_eq!(document(&picture)["gateways"][0]["streams"], 5);
    }

    #[test]
    fn programs_get_numbers() {
        let document = document(&picture());
        assert_eq!(document["tenants"][0]["items_per_second"], 12_347.0);
        assert_eq!(document["tenants"][0]["closest_quota"]["level"], "warning");
        assert_eq!(document["total"]["connections"], 9);
        assert_eq!(document["interval_ms"], 1000);
    }
}
