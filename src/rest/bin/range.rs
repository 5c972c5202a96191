//! `Range` of a file (RFC 9110 section 14).

use std::ops::Range;

/// What of a file is asked for.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// All of it: no range, one that is not understood, or several.
    Whole,
    /// Part of it, not empty.
    Part(Range<u64>),
    /// Something beyond its end.
    Beyond,
}

/// Reads the header for a file of `size` bytes.
pub(super) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(specs) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else { return Wanted::Whole };
    let Some((first, last)) = specs.split_once('-').map(|(first, last)| (first.trim(), last.trim())) else {
        return Wanted::Whole;
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // What no file reaches.
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let range = match (first, number(first), number(last)) {
        ("", _, Some(count)) => size.saturating_sub(count)..size,
        (_, Some(first), None) if last.is_empty() => first..size,
        (_, Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        // Several ranges end here, too: their commas are no digits. The whole is a lawful answer.
        _ => return Wanted::Whole,
    };
    if range.is_empty() { Wanted::Beyond } else { Wanted::Part(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_form_of_a_range() {
        for (header, found) in [
            ("bytes=0-15", Wanted::Part(0..16)),
            ("bytes=90-", Wanted::Part(90..100)),
            ("bytes=-10", Wanted::Part(90..100)),
            ("bytes=-1000", Wanted::Part(0..100)),
            ("bytes=90-1000", Wanted::Part(90..100)),
            ("bytes= 0 - 0 ", Wanted::Part(0..1)),
            ("bytes=0-18446744073709551615", Wanted::Part(0..100)),
            ("bytes=0-99999999999999999999999", Wanted::Part(0..100)),
            ("bytes=100-", Wanted::Beyond),
            ("bytes=100-200", Wanted::Beyond),
            ("bytes=-0", Wanted::Beyond),
            ("bytes=99999999999999999999999-", Wanted::Beyond),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
            ("", Wanted::Whole),
        ] {
            assert_eq!(wanted(Some(header), 100), found, "{header}");
        }
        assert_eq!(wanted(None, 100), Wanted::Whole);
        assert_eq!((wanted(Some("bytes=0-"), 0), wanted(Some("bytes=-1"), 0)), (Wanted::Beyond, Wanted::Beyond));
    }
}
