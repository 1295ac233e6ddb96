//! Moments as RFC 3339 text, in UTC.

use std::time::SystemTime;

use jiff::Timestamp;

/// A moment as text, to the millisecond.
pub(super) fn rfc3339(at: SystemTime) -> String {
    // What a producer or a caller says may lie beyond what the text can.
    let furthest = if at < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
    let at = Timestamp::try_from(at).unwrap_or(furthest);
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_reads_as_rfc_3339() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        assert_eq!(rfc3339(at), "2023-11-14T22:13:20.123Z");
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert!(rfc3339(far).starts_with("9999-12-"), "{}", rfc3339(far));
    }
}
