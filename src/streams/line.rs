//! A one-way stream of JSON events, as server-sent events or over a WebSocket: what is said is the same.

use std::time::Instant;

use serde_json::json;

use super::Out;
use super::events::Events;
use super::socket::OneWay;

/// Data from the client ends the WebSocket with this code (coderd/httpapi/httpapi.go
/// OneWayWebSocketEventSender, v2.24.0).
const UNEXPECTED_DATA: u16 = 1002;

/// How the events reach the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// A chunked body of server-sent events.
    Events,
    /// Text messages with `type` and `data`.
    WebSocket,
}

/// The writing end.
pub(super) enum Line {
    Events(Events),
    Socket(Box<OneWay>),
}

impl Line {
    pub(super) fn new(form: Form, now: Instant) -> Line {
        match form {
            Form::Events => Line::Events(Events::new(now)),
            Form::WebSocket => Line::Socket(Box::new(OneWay::new(now, UNEXPECTED_DATA, None))),
        }
    }

    /// A keep-alive event. There is none over a WebSocket, where VS Code would take it for a failure
    /// (src/api/agentMetadataHelper.ts, 1.15.2); protocol pings do there.
    pub(super) fn ping(&mut self, out: &mut Out) {
        if let Line::Events(events) = self {
            events.ping(out);
        }
    }

    /// An event; `json` is one line.
    pub(super) fn data(&mut self, json: &str, out: &mut Out) {
        match self {
            Line::Events(events) => events.data(json, out),
            Line::Socket(socket) => socket.text(&format!(r#"{{"type":"data","data":{json}}}"#), out),
        }
    }

    pub(super) fn error(&mut self, message: &str, out: &mut Out) {
        let json = json!({ "message": message }).to_string();
        match self {
            Line::Events(events) => events.error(&json, out),
            Line::Socket(socket) => socket.text(&format!(r#"{{"type":"error","data":{json}}}"#), out),
        }
    }

    /// Ends it; the code and the reason are for WebSockets, server-sent events just end.
    pub(super) fn end(&mut self, code: u16, reason: &str, out: &mut Out) {
        match self {
            Line::Events(events) => events.end(out),
            Line::Socket(socket) => socket.end(code, reason, out),
        }
    }

    /// Nothing more will be said.
    pub(super) fn ended(&self) -> bool {
        match self {
            Line::Events(events) => events.ended(),
            Line::Socket(socket) => socket.ended(),
        }
    }

    /// A client has nothing to add to a request for events.
    pub(super) fn receive(&mut self, bytes: &[u8], out: &mut Out) {
        if let Line::Socket(socket) = self {
            socket.receive(bytes, out);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Line::Events(events) => events.deadline(),
            Line::Socket(socket) => socket.deadline(),
        }
    }

    pub(super) fn tick(&mut self, now: Instant, out: &mut Out) {
        match self {
            Line::Events(events) => events.tick(now, out),
            Line::Socket(socket) => socket.tick(now, out),
        }
    }

    /// The server stops: the client should come back.
    pub(super) fn shutdown(&mut self, out: &mut Out) {
        match self {
            Line::Events(events) => events.end(out),
            Line::Socket(socket) => socket.shutdown(out),
        }
    }
}
