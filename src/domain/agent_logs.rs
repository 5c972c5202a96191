//! Log lines of agents: one rule for both doors, `PATCH …/me/logs` and the RPC BatchCreateLogs.

use std::borrow::Cow;

use uuid::Uuid;

use super::{Error, Fault};
use crate::config::limits;
use crate::model::{AgentId, LogSourceId, Timestamp};
use crate::ops::hub::Topic;
use crate::store::logs::{self, Level, Source};
use crate::store::{self, Write};

/// The source of lines that name none: every client knows this id (coder v2.24.0
/// codersdk/agentsdk/agentsdk.go ExternalLogSourceID).
pub const EXTERNAL_SOURCE: LogSourceId = LogSourceId(Uuid::from_u128(0x3b57_9bf4_1ed8_4b99_87a8_e9a1_e341_0410));

/// What stands for a character that a log line cannot hold, as releases since April 2026 write it.
const UNPRINTABLE: &str = "\u{274C}";

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Appended {
    /// All of it is stored.
    Stored,
    /// None of it is stored: the agent's sum would pass [`limits::AGENT_LOG_BYTES`].
    Overflowed {
        /// Whether an earlier batch had been refused for the same reason.
        before: bool,
    },
}

/// Adds a batch, all lines at `now`; without a source they belong to [`EXTERNAL_SOURCE`], which is
/// made on demand. A batch that would pass the limit is refused whole and marks the agent for ever;
/// a later one that fits is taken all the same (the REST rule).
pub fn append(
    write: &Write<'_>,
    agent: AgentId,
    source: Option<LogSourceId>,
    lines: Vec<(Level, String)>,
    now: Timestamp,
) -> Result<Appended, Error> {
    let Some((length, before)) = logs::usage(write, agent)? else {
        return Err(Error::new(Fault::NotFound, "The agent does not exist any more."));
    };
    // Counted before the cut: what agents count against the same limit.
    let lines: Vec<(Level, String)> = lines.into_iter().map(|(level, text)| (level, clean(text))).collect();
    let bytes = lines.iter().fold(0_i64, |sum, (_, text)| sum.saturating_add(size(text)));
    if length.saturating_add(bytes) > limits::AGENT_LOG_BYTES {
        if !before {
            logs::set_overflowed(write, agent)?;
            write.publish(Topic::Agent(agent));
        }
        return Ok(Appended::Overflowed { before });
    }
    let source = match source.filter(|source| !source.0.is_nil()) {
        Some(source) => source,
        None => external(write, agent, now)?,
    };
    let lines: Vec<(Level, String)> = lines.into_iter().map(|(level, text)| (level, cut(text))).collect();
    logs::insert(write, agent, source, now, &lines, bytes)?;
    write.publish(Topic::AgentLogs(agent));
    Ok(Appended::Stored)
}

/// As [`append`], but an agent that has overflowed once gets nothing stored any more (the RPC rule:
/// its sender stops for good at the first `log_limit_exceeded`).
pub fn append_until_overflow(
    write: &Write<'_>,
    agent: AgentId,
    source: Option<LogSourceId>,
    lines: Vec<(Level, String)>,
    now: Timestamp,
) -> Result<Appended, Error> {
    match logs::usage(write, agent)? {
        Some((_, true)) => Ok(Appended::Overflowed { before: true }),
        _ => append(write, agent, source, lines, now),
    }
}

/// Registers a source. One that the agent has already is left as it was.
pub fn add_source(write: &Write<'_>, agent: AgentId, source: &Source) -> Result<(), Error> {
    if logs::sources(write, &[agent])?.len() >= limits::LOG_SOURCES {
        return Err(Error::new(Fault::Invalid, "The agent has as many log sources as it may have."));
    }
    logs::ensure_source(write, agent, source)?;
    write.publish(Topic::Agent(agent));
    Ok(())
}

fn external(write: &Write<'_>, agent: AgentId, now: Timestamp) -> Result<LogSourceId, store::Error> {
    let source = Source {
        id: EXTERNAL_SOURCE,
        display_name: "External".into(),
        icon: "/emojis/1f310.png".into(),
        created_at: now,
    };
    logs::ensure_source(write, agent, &source)?;
    Ok(EXTERNAL_SOURCE)
}

fn size(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

fn clean(text: String) -> String {
    if text.contains('\0') { text.replace('\0', UNPRINTABLE) } else { text }
}

fn cut(mut text: String) -> String {
    // As many bytes hold at most as many characters, so most lines need not be counted.
    if text.len() > limits::LOG_LINE_CHARS
        && let Some((end, _)) = text.char_indices().nth(limits::LOG_LINE_CHARS)
    {
        text.truncate(end);
    }
    text
}

/// The level of a word as the REST route takes it: empty means info, an unknown one is refused.
pub fn level(word: &str) -> Result<Level, Error> {
    if word.is_empty() {
        return Ok(Level::Info);
    }
    Level::from_word(word).ok_or_else(|| {
        let shown: Cow<'_, str> = word.chars().take(64).collect();
        Error::new(Fault::Invalid, "A log level is not one of trace, debug, info, warn and error.")
            .detail(format!("The level was {shown:?}."))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn replaces_each_nul() {
        assert_eq!(clean("a\0\0b".into()), "a\u{274C}\u{274C}b");
    }

    #[test]
    fn cuts_by_characters_not_by_bytes() {
        assert_eq!(cut("ü".repeat(1_025)).chars().count(), 1_024);
        assert_eq!(cut("ü".repeat(1_024)).chars().count(), 1_024);
        assert_eq!(cut("k".repeat(2_000)).len(), 1_024);
        assert_eq!(cut("short".into()), "short");
    }

    #[test]
    fn takes_an_empty_level_as_info_and_refuses_unknown_ones() {
        assert_eq!(level("").unwrap(), Level::Info);
        assert_eq!(level("warn").unwrap(), Level::Warn);
        assert_eq!(level("shout").unwrap_err().fault, Fault::Invalid);
    }

    #[test]
    fn knows_the_external_source_by_the_id_that_clients_know() {
        assert_eq!(EXTERNAL_SOURCE.to_string(), "3b579bf4-1ed8-4b99-87a8-e9a1e3410410");
    }
}
