//! An agent as people see it.

use rusqlite::Connection;
use serde::Serialize;
use serde_json::Value;

use super::auth::Visible;
use super::reply::Reply;
use super::request::Call;
use super::websocket;
use crate::config::limits;
use crate::domain::access::UserAuth;
use crate::domain::credential::Credential;
use crate::domain::inventory::{self, Look};
use crate::domain::shown::agents::LogLine;
use crate::domain::{Error, Fault};
use crate::store::logs;
use crate::streams::{self, Form, Visitor};

/// Lines read from the store at once.
const PAGE: i64 = 2_000;

/// `GET …/{agent}`: the CLI asks every 500 ms while it waits (v2.24.0 cli/cliui/agent.go).
pub(super) fn show(call: &Call<'_>, conn: &Connection, seen: Visible) -> Result<Reply, Error> {
    let place = seen.place;
    let look = Look::new(&call.service.app);
    let furnished = inventory::furnish(conn, seen.agent)?;
    Reply::json(200, &look.agent(&furnished, &place.workspace_name, &place.owner_name))
}

#[derive(Serialize)]
struct ConnectionInfo<'a> {
    derp_map: Value,
    derp_force_websockets: bool,
    disable_direct_connections: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    hostname_suffix: &'a str,
}

/// `GET …/{agent}/connection`: how to reach it, whatever its state.
pub(super) fn connection(call: &Call<'_>, _: &Connection, _: Visible) -> Result<Reply, Error> {
    connection_info(call)
}

/// `GET …/connection`: the same without an agent; `coder ssh --stdio` fails without it.
pub(super) fn connection_of_none(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    connection_info(call)
}

fn connection_info(call: &Call<'_>) -> Result<Reply, Error> {
    let app = &call.service.app;
    let settings = &app.settings;
    Reply::json(
        200,
        &ConnectionInfo {
            derp_map: app.derp_map.now().json(),
            derp_force_websockets: settings.derp_force_websockets,
            disable_direct_connections: settings.disable_direct_connections,
            hostname_suffix: &settings.hostname_suffix,
        },
    )
}

/// `GET …/{agent}/logs` and its older name `…/startup-logs`: lines with `after < id < before`, or a
/// stream of them. `before` is documented upstream and ignored there; here it counts, except in a
/// stream, which has no end. `no_compression` means nothing: no answer is ever compressed.
pub(super) fn logs(call: &Call<'_>, conn: &Connection, seen: Visible) -> Result<Reply, Error> {
    let after = bound(call, "after")?.unwrap_or(0);
    let before = bound(call, "before")?.unwrap_or(i64::MAX);
    let agent = seen.agent.id;
    if call.query.get("follow").is_some() {
        let app = call.service.app.clone();
        return websocket::upgrade_if(call, || {
            let visitor = Visitor::admit(&app, Credential::of(&seen.user), agent.0)?;
            Ok(streams::logs::follow(app, agent, after, visitor))
        });
    }
    let mut body = vec![b'['];
    let mut last = after;
    loop {
        let page = logs::lines(conn, agent, last, before, PAGE)?;
        let full = page.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX);
        for line in &page {
            if body.len() > 1 {
                body.push(b',');
            }
            serde_json::to_writer(&mut body, &LogLine::of(line)).map_err(|error| {
                Error::new(Fault::Internal, "The log lines cannot be written.").detail(error.to_string())
            })?;
            last = line.id;
        }
        // The rest is a request with `after` away.
        if !full || body.len() > limits::LOGS_ANSWER_BYTES {
            break;
        }
    }
    body.push(b']');
    Ok(Reply::json_body(200, body))
}

fn bound(call: &Call<'_>, name: &'static str) -> Result<Option<i64>, Error> {
    match call.query.text(name) {
        "" => Ok(None),
        text => match text.parse::<i64>() {
            Ok(number) if number >= 0 => Ok(Some(number)),
            _ => Err(Error::new(Fault::Invalid, format!("The parameter {name} is not an integer of 0 or more."))
                .field(name, "An integer of 0 or more.")),
        },
    }
}

/// `GET …/{agent}/watch-metadata`.
pub(super) fn watch_metadata(call: &Call<'_>, _: &Connection, seen: Visible) -> Result<Reply, Error> {
    metadata(call, &seen, Form::Events)
}

/// `GET …/{agent}/watch-metadata-ws`.
pub(super) fn watch_metadata_ws(call: &Call<'_>, _: &Connection, seen: Visible) -> Result<Reply, Error> {
    metadata(call, &seen, Form::WebSocket)
}

fn metadata(call: &Call<'_>, seen: &Visible, form: Form) -> Result<Reply, Error> {
    let (app, agent) = (call.service.app.clone(), seen.agent.id);
    websocket::one_way(call, form, || {
        let visitor = Visitor::admit(&app, Credential::of(&seen.user), agent.0)?;
        Ok(streams::metadata::watch(app, agent, visitor, form))
    })
}
