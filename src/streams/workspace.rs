//! Watching a workspace, as server-sent events or over a WebSocket: the whole of it at once and again
//! after each change of it or of anything in it.
//!
//! `coder ssh` opens a stream that has ended again at once and for ever (cli/ssh.go watchAndClose,
//! v2.24.0), so a stream that was begun ends only with the workspace, the session or the server.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::line::{Form, Line};
use super::socket::NORMAL;
use super::watching::{News, Visitor, Watching};
use super::{Out, Stream, errand};
use crate::config::limits::STREAM_HIGH_WATER;
use crate::domain::{App, Error, Shared, agents, inventory};
use crate::model::{Timestamp, UserId, WorkspaceId};
use crate::ops::hub::Topic;
use crate::ops::mail::{Address, Mail, Outcome};
use crate::store;

/// Events are at least this far apart: a start of an agent makes about ten changes in a second.
const AT_MOST_EVERY: Duration = Duration::from_millis(250);

/// When a workspace that could not be read is read again.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// The workspace from now on. Ends when the workspace is removed, and with the visitor's session.
pub fn watch(app: Shared, workspace: WorkspaceId, visitor: Visitor, form: Form) -> Box<dyn Stream> {
    Box::new(Watch {
        viewer: visitor.user(),
        watching: Watching::of(app.clone(), vec![Topic::Workspace(workspace)], visitor, None),
        app,
        workspace,
        form,
        line: Line::new(form, Instant::now()),
        shown: None,
        reading: false,
        read_at: None,
        not_before: Instant::now(),
    })
}

struct Watch {
    app: Shared,
    workspace: WorkspaceId,
    viewer: UserId,
    watching: Watching,
    form: Form,
    line: Line,
    /// A hash of what the client was last shown.
    shown: Option<u64>,
    /// A read is in the pool.
    reading: bool,
    /// A read is wanted, not before this instant.
    read_at: Option<Instant>,
    /// The next event is due at this instant at the earliest.
    not_before: Instant,
}

impl Watch {
    /// Something has changed, or will have by `at`.
    fn want(&mut self, at: Instant) {
        let at = at.max(self.not_before);
        self.read_at = Some(self.read_at.map_or(at, |wanted| wanted.min(at)));
    }

    fn read(&mut self, now: Instant, out: &Out) {
        if self.reading || self.read_at.is_none_or(|at| now < at) {
            return;
        }
        // A client that does not take what it has been given is shown the newest once it has.
        if out.backlog + out.bytes.len() > STREAM_HIGH_WATER {
            self.read_at = Some(now + AT_MOST_EVERY);
            return;
        }
        let (app, viewer, workspace) = (self.app.clone(), self.viewer, self.workspace);
        match self.watching.submit(move || app.store.read(|conn| look(&app, conn, viewer, workspace))) {
            Ok(()) => {
                self.reading = true;
                self.read_at = None;
                self.not_before = now + AT_MOST_EVERY;
            }
            Err(_) => self.read_at = Some(now + errand::QUEUE_PAUSE),
        }
    }

    fn told(&mut self, now: Instant, outcome: Outcome, out: &mut Out) {
        match outcome {
            Outcome::Value(value) => match value.downcast::<Option<Seen>>().map(|seen| *seen) {
                Ok(Some(seen)) => {
                    let mut hasher = DefaultHasher::new();
                    seen.json.hash(&mut hasher);
                    let hash = hasher.finish();
                    if self.shown.replace(hash) != Some(hash) {
                        self.line.data(&seen.json, out);
                    }
                    if let Some(until) = seen.until {
                        self.want(now + until);
                    }
                }
                Ok(None) => self.line.end(NORMAL, "Connection closed", out),
                Err(_) => {}
            },
            Outcome::Busy(pause) => self.want(now + pause),
            Outcome::Failed { text, .. } => {
                // Ending it would make the client ask again without a pause.
                log::warn!("a watched workspace could not be read: {text}");
                self.line.error(&text, out);
                self.want(now + FAILURE_PAUSE);
            }
            Outcome::Bytes(_) => {}
        }
    }
}

impl Stream for Watch {
    fn open(&mut self, now: Instant, address: Address, out: &mut Out) {
        self.line = Line::new(self.form, now);
        self.not_before = now;
        self.watching.open(now, address);
        self.line.ping(out);
        self.want(now);
        self.read(now, out);
    }

    fn receive(&mut self, _now: Instant, bytes: &[u8], out: &mut Out) {
        self.line.receive(bytes, out);
    }

    fn mail(&mut self, now: Instant, mail: Mail, out: &mut Out) {
        if self.line.ended() {
            return;
        }
        match self.watching.mail(now, mail) {
            News::Changed => self.want(now),
            News::Done(outcome) => {
                self.reading = false;
                self.told(now, outcome, out);
            }
            News::End(code, reason) => self.line.end(code, reason, out),
            News::Nothing => {}
        }
        if !self.line.ended() {
            self.read(now, out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let ping = self.line.deadline()?;
        let read_at = self.read_at.filter(|_| !self.reading);
        Some([read_at, self.watching.deadline()].into_iter().flatten().fold(ping, Instant::min))
    }

    fn tick(&mut self, now: Instant, out: &mut Out) {
        self.line.tick(now, out);
        self.watching.tick(now);
        if !self.line.ended() {
            self.read(now, out);
        }
    }

    fn shutdown(&mut self, _now: Instant, out: &mut Out) {
        self.line.shutdown(out);
    }

    fn closed(&mut self) {
        self.watching.close();
    }
}

/// A workspace as somebody sees it.
struct Seen {
    /// One line of JSON.
    json: String,
    /// After how long it changes by the clock alone, if it does.
    until: Option<Duration>,
}

fn look(app: &App, conn: &Connection, viewer: UserId, workspace: WorkspaceId) -> Result<Option<Seen>, Error> {
    let Some(json) = inventory::one(app, conn, viewer, workspace)? else { return Ok(None) };
    let now = Timestamp::now();
    let until = store::agents::of_workspace(conn, workspace)?
        .iter()
        .filter_map(|agent| agents::turns_after(agent, app.presence.of(agent.id), app.started_at, now))
        .min();
    Ok(Some(Seen { json: String::from_utf8_lossy(&json).into_owned(), until }))
}
