//! Terminals in the browser.

use uuid::Uuid;

use super::auth;
use super::inside::connected;
use super::reply::Reply;
use super::request::{Call, Query};
use super::websocket;
use crate::domain::credential::Credential;
use crate::domain::{Error, Fault, access, connection_log};
use crate::model::Timestamp;
use crate::streams::Visitor;
use crate::streams::terminal::{self, BEGINNING_BYTES, Opening, Shell};

/// Rows and columns of a terminal whose client does not say (coderd/workspaceapps/proxy.go, v2.24.0).
const CELLS: u16 = 80;

/// `GET …/{agent}/pty`.
pub(super) fn pty(call: &Call<'_>) -> Result<Reply, Error> {
    let app = &call.service.app;
    let seen = app.store.read(|conn| auth::visible_in_terminal(call, conn))?;
    access::note_use(app, &seen.user, &call.peer, Timestamp::now());
    connected(call, &seen, Fault::Unreachable)?;
    let beginning = shell(&call.query)?;
    let agent = seen.agent.id;
    websocket::upgrade_if(call, || {
        let visitor = Visitor::admit(app, Credential::of(&seen.user), agent.0)?;
        let program = connection_log::program(call.header("User-Agent").unwrap_or(""), "");
        Ok(terminal::open(app.clone(), Opening { agent, visitor, ip: call.peer.clone(), program, beginning }))
    })
}

/// What the agent is to be told, from the parameters.
fn shell(query: &Query) -> Result<Vec<u8>, Error> {
    let mut wrong = Vec::new();
    let id = Uuid::try_parse(query.text("reconnect")).ok();
    if id.is_none() {
        wrong.push(("reconnect", "The id of the terminal, a UUID, is needed.".to_owned()));
    }
    let [height, width] = ["height", "width"].map(|name| match (query.text(name), query.text(name).parse::<u64>()) {
        ("", _) => CELLS,
        // What is over 16 bits is cut, as the real server does.
        (_, Ok(cells)) => u16::try_from(cells & 0xffff).unwrap_or(CELLS),
        (_, Err(_)) => {
            wrong.push((name, "A number of cells is expected.".to_owned()));
            CELLS
        }
    });
    let text = |name: &str| query.text(name).to_owned();
    let shell = Shell {
        id: id.unwrap_or_default(),
        height,
        width,
        command: text("command"),
        container: text("container"),
        container_user: text("container_user"),
        backend_type: text("backend_type"),
    };
    match shell.beginning() {
        Some(beginning) if wrong.is_empty() => return Ok(beginning),
        Some(_) => {}
        None => wrong.push(("command", format!("All parameters together have at most {BEGINNING_BYTES} bytes."))),
    }
    let error = Error::new(Fault::Invalid, "A parameter of the terminal is not right.");
    Err(wrong.into_iter().fold(error, |error, (field, detail)| error.field(field, detail)))
}
