//! The relay's door: `/derp` in its ways, and what clients time.

use std::net::IpAddr;

use super::reply::Reply;
use super::request::Call;
use super::websocket;
use crate::domain::Error;
use crate::streams::derp::{self, By};

/// The one subprotocol of the relay's WebSockets.
const SUBPROTOCOL: &str = "derp";

/// `GET /derp`. No sign-in: a connection proves its node key, and the relay serves known keys only.
pub(super) fn relay(call: &Call<'_>) -> Result<Reply, Error> {
    let by = match way(call) {
        Some(by) => by,
        None => return Ok(Reply::text(426, "DERP requires connection upgrade\n")),
    };
    let app = &call.service.app;
    let peer: Option<IpAddr> = call.peer.parse().ok();
    let Some(place) = peer.and_then(|peer| app.relay.admit(peer)) else {
        app.relay.metrics().refused.inc();
        // Not 4xx, after which a client would use WebSockets for good (derphttp_client.go, v2.24.0). Not an error
        // either: anybody could fill the log with those.
        let text = "Too many relay connections from this address are not known to the coordinator. Try again soon.\n";
        return Ok(Reply::text(503, text).header("Retry-After", "5"));
    };
    let is_websocket = matches!(by, By::WebSocket);
    let stream = || derp::connection(app.relay.clone(), by, place, app.settings.derp_bytes_per_second);
    if is_websocket {
        Ok(websocket::upgrade_any_origin(call, SUBPROTOCOL, stream))
    } else {
        // The stream writes the real head.
        Ok(websocket::raw(call, 200, stream()).header("Upgrade", "DERP"))
    }
}

/// How the relay is asked for, if it is.
fn way(call: &Call<'_>) -> Option<By> {
    if call.http_1_0 {
        return None;
    }
    let upgrade = call.upgrade.as_deref().unwrap_or_default();
    let mut asked = upgrade.split(',').map(str::trim);
    let fast_start = call.header("Derp-Fast-Start") == Some("1");
    let is_websocket = asked.clone().any(|one| one.eq_ignore_ascii_case("websocket"));
    if is_websocket {
        let mut offered = call.all("Sec-WebSocket-Protocol").flat_map(|line| line.split(','));
        // Without the subprotocol it is taken for the plain upgrade (coderd's tailnet/derp.go WithWebsocketSupport).
        let is_relay = offered.any(|one| one.trim().eq_ignore_ascii_case(SUBPROTOCOL));
        return Some(if is_relay { By::WebSocket } else { By::Upgrade { fast_start } });
    }
    asked.any(|one| one.eq_ignore_ascii_case("derp")).then_some(By::Upgrade { fast_start })
}

/// `GET /derp/latency-check`: agents and clients time it to choose a region.
pub(super) fn latency_check(_: &Call<'_>) -> Result<Reply, Error> {
    Ok(Reply::empty(200))
}

/// `GET /derp/probe`: the same for clients in browsers, which are of any origin.
pub(super) fn probe(_: &Call<'_>) -> Result<Reply, Error> {
    Ok(Reply::empty(200).header("Access-Control-Allow-Origin", "*"))
}
