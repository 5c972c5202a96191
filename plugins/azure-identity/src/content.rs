//! The signed text.

use moorline_plugin::{Answer, Refusal};
use serde::Deserialize;
use serde_json::Value;
use time::{Date, Month, PrimitiveDateTime, Time};

/// How far the clocks of Azure and this server may differ, seconds.
const SKEW: i64 = 300;
/// Longest text that is handed on, bytes.
const CLAIM_BYTES: usize = 128;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Json {
    vm_id: Value,
    subscription_id: String,
    sku: String,
    time_stamp: Stamp,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Stamp {
    created_on: String,
    expires_on: String,
}

/// What is read of it.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) vm_id: String,
    pub(crate) subscription_id: String,
    pub(crate) sku: String,
    created_on: Option<i64>,
    expires_on: Option<i64>,
}

impl Content {
    pub(crate) fn parse(json: &[u8]) -> Answer<Content> {
        let malformed = |message: &str| Refusal::refused("malformed", message);
        let json: Json = serde_json::from_slice(json)
            .map_err(|_| malformed("The signed text is not the JSON of an attested document."))?;
        let vm_id = match json.vm_id {
            Value::String(id) if !id.is_empty() => id,
            _ => return Err(malformed("The document has no vmId.")),
        };
        let short = |text: String| text.get(..CLAIM_BYTES).map(str::to_owned).unwrap_or(text);
        Ok(Content {
            vm_id,
            subscription_id: short(json.subscription_id),
            sku: short(json.sku),
            created_on: instant(&json.time_stamp.created_on)?,
            expires_on: instant(&json.time_stamp.expires_on)?,
        })
    }

    /// A document is good for six hours, and the agent fetches a new one for each sign-in; one without times is taken, as
    /// the test tools of the real server make such.
    pub(crate) fn check_times(&self, now: i64) -> Answer<()> {
        if let Some(until) = self.expires_on
            && until.saturating_add(SKEW) < now
        {
            let ago = now.saturating_sub(until);
            return Err(Refusal::refused("expired", format!("The document ended {ago} seconds ago.")));
        }
        if let Some(from) = self.created_on
            && from.saturating_sub(SKEW) > now
        {
            let ahead = from.saturating_sub(now);
            return Err(Refusal::refused(
                "clock_skew",
                format!("The document was made {ahead} seconds from now; the clock of this server seems to be behind."),
            ));
        }
        Ok(())
    }
}

/// An instant like `04/22/24 17:32:45 -0000`, as seconds since 1970 began; none for an empty text.
fn instant(text: &str) -> Answer<Option<i64>> {
    if text.is_empty() {
        return Ok(None);
    }
    parse_instant(text)
        .map(Some)
        .ok_or_else(|| Refusal::refused("malformed", "A time of the document is not written as Azure writes it."))
}

fn parse_instant(text: &str) -> Option<i64> {
    let number = |from: usize| -> Option<u8> { text.get(from..from + 2)?.parse().ok() };
    let marks = [(2, '/'), (5, '/'), (8, ' '), (11, ':'), (14, ':'), (17, ' ')];
    let in_place = marks.iter().all(|(at, mark)| text.get(*at..).is_some_and(|rest| rest.starts_with(*mark)));
    if !in_place || !matches!(text.get(18..), Some("-0000" | "+0000")) {
        return None;
    }
    let month = Month::try_from(number(0)?).ok()?;
    let date = Date::from_calendar_date(2000 + i32::from(number(6)?), month, number(3)?).ok()?;
    let time = Time::from_hms(number(9)?, number(12)?, number(15)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_as_azure_writes_them() {
        assert_eq!(parse_instant("04/22/24 17:32:45 -0000"), Some(1_713_807_165));
        for wrong in ["", "04/22/24", "22/04/24 17:32:45 -0000", "04/22/24 17:32:45 +0100", "04/22/24T17:32:45 -0000"] {
            assert_eq!(parse_instant(wrong), None, "{wrong}");
        }
    }
}
