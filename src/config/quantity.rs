//! Durations, sizes and counts as people write them.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Largest unit first: a size is shown in the largest that divides it.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// A duration like `30s`, `10m` or `1h 30m`, from `min` to `max`.
pub(super) fn duration(text: &str, (min, max): (Duration, Duration)) -> Result<Duration, String> {
    let found = humantime::parse_duration(text)
        .map_err(|_| "must be a duration such as 30s, 10m or 1h 30m".to_owned())?;
    if (min..=max).contains(&found) {
        return Ok(found);
    }
    Err(format!(
        "must be from {} to {}",
        humantime::format_duration(min),
        humantime::format_duration(max)
    ))
}

/// A size like `64MiB`, `1GB` or a plain count of bytes.
pub(super) fn size(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let bytes = parse_size(text)
        .ok_or_else(|| "must be a size such as 512KiB, 64MiB or a count of bytes".to_owned())?;
    if range.contains(&bytes) {
        return Ok(bytes);
    }
    Err(format!(
        "must be from {} to {}",
        show_size(*range.start()),
        show_size(*range.end())
    ))
}

/// A whole number.
pub(super) fn count(text: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    text.trim()
        .parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            format!(
                "must be a whole number from {} to {}",
                range.start(),
                range.end()
            )
        })
}

/// `true` or `false`, and what environments use for them.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    let factor = if unit.is_empty() {
        1
    } else {
        SIZE_UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))?
            .1
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn show_size(bytes: u64) -> String {
    SIZE_UNITS
        .iter()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .map_or_else(
            || format!("{bytes}B"),
            |(unit, factor)| format!("{}{unit}", bytes / factor),
        )
}

#[cfg(test)]
mod tests {
    use super::{duration, parse_size, show_size, switch};
    use std::time::Duration;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("17", Some(17)),
            ("1KiB", Some(1024)),
            ("64MiB", Some(64 << 20)),
            (" 64 mib ", Some(64 << 20)),
            ("2GB", Some(2_000_000_000)),
            ("3kB", Some(3000)),
            ("5B", Some(5)),
            ("", None),
            ("MiB", None),
            ("-1", None),
            ("1.5MiB", None),
            ("1XB", None),
            ("99999999999999999999", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text:?}");
        }
        for bytes in [0, 1, 1000, 1024, 1536, 1 << 20, 5_000_000, u64::MAX] {
            assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
        }
    }

    #[test]
    fn durations_and_switches() {
        let bounds = (Duration::from_secs(1), Duration::from_secs(3600));
        assert_eq!(duration("90s", bounds), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1m 30s", bounds), Ok(Duration::from_secs(90)));
        assert_eq!(
            duration("2h", bounds),
            Err("must be from 1s to 1h".to_owned())
        );
        assert!(duration("90", bounds).is_err());
        assert_eq!(switch("TRUE"), Ok(true));
        assert_eq!(switch("off"), Ok(false));
        assert!(switch("perhaps").is_err());
    }
}
