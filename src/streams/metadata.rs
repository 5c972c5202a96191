//! Watching the metadata of an agent, as server-sent events or over a WebSocket.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde::Serialize;
use serde_json::json;

use super::events::Events;
use super::signed_in::{self, Heard, SignedIn};
use super::socket::{NORMAL, OneWay, POLICY};
use super::{Out, Stream, errand};
use crate::config::limits::STREAM_HIGH_WATER;
use crate::domain::credential::Credential;
use crate::domain::{Error, Shared};
use crate::model::{AgentId, Timestamp};
use crate::ops::hub::{Subscription, Topic};
use crate::ops::mail::{Address, Mail, Outcome};
use crate::store::agents;
use crate::store::metadata::{self, Metadata};

/// Events are at least this far apart.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// An event comes at least this often, so that ages stay right. It is made from the rows last read.
const AT_LEAST_EVERY: Duration = Duration::from_secs(5);
/// What the age of a value is that was never collected: Go's longest duration in seconds.
const NEVER_SECONDS: u64 = 9_223_372_036;
/// Data from the client ends the WebSocket with this code (coderd/httpapi/httpapi.go
/// OneWayWebSocketEventSender, v2.24.0).
const UNEXPECTED_DATA: u16 = 1002;

/// The events of `agent` as a chunked body.
pub fn watch_events(app: Shared, agent: AgentId, credential: Credential) -> Box<dyn Stream> {
    Watch::start(app, agent, credential, Line::Events(Events::new(Instant::now())))
}

/// The events of `agent` as text messages.
pub fn watch_websocket(app: Shared, agent: AgentId, credential: Credential) -> Box<dyn Stream> {
    Watch::start(app, agent, credential, Line::Socket(Box::new(OneWay::new(Instant::now(), UNEXPECTED_DATA, None))))
}

enum Line {
    Events(Events),
    Socket(Box<OneWay>),
}

impl Line {
    fn ended(&self) -> bool {
        match self {
            Line::Events(events) => events.ended(),
            Line::Socket(socket) => socket.ended(),
        }
    }

    fn data(&mut self, json: &str, out: &mut Out) {
        match self {
            Line::Events(events) => events.data(json, out),
            Line::Socket(socket) => socket.text(&format!(r#"{{"type":"data","data":{json}}}"#), out),
        }
    }

    fn error(&mut self, message: &str, out: &mut Out) {
        let json = json!({ "message": message }).to_string();
        match self {
            Line::Events(events) => events.error(&json, out),
            Line::Socket(socket) => socket.text(&format!(r#"{{"type":"error","data":{json}}}"#), out),
        }
    }

    fn end(&mut self, code: u16, reason: &str, out: &mut Out) {
        match self {
            Line::Events(events) => events.end(out),
            Line::Socket(socket) => socket.end(code, reason, out),
        }
    }
}

struct Watch {
    app: Shared,
    agent: AgentId,
    signed_in: SignedIn,
    line: Line,
    address: Option<Address>,
    subscriptions: Vec<Subscription>,
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
    fn start(app: Shared, agent: AgentId, credential: Credential, line: Line) -> Box<dyn Stream> {
        Box::new(Watch {
            signed_in: SignedIn::new(app.clone(), credential, Some(agent)),
            app,
            agent,
            line,
            address: None,
            subscriptions: Vec::new(),
            rows: Vec::new(),
            reading: false,
            read_at: None,
            show_at: None,
        })
    }

    fn read(&mut self, now: Instant) {
        let Some(address) = &self.address else { return };
        let (app, agent) = (self.app.clone(), self.agent);
        let work = move || app.store.read(|conn| rows(conn, agent));
        match errand::submit(&self.app.jobs, address, 0, work) {
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
        self.app.metrics.watchers.inc();
        let topics = [Topic::AgentMetadata(self.agent), Topic::AgentRevoked(self.agent)];
        self.subscriptions = topics.map(|topic| self.app.hub.subscribe(topic, address.clone())).into();
        self.line = match &self.line {
            Line::Events(_) => Line::Events(Events::new(now)),
            Line::Socket(_) => Line::Socket(Box::new(OneWay::new(now, UNEXPECTED_DATA, None))),
        };
        self.signed_in.open(now, address.clone());
        self.address = Some(address);
        self.read(now);
    }

    fn receive(&mut self, _now: Instant, bytes: &[u8], out: &mut Out) {
        // A client has nothing to add to a request for events.
        if let Line::Socket(socket) = &mut self.line {
            socket.receive(bytes, out);
        }
    }

    fn mail(&mut self, now: Instant, mail: Mail, out: &mut Out) {
        if self.line.ended() {
            return;
        }
        let mail = match self.signed_in.mail(now, mail) {
            Heard::Other(mail) => mail,
            Heard::Nothing => return,
            Heard::Ended => return self.line.end(POLICY, signed_in::ENDED, out),
        };
        match mail {
            Mail::Changed(topic) => {
                self.subscriptions.iter().filter(|one| one.topic() == topic).for_each(Subscription::acknowledge);
                // A second after the last event; `show_at` is five seconds after it.
                let due = self.show_at.map_or(now, |show_at| show_at - AT_LEAST_EVERY + AT_MOST_EVERY);
                self.read_at = Some(self.read_at.map_or(due, |at| at.max(due)));
                self.tick(now, out);
            }
            Mail::Done { outcome: Outcome::Value(value), .. } => {
                self.reading = false;
                match value.downcast::<Rows>().map(|rows| *rows) {
                    Ok(Rows::Known(rows)) => {
                        self.rows = rows;
                        self.read_at = self.read_at.map(|at| at.max(now + AT_MOST_EVERY));
                        self.show(now, out);
                    }
                    Ok(Rows::Gone) => self.line.end(NORMAL, "Connection closed", out),
                    Err(_) => {}
                }
            }
            Mail::Done { outcome: Outcome::Busy(pause), .. } => {
                self.reading = false;
                self.read_at = Some(now + pause);
            }
            Mail::Done { outcome: Outcome::Failed { text, .. }, .. } => {
                self.line.error(&text, out);
                self.line.end(NORMAL, "Connection closed", out);
            }
            Mail::Close { code, reason } => self.line.end(code, reason, out),
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let ping = match &self.line {
            Line::Events(events) => events.deadline()?,
            Line::Socket(socket) => socket.deadline()?,
        };
        let read_at = self.read_at.filter(|_| !self.reading);
        let show_at = self.show_at.filter(|_| !self.reading);
        Some([read_at, show_at, self.signed_in.deadline()].into_iter().flatten().fold(ping, Instant::min))
    }

    fn tick(&mut self, now: Instant, out: &mut Out) {
        match &mut self.line {
            Line::Events(events) => events.tick(now, out),
            Line::Socket(socket) => socket.tick(now, out),
        }
        self.signed_in.tick(now);
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
        match &mut self.line {
            Line::Events(events) => events.end(out),
            Line::Socket(socket) => socket.shutdown(out),
        }
    }

    fn closed(&mut self) {
        if self.address.take().is_some() {
            self.app.metrics.watchers.dec();
        }
        self.subscriptions.clear();
        self.signed_in.close();
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
