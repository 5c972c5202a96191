//! Handing a connection over: WebSocket handshakes, event streams, streams that write their own head.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::auth::is_foreign_origin;
use super::reply::Reply;
use super::request::Call;
use crate::domain::Error;
use crate::streams::{Form, Start, Stream};

const TAKEOVER: &str = "X-Moorline-Takeover";

/// Answers a WebSocket request: checks the handshake in the order of coder/websocket v1.8.13
/// accept.go, refusing in plain text, and leaves the stream for the edge. Every check of the
/// application itself comes before this.
pub(super) fn upgrade(call: &Call<'_>, stream: impl FnOnce() -> Box<dyn Stream>) -> Reply {
    match handshake(call) {
        Ok(key) => takeover(call, key, stream()),
        Err(reply) => reply,
    }
}

/// As [`upgrade`], with a stream that may be refused: after the handshake was checked, so that nothing is
/// taken for a request that fails at it.
pub(super) fn upgrade_if(
    call: &Call<'_>,
    stream: impl FnOnce() -> Result<Box<dyn Stream>, Error>,
) -> Result<Reply, Error> {
    match handshake(call) {
        Ok(key) => Ok(takeover(call, key, stream()?)),
        Err(reply) => Ok(reply),
    }
}

/// Answers in the form that the route has.
pub(super) fn one_way(
    call: &Call<'_>,
    form: Form,
    stream: impl FnOnce() -> Result<Box<dyn Stream>, Error>,
) -> Result<Reply, Error> {
    match form {
        Form::Events => Ok(events(call, stream()?)),
        Form::WebSocket => upgrade_if(call, stream),
    }
}

/// As [`upgrade`], for pages of any origin, and with a subprotocol that the client has offered.
pub(super) fn upgrade_any_origin(
    call: &Call<'_>,
    subprotocol: &'static str,
    stream: impl FnOnce() -> Box<dyn Stream>,
) -> Reply {
    match key(call) {
        Ok(key) => takeover(call, key, stream()).header("Sec-WebSocket-Protocol", subprotocol),
        Err(reply) => reply,
    }
}

fn takeover(call: &Call<'_>, key: &str, stream: Box<dyn Stream>) -> Reply {
    call.service.arrivals.put(call.id, Start::WebSocket(stream));
    Reply::empty(200)
        .header(TAKEOVER, "websocket")
        .header("Sec-WebSocket-Accept", tungstenite::handshake::derive_accept_key(key.as_bytes()))
}

/// Answers with an endless stream of server-sent events.
pub(super) fn events(call: &Call<'_>, stream: Box<dyn Stream>) -> Reply {
    call.service.arrivals.put(call.id, Start::Events(stream));
    let mut reply = Reply::empty(200)
        .header(TAKEOVER, "events")
        .header("Cache-Control", "no-cache")
        .header("X-Accel-Buffering", "no");
    reply.content_type = Some("text/event-stream");
    reply
}

/// Answers with a stream that writes the whole answer, its head included. It must do for HTTP/1.0, or
/// have refused it. Clients do not see what is given here, but the status should be theirs.
pub(super) fn raw(call: &Call<'_>, status: u16, stream: Box<dyn Stream>) -> Reply {
    call.service.arrivals.put(call.id, Start::Raw(stream));
    Reply::empty(status).header(TAKEOVER, "raw")
}

fn handshake<'c>(call: &'c Call<'_>) -> Result<&'c str, Reply> {
    let key = key(call)?;
    if is_foreign_origin(call) {
        return Err(Reply::text(403, "The Origin is not this server.\n"));
    }
    Ok(key)
}

/// The key of a handshake that is right but for where it comes from.
fn key<'c>(call: &'c Call<'_>) -> Result<&'c str, Reply> {
    let asks = |value: &str| value.split(',').any(|one| one.trim().eq_ignore_ascii_case("websocket"));
    if call.http_1_0 || !call.upgrade.as_deref().is_some_and(asks) {
        return Err(
            Reply::text(426, "This address speaks WebSocket only, over HTTP/1.1.\n").header("Upgrade", "websocket")
        );
    }
    if call.method != "GET" {
        return Err(Reply::text(405, "A WebSocket handshake is a GET.\n"));
    }
    if call.header("Sec-WebSocket-Version") != Some("13") {
        return Err(Reply::text(400, "Only version 13 of WebSocket is spoken.\n").header("Sec-WebSocket-Version", "13"));
    }
    let mut keys = call.all("Sec-WebSocket-Key");
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) => key.trim(),
        _ => return Err(Reply::text(400, "Exactly one Sec-WebSocket-Key is needed.\n")),
    };
    if !STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16) {
        return Err(Reply::text(400, "The Sec-WebSocket-Key is not 16 bytes in base64.\n"));
    }
    Ok(key)
}
