//! Celery's time stamps: ISO 8601, as Python's `datetime.isoformat` writes them.

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};

/// Microseconds and an offset, as Python's `datetime.fromisoformat` has read them since 3.7; it knows
/// no `Z` before 3.11.
pub(crate) fn to_iso(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}

/// Reads a time stamp; one without an offset is UTC, as in Celery with `enable_utc`.
pub(crate) fn from_iso(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let naive: civil::DateTime = text.parse().ok()?;
    naive
        .to_zoned(TimeZone::UTC)
        .ok()
        .map(|zoned| zoned.timestamp())
}

/// Midnight of a date in UTC, as Celery has it.
pub(crate) fn from_iso_date(text: &str) -> Option<Timestamp> {
    let date: civil::Date = text.parse().ok()?;
    let midnight = date.to_zoned(TimeZone::UTC).ok()?;
    Some(midnight.timestamp())
}

/// The time `duration` after another one, within the range that there is.
pub(crate) fn after(time: Timestamp, duration: SignedDuration) -> Timestamp {
    let limit = if duration.is_negative() {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    time.checked_add(duration).unwrap_or(limit)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_celery_writes() {
        let noon = "2026-11-22T12:00:00Z".parse::<Timestamp>().unwrap();
        for text in [
            "2026-11-22T12:00:00+00:00",
            "2026-11-22T12:00:00.000000+00:00",
            "2026-11-22T14:00:00+02:00",
            "2026-11-22T12:00:00Z",
            "2026-11-22T12:00:00",
            "2026-11-22 12:00:00",
        ] {
            assert_eq!(from_iso(text), Some(noon), "{text}");
        }
        for text in [
            "",
            "soon",
            "12:00",
            "1795358866",
            "2026-13-01T00:00:00Z",
            "2026-11-22T25:00:00",
        ] {
            assert_eq!(from_iso(text), None, "{text}");
        }
    }

    #[test]
    fn writes_what_python_reads() {
        let time: Timestamp = "2026-11-22T14:46:57.92984699Z".parse().unwrap();
        assert_eq!(to_iso(time), "2026-11-22T14:46:57.929846+00:00");
        assert_eq!(
            to_iso(Timestamp::UNIX_EPOCH),
            "1970-01-01T00:00:00.000000+00:00"
        );
    }
}
