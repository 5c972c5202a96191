//! Handing a connection over: WebSocket handshakes and event streams.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::reply::Reply;
use super::request::Call;
use crate::streams::{Start, Stream};

const TAKEOVER: &str = "X-Moorline-Takeover";

/// Answers a WebSocket request: checks the handshake in the order of coder/websocket v1.8.13
/// accept.go, refusing in plain text, and leaves the stream for the edge. Every check of the
/// application itself comes before this.
pub(super) fn upgrade(call: &Call<'_>, stream: impl FnOnce() -> Box<dyn Stream>) -> Reply {
    if let Err(reply) = same_origin(call) {
        return match handshake(call) {
            Ok(_) => reply,
            Err(earlier) => earlier,
        };
    }
    accept(call, stream)
}

/// As [`upgrade`], for pages of any origin, and with a subprotocol that the client has offered.
pub(super) fn upgrade_any_origin(
    call: &Call<'_>,
    subprotocol: &'static str,
    stream: impl FnOnce() -> Box<dyn Stream>,
) -> Reply {
    let reply = accept(call, stream);
    if reply.status == 200 { reply.header("Sec-WebSocket-Protocol", subprotocol) } else { reply }
}

/// Hands the connection over to a stream that answers the request itself.
pub(super) fn raw(call: &Call<'_>, stream: Box<dyn Stream>) -> Reply {
    call.service.arrivals.put(call.id, Start::Raw(stream));
    Reply::empty(200).header(TAKEOVER, "raw")
}

fn accept(call: &Call<'_>, stream: impl FnOnce() -> Box<dyn Stream>) -> Reply {
    let key = match handshake(call) {
        Ok(key) => key,
        Err(reply) => return reply,
    };
    call.service.arrivals.put(call.id, Start::WebSocket(stream()));
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

fn handshake<'c>(call: &'c Call<'_>) -> Result<&'c str, Reply> {
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

fn same_origin(call: &Call<'_>) -> Result<(), Reply> {
    if let Some(origin) = call.header("Origin")
        && !origin_host(origin).is_some_and(|host| host.eq_ignore_ascii_case(call.header("Host").unwrap_or("")))
    {
        return Err(Reply::text(403, "The Origin is not this server.\n"));
    }
    Ok(())
}

fn origin_host(origin: &str) -> Option<&str> {
    origin.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or(""))
}
