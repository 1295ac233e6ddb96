//! Numbers as people read them, and durations as people write them.

use std::time::Duration;

/// A duration in three digits or so: `850 µs`, `12.3 ms`, `1.24 s`, `2 min 5 s`, `3 h 20 min`.
pub(super) fn duration(d: Duration) -> String {
    let us = d.as_micros();
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{:.2} ms", us as f64 / 1e3),
        10_000..100_000 => format!("{:.1} ms", us as f64 / 1e3),
        100_000..1_000_000 => format!("{:.0} ms", us as f64 / 1e3),
        1_000_000..60_000_000 => format!("{:.2} s", d.as_secs_f64()),
        60_000_000..3_600_000_000 => {
            format!("{} min {} s", d.as_secs() / 60, d.as_secs() % 60)
        }
        _ => match (d.as_secs() / 3_600, d.as_secs() / 60 % 60) {
            (hours, 0) => format!("{hours} h"),
            (hours, minutes) => format!("{hours} h {minutes} min"),
        },
    }
}

/// A size in bytes with a binary unit.
pub(super) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A count with its noun, which takes an `s` when there is not one.
pub(super) fn count(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// How far away a moment is, about: `in 90 days`, `3 hours ago`.
pub(super) fn from_now(at: std::time::SystemTime, now: std::time::SystemTime) -> String {
    let (away, ahead) = match at.duration_since(now) {
        Ok(d) => (d, true),
        Err(e) => (e.duration(), false),
    };
    let s = away.as_secs();
    let rounded = |unit: u64| (s + unit / 2) / unit;
    let text = match s {
        0..120 => count(s, "second"),
        120..7_200 => count(rounded(60), "minute"),
        7_200..172_800 => count(rounded(3_600), "hour"),
        _ => count(rounded(86_400), "day"),
    };
    if ahead { format!("in {text}") } else { format!("{text} ago") }
}

/// A moment of the API, and how far away it is.
pub(super) fn moment(rfc3339: &str, now: std::time::SystemTime) -> String {
    match rfc3339.parse::<jiff::Timestamp>() {
        Ok(at) => format!("{at:.0}, {}", from_now(at.into(), now)),
        Err(_) => super::output::printable(rfc3339),
    }
}

/// How long ago a moment of the API is.
pub(super) fn ago(rfc3339: &str, now: std::time::SystemTime) -> String {
    match rfc3339.parse::<jiff::Timestamp>() {
        Ok(at) => from_now(at.into(), now),
        Err(_) => super::output::printable(rfc3339),
    }
}

/// A quota's value in its unit.
pub(super) fn amount(quota: &str, n: u64) -> String {
    let unit = if quota.ends_with("_per_second") { "/s" } else { "" };
    match quota {
        "bytes_per_second" | "storage_bytes" | "payload_bytes" => format!("{}{unit}", bytes(n)),
        "retention_hours" => format!("{n} h"),
        _ => format!("{n}{unit}"),
    }
}

/// A quota's limit in its unit; -1 is unlimited.
pub(super) fn limit(quota: &str, limit: i64) -> String {
    match u64::try_from(limit) {
        Err(_) => "unlimited".to_owned(),
        Ok(0) => "none".to_owned(),
        Ok(n) => amount(quota, n),
    }
}

/// Reads a duration as people write it: `500ms`, `30s`, `1m 30s`, `2 hours`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let signed: jiff::SignedDuration =
        text.parse().map_err(|e| format!("{e}; write it as 500ms, 30s or 1m30s"))?;
    let d = Duration::try_from(signed).map_err(|_| "a duration is not negative".to_owned())?;
    if d.is_zero() { Err("a duration of nothing would end it at once".to_owned()) } else { Ok(d) }
}

/// A number, with a unit of 1024s if it is one of bytes; underscores may part its digits.
pub(super) fn parse_amount(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 1,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        "tib" | "t" => 1 << 40,
        _ => return None,
    };
    let digits = digits.replace('_', "");
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| plain)?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(duration(Duration::from_micros(850)), "850 µs");
        assert_eq!(duration(Duration::from_micros(12_345)), "12.3 ms");
        assert_eq!(duration(Duration::from_millis(1_240)), "1.24 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 5 s");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1_223_329), "1.2 MiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
        assert_eq!((count(1, "item"), count(0, "item")), ("1 item".into(), "0 items".into()));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30);
        assert_eq!(from_now(now + Duration::from_secs(90 * 86_400), now), "in 90 days");
        assert_eq!(from_now(now - Duration::from_secs(3 * 3_600), now), "3 hours ago");
    }

    #[test]
    fn quotas_have_their_units() {
        assert_eq!(amount("bytes_per_second", 10 << 20), "10.0 MiB/s");
        assert_eq!(amount("requests_per_second", 7), "7/s");
        assert_eq!(amount("retention_hours", 168), "168 h");
        assert_eq!((limit("topics", -1), limit("topics", 0)), ("unlimited".into(), "none".into()));
    }

    #[test]
    fn moments_are_shown_with_how_far_away_they_are() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_312_000);
        assert_eq!(
            moment("2026-01-01T00:00:00.123456Z", now),
            "2026-01-01T00:00:00Z, 24 hours ago"
        );
        assert_eq!(ago("2026-01-02T00:00:00Z", now), "in 0 seconds");
        assert_eq!(moment("soon\u{7}", now), "soon\\u{7}");
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        for bad in ["", "0s", "-1s", "soon", "5"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }
}
