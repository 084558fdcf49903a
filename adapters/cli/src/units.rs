//! Durations and sizes with units.

use std::time::Duration;

/// A duration; `None` for 0. Without a unit, it is in seconds.
pub(crate) fn duration(text: &str) -> Result<Option<Duration>, String> {
    let duration = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text)
            .map_err(|_| "expected a duration, such as 500ms, 10s or 5min".to_owned())?,
    };
    Ok(Some(duration).filter(|duration| !duration.is_zero()))
}

/// A number of bytes. K, M, G and T are powers of 1,024, with or without `iB`; with `B` they are powers of
/// 1,000.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let expected = || "expected a number of bytes, such as 1000, 64K or 10MB".to_owned();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let (prefix, base) = match (unit.strip_suffix("ib"), unit.strip_suffix('b')) {
        (Some(prefix), _) => (prefix, 1024_u64),
        (None, Some(prefix)) => (prefix, 1000),
        (None, None) => (&unit[..], 1024),
    };
    let power = match prefix {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(expected()),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    number.checked_mul(base.pow(power)).ok_or_else(|| "the number of bytes is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("12B", 12),
            ("64K", 65_536),
            ("64 KiB", 65_536),
            ("64kB", 64_000),
            ("8G", 8 << 30),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "-1", "1.5M", "64Q", "1KK", "99999999T"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_seconds_or_have_units() {
        for (text, milliseconds) in [("10", 10_000), ("500ms", 500), ("1min 30s", 90_000)] {
            assert_eq!(duration(text), Ok(Some(Duration::from_millis(milliseconds))), "{text}");
        }
        assert_eq!(duration("0"), Ok(None));
        assert_eq!(duration("0s"), Ok(None));
        for text in ["", "-1", "ten", "5 parsecs"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
