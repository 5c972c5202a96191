//! Following the log of an agent: text messages, each a JSON array of lines and a newline.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde::Serialize;

use super::socket::{FAILURE, NORMAL, OneWay, POLICY};
use super::watching::{News, Visitor, Watching};
use super::{Out, Stream, errand};
use crate::config::limits::{STREAM_HIGH_WATER, STREAM_MESSAGE_BYTES};
use crate::domain::{Error, Fault, Shared};
use crate::model::{AgentId, LogSourceId, Timestamp};
use crate::ops::hub::Topic;
use crate::ops::mail::{Address, Mail, Outcome};
use crate::store::agents;
use crate::store::logs::{self, Level, Line};

/// Lines of one look; bounds what one follower has in memory: 256 × 6 KiB in the worst case.
const PAGE_LINES: i64 = 256;
/// A look is taken at least this often, in case an announcement was lost.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Follows the lines of `agent` with ids above `after`. Ends when the agent is removed (after what is
/// left, 1000), and with the visitor's session (1008).
pub fn follow(app: Shared, agent: AgentId, after: i64, visitor: Visitor) -> Box<dyn Stream> {
    let topics = vec![Topic::AgentLogs(agent), Topic::AgentRevoked(agent)];
    Box::new(Follow {
        watching: Watching::of(app.clone(), topics, visitor, Some(agent)),
        app,
        agent,
        after,
        socket: OneWay::new(Instant::now(), POLICY, None),
        look: Look::None,
        next_look: Instant::now(),
        begun: false,
    })
}

struct Follow {
    app: Shared,
    agent: AgentId,
    watching: Watching,
    /// Highest id sent.
    after: i64,
    socket: OneWay,
    look: Look,
    next_look: Instant,
    /// The first message was sent.
    begun: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Look {
    /// Nothing to look for.
    None,
    /// Wanted as soon as the client has taken what it was given.
    Held,
    /// In the pool; `again`: something changed meanwhile.
    Running { again: bool },
}

struct Page {
    messages: Vec<String>,
    after: i64,
    /// There are further lines.
    more: bool,
    /// Close code and reason, once everything is sent.
    end: Option<(u16, &'static str)>,
}

impl Follow {
    fn look(&mut self, now: Instant, out: &Out) {
        if let Look::Running { again } = &mut self.look {
            *again = true;
            return;
        }
        if out.backlog + out.bytes.len() > STREAM_HIGH_WATER {
            self.look = Look::Held;
            return;
        }
        let (app, agent, after) = (self.app.clone(), self.agent, self.after);
        self.look = match self.watching.submit(move || app.store.read(|conn| page(conn, agent, after))) {
            Ok(()) => Look::Running { again: false },
            Err(_) => Look::None,
        };
        self.next_look = if self.look == Look::None { now + errand::QUEUE_PAUSE } else { now + LOOK_EVERY };
    }

    fn show(&mut self, now: Instant, page: Page, out: &mut Out) {
        for message in &page.messages {
            self.socket.text(message, out);
        }
        if page.messages.is_empty() && !self.begun {
            self.socket.text("[]\n", out);
        }
        self.begun = true;
        self.after = page.after;
        let again = self.look == Look::Running { again: true };
        self.look = Look::None;
        match page.end {
            Some((code, reason)) if !page.more => self.socket.end(code, reason, out),
            _ if page.more || again => self.look(now, out),
            _ => {}
        }
    }
}

impl Stream for Follow {
    fn open(&mut self, now: Instant, address: Address, out: &mut Out) {
        self.socket = OneWay::new(now, POLICY, None);
        self.watching.open(now, address);
        self.look(now, out);
    }

    fn receive(&mut self, _now: Instant, bytes: &[u8], out: &mut Out) {
        self.socket.receive(bytes, out);
    }

    fn mail(&mut self, now: Instant, mail: Mail, out: &mut Out) {
        if self.socket.ended() {
            return;
        }
        match self.watching.mail(now, mail) {
            News::Changed => self.look(now, out),
            News::Done(Outcome::Value(value)) => {
                if let Ok(page) = value.downcast::<Page>() {
                    self.show(now, *page, out);
                }
            }
            News::Done(Outcome::Busy(pause)) => {
                self.look = Look::None;
                self.next_look = now + pause;
            }
            News::Done(Outcome::Failed { text, .. }) => self.socket.end(FAILURE, &text, out),
            News::End(code, reason) => self.socket.end(code, reason, out),
            News::Done(Outcome::Bytes(_)) | News::Nothing => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let ping = self.socket.deadline()?;
        let look = (self.look == Look::None).then_some(self.next_look);
        Some([look, self.watching.deadline()].into_iter().flatten().fold(ping, Instant::min))
    }

    fn tick(&mut self, now: Instant, out: &mut Out) {
        self.socket.tick(now, out);
        self.watching.tick(now);
        if !self.socket.ended() && self.look == Look::None && now >= self.next_look {
            self.look(now, out);
        }
    }

    fn drained(&mut self, now: Instant, out: &mut Out) {
        if !self.socket.ended() && self.look == Look::Held {
            self.look(now, out);
        }
    }

    fn shutdown(&mut self, _now: Instant, out: &mut Out) {
        self.socket.shutdown(out);
    }

    fn closed(&mut self) {
        self.watching.close();
    }
}

fn page(conn: &Connection, agent: AgentId, after: i64) -> Result<Page, Error> {
    let lines = logs::lines(conn, agent, after, i64::MAX, PAGE_LINES)?;
    let end = agents::by_id(conn, agent)?.is_none().then_some((NORMAL, ""));
    let more = i64::try_from(lines.len()).is_ok_and(|count| count >= PAGE_LINES);
    let after = lines.last().map_or(after, |line| line.id);
    Ok(Page { messages: messages(&lines)?, after, more, end })
}

#[derive(Serialize)]
struct Shown<'a> {
    id: i64,
    created_at: Timestamp,
    output: &'a str,
    level: Level,
    source_id: LogSourceId,
}

/// JSON arrays of the lines, split between lines so that each message stays readable for Go clients,
/// which close at one byte more (coder/websocket v1.8.13 read.go defaultReadLimit).
fn messages(lines: &[Line]) -> Result<Vec<String>, Error> {
    const END: &str = "]\n";
    let mut messages = Vec::new();
    let mut message = String::new();
    for line in lines {
        let shown = Shown {
            id: line.id,
            created_at: line.created_at,
            output: &line.output,
            level: line.level,
            source_id: line.source_id,
        };
        let json = serde_json::to_string(&shown).map_err(|error| {
            Error::new(Fault::Internal, "A log line cannot be written as JSON.").detail(error.to_string())
        })?;
        if !message.is_empty() && message.len() + 1 + json.len() + END.len() > STREAM_MESSAGE_BYTES {
            message.push_str(END);
            messages.push(std::mem::take(&mut message));
        }
        message.push(if message.is_empty() { '[' } else { ',' });
        message.push_str(&json);
    }
    if !message.is_empty() {
        message.push_str(END);
        messages.push(message);
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn line(id: i64, output: String) -> Line {
        Line { id, source_id: LogSourceId::random(), created_at: Timestamp(1), level: Level::Info, output }
    }

    #[test]
    fn splits_between_lines_at_the_limit_of_go_clients() {
        // Control characters take six bytes each: the widest that a line of 1,024 characters becomes.
        let lines: Vec<Line> = (1..=200).map(|id| line(id, "\u{1b}".repeat(1_024))).collect();
        let messages = messages(&lines).unwrap();
        assert!(messages.len() > 30);
        let mut ids = Vec::new();
        for message in &messages {
            assert!(message.len() <= STREAM_MESSAGE_BYTES, "{}", message.len());
            assert!(message.ends_with("]\n"));
            let array: Vec<serde_json::Value> = serde_json::from_str(message).unwrap();
            ids.extend(array.iter().filter_map(|one| one.get("id")?.as_i64()));
        }
        assert_eq!(ids, (1..=200).collect::<Vec<_>>());
    }

    #[test]
    fn fills_a_message_to_its_last_byte() {
        let spare = |output: usize| messages(&[line(1, "k".repeat(output))]).unwrap().concat().len() - output;
        let fit = STREAM_MESSAGE_BYTES - spare(0);
        let first = line(1, "k".repeat(fit));
        assert_eq!(messages(std::slice::from_ref(&first)).unwrap().concat().len(), STREAM_MESSAGE_BYTES);
        assert_eq!(messages(&[first, line(2, String::new())]).unwrap().len(), 2);
    }

    #[test]
    fn writes_the_keys_that_clients_read_in_their_order() {
        let messages = messages(&[line(7, "grüße".into())]).unwrap();
        assert!(
            messages[0].starts_with(
                r#"[{"id":7,"created_at":"1970-01-01T00:00:00.000001Z","output":"grüße","level":"info","source_id":""#
            ),
            "{}",
            messages[0]
        );
    }
}
