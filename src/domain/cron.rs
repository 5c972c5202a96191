//! Schedules as the agent reads them: robfig/cron v3.0.1 with `Second | Minute | Hour | Dom | Month |
//! DowOptional` (agent/agentscripts/agentscripts.go, v2.24.0). An agent that cannot read a schedule
//! fails to take its whole manifest, so a bad one must not get that far.

/// A field of a schedule.
struct Bounds {
    what: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Bounds; 6] = [
    Bounds { what: "seconds", min: 0, max: 59, names: &[] },
    Bounds { what: "minutes", min: 0, max: 59, names: &[] },
    Bounds { what: "hours", min: 0, max: 23, names: &[] },
    Bounds { what: "day of month", min: 1, max: 31, names: &[] },
    Bounds { what: "month", min: 1, max: 12, names: MONTHS },
    // 7 is not Sunday here.
    Bounds { what: "day of week", min: 0, max: 6, names: DAYS },
];
/// Most days of each month.
const LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Checks a schedule; the text says what is wrong.
pub fn check(text: &str) -> Result<(), String> {
    let text = without_zone(text)?;
    if text.trim_start().starts_with('@') {
        return Err(format!("`{text}`: agents do not know words such as @daily; write six fields, seconds first"));
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    match fields.len() {
        5 if looks_like_crontab(&fields) => Err(format!(
            "`{text}` has five fields and reads like a crontab line: put `0 ` in front, because seconds come first here (or add ` *` if the first field is meant as seconds)"
        )),
        5 | 6 => check_fields(&fields),
        count => Err(format!(
            "`{text}` has {count} fields; six are needed: seconds, minutes, hours, day of month, month, day of week (the last may be left out)"
        )),
    }
}

/// Takes a leading time zone off. Only those that exist on every machine are let through: an agent
/// does not survive a zone that it does not know.
fn without_zone(text: &str) -> Result<&str, String> {
    let Some(rest) = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) else { return Ok(text) };
    match rest.split_once(' ') {
        Some(("UTC" | "Local", schedule)) => Ok(schedule),
        _ => Err(format!("`{text}`: the time zone may be UTC or Local only, followed by the six fields")),
    }
}

/// Five fields are legal (the weekday may be left out), but most people who write five mean minutes
/// first. Read by the agent, `*/5 * * * *` runs every five seconds; so five fields are taken only
/// when they make no sense as a crontab line.
fn looks_like_crontab(fields: &[&str]) -> bool {
    let [minute, hour, day, month, weekday] = fields else { return false };
    [(minute, 1), (hour, 2), (day, 3), (month, 4), (weekday, 5)]
        .into_iter()
        .all(|(field, place)| FIELDS.get(place).is_some_and(|bounds| values(field, bounds).is_ok()))
}

fn check_fields(fields: &[&str]) -> Result<(), String> {
    let mut sets = Vec::with_capacity(6);
    for (field, bounds) in fields.iter().zip(&FIELDS) {
        let (set, star) = values(field, bounds).map_err(|why| format!("{}: {why}", bounds.what))?;
        if set == 0 {
            return Err(format!("{}: `{field}` names no value", bounds.what));
        }
        sets.push((set, star));
    }
    let [_, _, _, (days, _), (months, _), weekday @ ..] = sets.as_slice() else { return Ok(()) };
    // With a weekday given, a day matches by either.
    let by_day_only = weekday.first().is_none_or(|(_, star)| *star);
    let comes = (1..=12_u32)
        .zip(LENGTHS)
        .any(|(month, length)| months & (1 << month) != 0 && (1..=length).any(|day| days & (1 << day) != 0));
    if by_day_only && !comes {
        return Err("such a day never comes".into());
    }
    Ok(())
}

/// The values of a field as bits, and whether it is an unrestricted star.
fn values(field: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let mut all = (0, false);
    for part in field.split(',').filter(|part| !part.is_empty()) {
        let (bits, star) = range(part, bounds)?;
        all = (all.0 | bits, all.1 || star);
    }
    Ok(all)
}

fn range(text: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let (span, step) = match text.split_once('/') {
        None => (text, None),
        Some((_, step)) if step.contains('/') => return Err(format!("`{text}` has too many slashes")),
        Some((span, step)) => (span, Some(number(step, &[])?)),
    };
    let mut parts = span.split('-');
    let low = parts.next().unwrap_or_default();
    let high = parts.next();
    let star = low == "*" || low == "?";
    let (start, end) = if star {
        (bounds.min, bounds.max)
    } else {
        let start = number(low, bounds.names)?;
        match high {
            _ if parts.next().is_some() => return Err(format!("`{text}` has too many hyphens")),
            Some(high) => (start, number(high, bounds.names)?),
            None if step.is_some() => (start, bounds.max),
            None => (start, start),
        }
    };
    let step = step.unwrap_or(1);
    if start < bounds.min || end > bounds.max {
        return Err(format!("`{text}` is outside of {} to {}", bounds.min, bounds.max));
    }
    if start > end {
        return Err(format!("`{text}` ends before it begins"));
    }
    if step == 0 {
        return Err(format!("`{text}` has a step of 0"));
    }
    let step_by = usize::try_from(step).unwrap_or(usize::MAX);
    let bits = (start..=end).step_by(step_by).fold(0_u64, |bits, value| bits | (1 << value));
    Ok((bits, star && step == 1))
}

fn number(text: &str, names: &[&str]) -> Result<u32, String> {
    let lower = text.to_lowercase();
    if let Some(index) = names.iter().position(|name| *name == lower) {
        // The first month is 1, the first weekday 0.
        let first = if names.len() == MONTHS.len() { 1 } else { 0 };
        return Ok(u32::try_from(index).unwrap_or(0) + first);
    }
    text.parse().map_err(|_| format!("`{text}` is not a number"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn takes_what_the_agent_takes() {
        for line in [
            "0 */5 * * * *",
            "0 0 9 * * mon-fri",
            "0 0 9 * * MON,Wed,5",
            "*/10 * * * * *",
            "0 30 4 1,15 jan-jun/2 ?",
            "5/15 * * * * *",
            "  0 0 0 29 2 *  ",
            "0 0 0 31 2 fri",
            "TZ=UTC 0 0 9 * * *",
            "30 0 12 24 12",
            "+5 05 * * * *",
            "1,,2 * * * * *",
        ] {
            assert_eq!(check(line), Ok(()), "{line}");
        }
    }

    #[test]
    fn refuses_what_would_break_the_agent_or_never_run() {
        for (line, hint) in [
            ("", "0 fields"),
            ("   ", "0 fields"),
            ("@daily", "@daily"),
            ("*/5 * * * *", "put `0 ` in front"),
            ("0 9 * * 1-5", "put `0 ` in front"),
            ("0 9 * * mon", "put `0 ` in front"),
            ("0 0 0 0 0 0 0", "7 fields"),
            ("60 * * * * *", "seconds: `60` is outside of 0 to 59"),
            ("0 0 0 0 * *", "day of month"),
            ("0 0 0 * 13 *", "month"),
            ("0 0 0 * * 7", "day of week"),
            ("0 0 5-3 * * *", "ends before"),
            ("0 0 1-2-3 * * *", "hyphens"),
            ("0 0 */0 * * *", "step of 0"),
            ("0 0 */2/3 * * *", "slashes"),
            ("0 0 x * * *", "`x` is not a number"),
            ("0 0 , * * *", "names no value"),
            ("0 0 0 30 2 *", "never comes"),
            ("TZ=UTC", "time zone"),
            ("TZ=Atlantis/Poseidonis 0 0 9 * * *", "time zone"),
        ] {
            let error = check(line).unwrap_err();
            assert!(error.contains(hint), "{line}: {error}");
        }
    }
}
