//! Watching the metadata of an agent, as server-sent events or over a WebSocket.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde::Serialize;

use super::line::{Form, Line};
use super::socket::NORMAL;
use super::watching::{News, Visitor, Watching};
use super::{Out, Stream, errand};
use crate::config::limits::STREAM_HIGH_WATER;
use crate::domain::{Error, Shared};
use crate::model::{AgentId, Timestamp};
use crate::ops::hub::Topic;
use crate::ops::mail::{Address, Mail, Outcome};
use crate::store::agents;
use crate::store::metadata::{self, Metadata};

/// Events are at least this far apart.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// An event comes at least this often, so that ages stay right. It is made from the rows last read.
const AT_LEAST_EVERY: Duration = Duration::from_secs(5);
/// What the age of a value is that was never collected: Go's longest duration in seconds.
const NEVER_SECONDS: u64 = 9_223_372_036;
/// The metadata of `agent` from now on. Ends when the agent is removed, and with the visitor's session.
pub fn watch(app: Shared, agent: AgentId, visitor: Visitor, form: Form) -> Box<dyn Stream> {
    let topics = vec![Topic::AgentMetadata(agent), Topic::AgentRevoked(agent)];
    Box::new(Watch {
        watching: Watching::of(app.clone(), topics, visitor, Some(agent)),
        app,
        agent,
        form,
        line: Line::new(form, Instant::now()),
        rows: Vec::new(),
        reading: false,
        read_at: None,
        show_at: None,
    })
}

struct Watch {
    app: Shared,
    agent: AgentId,
    watching: Watching,
    form: Form,
    line: Line,
    /// As last read.
    rows: Vec<Metadata>,
    /// A read is in the pool.
    reading: bool,
    /// A read is wanted, not before this instant.
    read_at: Option<Instant>,
    /// When the rows are shown again though nothing changed; `None` until they are known.
    show_at: Option<Instant>,
}

impl Watch {
    fn read(&mut self, now: Instant) {
        let (app, agent) = (self.app.clone(), self.agent);
        match self.watching.submit(move || app.store.read(|conn| rows(conn, agent))) {
            Ok(()) => {
                self.reading = true;
                self.read_at = None;
            }
            Err(_) => self.read_at = Some(now + errand::QUEUE_PAUSE),
        }
    }

    fn show(&mut self, now: Instant, out: &mut Out) {
        self.show_at = Some(now + AT_LEAST_EVERY);
        // A client that does not take what it has been given misses this event, not the next one.
        if out.backlog < STREAM_HIGH_WATER {
            self.line.data(&self.render(), out);
        }
    }

    /// What came of a read.
    fn told(&mut self, now: Instant, outcome: Outcome, out: &mut Out) {
        match outcome {
            Outcome::Value(value) => match value.downcast::<Rows>().map(|rows| *rows) {
                Ok(Rows::Known(rows)) => {
                    self.rows = rows;
                    self.read_at = self.read_at.map(|at| at.max(now + AT_MOST_EVERY));
                    self.show(now, out);
                }
                Ok(Rows::Gone) => self.line.end(NORMAL, "Connection closed", out),
                Err(_) => {}
            },
            Outcome::Busy(pause) => self.read_at = Some(now + pause),
            Outcome::Failed { text, .. } => {
                self.line.error(&text, out);
                self.line.end(NORMAL, "Connection closed", out);
            }
            Outcome::Bytes(_) => {}
        }
    }

    fn render(&self) -> String {
        let now = Timestamp::now();
        let shown: Vec<Shown<'_>> = self.rows.iter().map(|row| self.shown(row, now)).collect();
        serde_json::to_string(&shown).unwrap_or_else(|error| {
            log::error!("metadata cannot be written as JSON: {error}");
            "[]".to_owned()
        })
    }

    fn shown<'a>(&self, row: &'a Metadata, now: Timestamp) -> Shown<'a> {
        // A value that was collected again without a change is known in memory only.
        let again = self.app.presence.last_collected(self.agent, &row.key);
        let collected_at = row.collected_at.map(|stored| again.map_or(stored, |again| again.max(stored)));
        Shown {
            result: Collected {
                collected_at: collected_at.unwrap_or(Timestamp::GO_ZERO),
                age: collected_at.map_or(NEVER_SECONDS, |at| now.since(at).as_secs()),
                value: &row.value,
                error: &row.error,
            },
            description: Description {
                display_name: &row.display_name,
                key: &row.key,
                script: &row.script,
                interval: row.interval_seconds,
                timeout: row.timeout_seconds,
            },
        }
    }
}

impl Stream for Watch {
    fn open(&mut self, now: Instant, address: Address, _out: &mut Out) {
        self.line = Line::new(self.form, now);
        self.watching.open(now, address);
        self.read(now);
    }

    fn receive(&mut self, _now: Instant, bytes: &[u8], out: &mut Out) {
        self.line.receive(bytes, out);
    }

    fn mail(&mut self, now: Instant, mail: Mail, out: &mut Out) {
        if self.line.ended() {
            return;
        }
        match self.watching.mail(now, mail) {
            News::Changed => {
                // A second after the last event; `show_at` is five seconds after it.
                let due = self.show_at.map_or(now, |show_at| show_at - AT_LEAST_EVERY + AT_MOST_EVERY);
                self.read_at = Some(self.read_at.map_or(due, |at| at.max(due)));
                self.tick(now, out);
            }
            News::Done(outcome) => {
                self.reading = false;
                self.told(now, outcome, out);
            }
            News::End(code, reason) => self.line.end(code, reason, out),
            News::Nothing => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let ping = self.line.deadline()?;
        let read_at = self.read_at.filter(|_| !self.reading);
        let show_at = self.show_at.filter(|_| !self.reading);
        Some([read_at, show_at, self.watching.deadline()].into_iter().flatten().fold(ping, Instant::min))
    }

    fn tick(&mut self, now: Instant, out: &mut Out) {
        self.line.tick(now, out);
        self.watching.tick(now);
        if self.line.ended() || self.reading {
            return;
        }
        if self.read_at.is_some_and(|at| now >= at) {
            self.read(now);
        } else if self.show_at.is_some_and(|at| now >= at) {
            self.show(now, out);
        }
    }

    fn shutdown(&mut self, _now: Instant, out: &mut Out) {
        self.line.shutdown(out);
    }

    fn closed(&mut self) {
        self.watching.close();
    }
}

enum Rows {
    Known(Vec<Metadata>),
    /// The agent was removed.
    Gone,
}

fn rows(conn: &Connection, agent: AgentId) -> Result<Rows, Error> {
    if agents::by_id(conn, agent)?.is_none() {
        return Ok(Rows::Gone);
    }
    let mut rows = metadata::of_agent(conn, agent)?;
    rows.sort_by(|a, b| (a.display_order, &a.key).cmp(&(b.display_order, &b.key)));
    Ok(Rows::Known(rows))
}

#[derive(Serialize)]
struct Shown<'a> {
    result: Collected<'a>,
    description: Description<'a>,
}

#[derive(Serialize)]
struct Collected<'a> {
    collected_at: Timestamp,
    /// Seconds.
    age: u64,
    value: &'a str,
    error: &'a str,
}

#[derive(Serialize)]
struct Description<'a> {
    display_name: &'a str,
    key: &'a str,
    script: &'a str,
    /// Seconds.
    interval: i64,
    /// Seconds.
    timeout: i64,
}
