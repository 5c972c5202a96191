//! What pages say of agents.

use std::time::Duration;

use super::html::{Html, fill, text};
use super::{moment, moment_text};
use crate::domain::Shared;
use crate::domain::agents::{self, Connection, Status};
use crate::model::Timestamp;
use crate::store::agents::{Agent, Lifecycle};
use crate::store::metadata::Metadata;

/// Characters of a metadata value that are shown; agents may send 2,048 bytes.
const VALUE_CHARS: usize = 400;

/// How an agent is at an instant.
pub(super) struct Present<'a> {
    app: &'a Shared,
    agent: &'a Agent,
    now: Timestamp,
    connection: Connection,
}

impl<'a> Present<'a> {
    pub(super) fn of(app: &'a Shared, agent: &'a Agent, now: Timestamp) -> Present<'a> {
        let connection = agents::connection(agent, app.presence.of(agent.id), app.started_at, now);
        Present { app, agent, now, connection }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connection.status == Status::Connected
    }

    /// In words for people, and the class that colours them.
    fn words(&self) -> (&'static str, &'static str) {
        match (self.connection.status, self.agent.lifecycle_state) {
            (Status::Connected, Lifecycle::Created | Lifecycle::Starting) => ("starting", "wait"),
            (Status::Connected, Lifecycle::Ready) => ("connected", "good"),
            (Status::Connected, Lifecycle::StartError) => ("connected, but a start script failed", "bad"),
            (Status::Connected, Lifecycle::StartTimeout) => ("connected, but a start script takes too long", "bad"),
            (Status::Connected, _) => ("shutting down", "wait"),
            (Status::Connecting, _) => ("has not connected yet", "wait"),
            (Status::Timeout, _) => ("has not connected in time", "bad"),
            (Status::Disconnected, _) => ("disconnected", "bad"),
        }
    }

    /// Its state with its colour.
    pub(super) fn state(&self) -> Html {
        let (word, class) = self.words();
        fill(include_str!("state.html"), &[("word", text(word)), ("class", text(class))])
    }

    /// When it was last heard.
    pub(super) fn seen(&self) -> Html {
        match self.connection.last_connected_at {
            _ if self.is_connected() => text("now"),
            None => text("never"),
            Some(at) => {
                let values = [("ago", text(&ago(self.now.since(at)))), ("at", moment(at))];
                fill(include_str!("ago.html"), &values)
            }
        }
    }

    /// What to do about it, if it is away.
    pub(super) fn hint(&self) -> Html {
        let sentence = match self.connection.status {
            Status::Connected => return Html::default(),
            Status::Connecting => "Nothing has connected with this agent's token yet.",
            Status::Timeout => {
                "Nothing has connected with this agent's token, though it should have by now. Look at the agent's own \
                 output on the machine."
            }
            Status::Disconnected => {
                "The agent comes back by itself when the machine runs and reaches this server; terminals and ssh wait \
                 for that."
            }
        };
        fill(include_str!("hint.html"), &[("hint", text(sentence))])
    }

    /// Its metadata with the values last collected.
    pub(super) fn metadata(&self, rows: &[Metadata]) -> Html {
        if rows.is_empty() {
            return Html::default();
        }
        let rows = rows.iter().map(|row| {
            // A value that was collected again without a change is known in memory only.
            let again = self.app.presence.last_collected(self.agent.id, &row.key);
            let collected_at = row.collected_at.map(|stored| again.map_or(stored, |again| again.max(stored)));
            let name = if row.display_name.is_empty() { &row.key } else { &row.display_name };
            let (value, class) = match (row.error.trim(), collected_at) {
                (_, None) => ("not collected yet", "dim"),
                // Columns stay below each other.
                ("", Some(_)) => match row.value.trim_end().trim_start_matches(['\r', '\n']) {
                    value if value.contains('\n') => (value, "lines"),
                    value => (value, ""),
                },
                (error, Some(_)) => (error, "bad"),
            };
            let value: String = plain(value).chars().take(VALUE_CHARS).collect();
            let age = collected_at.map_or_else(Html::default, |at| text(&format!("Collected {}", moment_text(at))));
            let values = [("name", text(name)), ("value", text(&value)), ("class", text(class)), ("age", age)];
            fill(include_str!("metadata-row.html"), &values)
        });
        fill(include_str!("metadata.html"), &[("rows", Html::join(rows))])
    }
}

/// A span of time that has passed, in the largest unit that it fills.
fn ago(passed: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let seconds = passed.as_secs();
    let unit = UNITS.iter().find(|(length, _)| seconds >= *length);
    unit.map_or_else(
        || "just now".to_owned(),
        |(length, name)| {
            let count = seconds / length;
            format!("{count} {name}{} ago", if count == 1 { "" } else { "s" })
        },
    )
}

/// Text of a machine without what steers terminals.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '\u{1b}' {
            if !letter.is_control() || matches!(letter, '\t' | '\n') {
                out.push(letter);
            }
            continue;
        }
        match letters.next() {
            // CSI: up to its final letter.
            Some('[') => drop(letters.find(|letter| ('@'..='~').contains(letter))),
            // OSC: up to BEL or ESC \.
            Some(']') => {
                while let Some(letter) = letters.next() {
                    if letter == '\u{7}' || (letter == '\u{1b}' && letters.next_if_eq(&'\\').is_some()) {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_how_long_ago_in_one_unit() {
        for (seconds, said) in [
            (0, "just now"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (60, "1 minute ago"),
            (7_199, "1 hour ago"),
            (172_800, "2 days ago"),
        ] {
            assert_eq!(ago(Duration::from_secs(seconds)), said);
        }
    }

    #[test]
    fn leaves_out_what_steers_terminals() {
        assert_eq!(plain("\u{1b}[1;31mred\u{1b}[0m\ta\r\u{8}b"), "red\tab");
        assert_eq!(plain("\u{1b}]0;title\u{7}x\u{1b}]8;;http://a\u{1b}\\y\u{1b}"), "xy");
        assert_eq!(plain("\u{1b}[31"), "");
        assert_eq!(plain("äö 😀"), "äö 😀");
    }
}
