//! Terminals, ports and containers: what the server would have to ask an agent itself. It cannot do that
//! yet, and says so at once; who asks for something that could not be answered anyway hears that first.

use rusqlite::Connection;
use uuid::Uuid;

use super::auth::{self, Visible};
use super::reply::Reply;
use super::request::Call;
use super::websocket;
use crate::domain::agents::Status;
use crate::domain::{Error, Fault, access, agents};
use crate::model::Timestamp;

/// `GET …/{agent}/listening-ports`: `coder show` asks for every agent, also for those that are away, and
/// prints the refusal as a warning (coder v2.24.0 cli/show.go).
pub(super) fn ports(call: &Call<'_>, _: &Connection, seen: Visible) -> Result<Reply, Error> {
    connected(call, &seen, Fault::Invalid)?;
    Err(unserved("The ports that are open on a machine cannot be listed by this version."))
}

/// `GET …/{agent}/containers` and `…/containers/watch`.
pub(super) fn containers(call: &Call<'_>, _: &Connection, seen: Visible) -> Result<Reply, Error> {
    if call.query.all("label").any(|label| label.split('=').count() != 2) {
        return Err(Error::new(Fault::Invalid, "A label is not of the form KEY=VALUE.")
            .field("label", "KEY=VALUE, or KEY= for any value."));
    }
    connected(call, &seen, Fault::Invalid)?;
    Err(unserved("The containers of a machine cannot be listed by this version."))
}

/// `POST …/{agent}/containers/devcontainers/{container}/recreate`.
pub(super) fn recreate(call: &Call<'_>, _: &Connection, seen: Visible) -> Result<Reply, Error> {
    connected(call, &seen, Fault::Invalid)?;
    Err(unserved("The development containers of a machine cannot be built anew by this version."))
}

/// `GET …/{agent}/pty`.
pub(super) fn pty(call: &Call<'_>) -> Result<Reply, Error> {
    let app = &call.service.app;
    let seen = app.store.read(|conn| auth::visible_in_terminal(call, conn))?;
    access::note_use(app, &seen.user, &call.peer, Timestamp::now());
    connected(call, &seen, Fault::Unreachable)?;
    let mut wrong = Error::new(Fault::Invalid, "A parameter of the terminal is not right.");
    if Uuid::try_parse(call.query.text("reconnect")).is_err() {
        wrong = wrong.field("reconnect", "The id of the terminal, a UUID, is needed.");
    }
    for size in ["height", "width"] {
        let text = call.query.text(size);
        if !text.is_empty() && text.parse::<u64>().is_err() {
            wrong = wrong.field(size, "A number of cells is expected.");
        }
    }
    if !wrong.fields.is_empty() {
        return Err(wrong);
    }
    websocket::upgrade_if(call, || Err(unserved("Terminals in the browser are not served by this version.")))
}

fn unserved(message: &str) -> Error {
    Error::new(Fault::Unimplemented, message)
}

/// Refuses for `fault` unless the agent is connected.
fn connected(call: &Call<'_>, seen: &Visible, fault: Fault) -> Result<(), Error> {
    let (app, agent) = (&call.service.app, &seen.agent);
    let now = agents::connection(agent, app.presence.of(agent.id), app.started_at, Timestamp::now());
    let state = match now.status {
        Status::Connected => return Ok(()),
        Status::Connecting => "connecting",
        Status::Disconnected => "disconnected",
        Status::Timeout => "timeout",
    };
    Err(Error::new(fault, format!("The agent must be connected for this; its state is {state:?}.")))
}
