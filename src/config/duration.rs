//! Durations as Go programs write them, with days: `720h`, `1h30m`, `30d`.

use std::time::Duration;

/// Reads a duration; the text says what is wrong. `0` needs no unit.
pub fn parse(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a duration; write it like 90s, 5m, 1h30m, 720h or 30d");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits).ok_or_else(bad)?;
        let number: u64 = number.parse().map_err(|_| bad())?;
        let mut letters = after.chars();
        let unit = match letters.next() {
            Some('d') => 24 * 3_600,
            Some('h') => 3_600,
            Some('m') => 60,
            Some('s') => 1,
            _ => return Err(bad()),
        };
        total = number.checked_mul(unit).and_then(|seconds| total.checked_add(seconds)).ok_or_else(bad)?;
        rest = letters.as_str();
    }
    if text.is_empty() || i64::try_from(total).is_err() { Err(bad()) } else { Ok(Duration::from_secs(total)) }
}

/// Writes a duration so that [`parse`] reads it again.
pub fn write(duration: Duration) -> String {
    let mut seconds = duration.as_secs();
    if seconds == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, length) in [("h", 3_600), ("m", 60), ("s", 1)] {
        if seconds >= length {
            text.push_str(&format!("{}{unit}", seconds / length));
            seconds %= length;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_and_people_write() {
        for (text, seconds) in
            [("720h", 2_592_000), ("1h30m", 5_400), ("30d", 2_592_000), ("0", 0), ("0s", 0), ("5m", 300)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
            assert_eq!(parse(&write(Duration::from_secs(seconds))), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn refuses_what_has_no_unit_or_no_end() {
        for text in ["", "5", "h", "-1h", "1.5h", "1w", "1h ", "99999999999999999999h", "9223372036854775807h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
