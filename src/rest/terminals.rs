//! Terminals in the browser.

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::inside::connected;
use super::reply::Reply;
use super::request::{Call, Query};
use super::{auth, json, websocket};
use crate::config::limits::TERMINALS_PER_USER;
use crate::domain::access::UserAuth;
use crate::domain::credential::{Credential, Reach};
use crate::domain::{Error, Fault, access, connection_log};
use crate::model::{AgentId, Timestamp};
use crate::store::agents::{self, Agent};
use crate::streams::Visitor;
use crate::streams::terminal::{self, BEGINNING_BYTES, Opening, Shell};

/// Rows and columns of a terminal whose client does not say (coderd/workspaceapps/proxy.go, v2.24.0).
const CELLS: u16 = 80;

/// A signed token may come as either (codersdk/client.go, v2.24.0).
const SIGNED_QUERY: &str = "coder_signed_app_token_23db1dde";
const SIGNED_COOKIE: &str = "coder_signed_app_token";

/// `GET …/{agent}/pty`.
pub(super) fn pty(call: &Call<'_>) -> Result<Reply, Error> {
    let app = &call.service.app;
    let (credential, agent) = app.store.read(|conn| -> Result<_, Error> {
        match signed(call, conn)? {
            Some(found) => Ok(found),
            None => {
                let seen = auth::visible_in_terminal(call, conn)?;
                access::note_use(app, &seen.user, &call.peer, Timestamp::now());
                Ok((Credential::of(&seen.user), seen.agent))
            }
        }
    })?;
    connected(call, &agent, Fault::Unreachable)?;
    let beginning = shell(&call.query)?;
    websocket::upgrade_if(call, || {
        let place = app.shells.take(credential.user, TERMINALS_PER_USER).ok_or_else(|| {
            let text = format!("Your account has {TERMINALS_PER_USER} terminals open already; close some of them.");
            Error::new(Fault::TooMany, text)
        })?;
        let visitor = Visitor::admit(app, credential, agent.id.0)?;
        let program = connection_log::program(call.header("User-Agent").unwrap_or(""), "");
        let opening = Opening { agent: agent.id, visitor, place, ip: call.peer.clone(), program, beginning };
        Ok(terminal::open(app.clone(), opening))
    })
}

/// Whose signed token the request brings, if it is good for this agent.
fn signed(call: &Call<'_>, conn: &Connection) -> Result<Option<(Credential, Agent)>, Error> {
    let Ok(agent) = Uuid::try_parse(call.param(0)).map(AgentId) else { return Ok(None) };
    let Some(token) = call.query.get(SIGNED_QUERY).or_else(|| call.cookie(SIGNED_COOKIE)) else { return Ok(None) };
    let now = Timestamp::now();
    let Some(credential) = call.service.app.terminals.verify(token, agent, now) else { return Ok(None) };
    let Some(standing) = credential.standing(conn, now)? else { return Ok(None) };
    if standing.reach(conn, agent)? != Reach::Allowed {
        return Ok(None);
    }
    Ok(agents::with_place(conn, agent)?.map(|(agent, _)| (credential, agent)))
}

#[derive(Deserialize)]
struct Wanted {
    url: String,
    #[serde(rename = "agentID")]
    agent: Uuid,
}

#[derive(Serialize)]
struct Signed {
    signed_token: String,
}

/// `POST …/applications/reconnecting-pty-signed-token`: for a terminal at another place under this server's
/// name, to which a browser does not send its cookie.
pub(super) fn sign(call: &Call<'_>, user: UserAuth) -> Result<Reply, Error> {
    let wanted: Wanted = json::body(&call.body)?;
    let wrong =
        |detail: String| Err(Error::new(Fault::Invalid, "The URL is not one of a terminal here.").field("url", detail));
    let Some((scheme, rest)) = wanted.url.split_once("://") else { return wrong("A URL is expected.".into()) };
    if !matches!(scheme, "ws" | "wss") {
        return wrong("Its scheme must be ws or wss.".into());
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let app = &call.service.app;
    let own = app.access_url.split_once("://").map_or("", |(_, own)| own.split('/').next().unwrap_or(""));
    if !host.eq_ignore_ascii_case(own) && Some(host) != call.header("Host") {
        return wrong(format!("Its host must be {own}."));
    }
    if path.split('?').next() != Some(&format!("api/v2/workspaceagents/{}/pty", wanted.agent)) {
        return wrong(format!("Its path must be /api/v2/workspaceagents/{}/pty.", wanted.agent));
    }
    match app.store.read(|conn| agents::owner(conn, AgentId(wanted.agent)).map_err(Error::from))? {
        Some(owner) if user.may_see(owner) => {}
        _ => return Err(Error::new(Fault::NotFound, "The agent does not exist, or you may not see it.")),
    }
    let token = app.terminals.mint(&Credential::of(&user), AgentId(wanted.agent), Timestamp::now());
    Reply::json(200, &Signed { signed_token: token })
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
