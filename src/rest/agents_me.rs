//! What an agent asks about itself, with its own token.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::json;
use super::reply::Reply;
use super::request::Call;
use super::tailnet::check_version;
use super::websocket;
use crate::config::limits;
use crate::domain::access::AgentAuth;
use crate::domain::agent_logs::{self, Appended};
use crate::domain::shown::agents::LogSource;
use crate::domain::{Error, Fault, git_key};
use crate::model::{AgentId, LogSourceId, Timestamp};
use crate::ops::hub::Topic;
use crate::store::apps::{self, StatusState};
use crate::store::logs::{Level, Source};
use crate::store::{agents, users};
use crate::streams;

/// Bytes of an app status message (coder v2.24.0 coderd/workspaceagents.go).
const STATUS_MESSAGE_BYTES: usize = 160;
/// Characters of a log source's name; the real server's column is this wide.
const SOURCE_NAME_CHARS: usize = 127;

#[derive(Deserialize, Default)]
#[serde(default)]
struct AppStatus {
    app_slug: String,
    state: String,
    message: String,
    uri: String,
}

/// `PATCH …/me/app-status`.
pub(super) fn app_status(call: &Call<'_>, auth: AgentAuth) -> Result<Reply, Error> {
    let body: AppStatus = json::body(&call.body)?;
    let app = &call.service.app;
    let agent = auth.into_agent();
    let known = app.store.read(|conn| apps::of_agent(conn, agent.id).map_err(Error::from))?;
    if !known.iter().any(|one| one.slug == body.app_slug) {
        return Err(no_such_app());
    }
    if body.message.len() > STATUS_MESSAGE_BYTES {
        return Err(Error::new(Fault::Invalid, "The message is too long.")
            .detail("It may have 160 bytes.")
            .field("message", "At most 160 bytes."));
    }
    let Some(state) = StatusState::from_word(&body.state) else {
        return Err(Error::new(Fault::Invalid, "The state is not one that an app can have.")
            .detail("It is one of working, idle, complete and failure.")
            .field("state", "One of working, idle, complete and failure."));
    };
    app.store.write(move |write| -> Result<(), Error> {
        let status = (state, body.message.as_str(), body.uri.as_str());
        let kept =
            apps::insert_status(write, agent.id, &body.app_slug, status, Timestamp::now(), limits::APP_STATUSES)?;
        write.publish(Topic::Agent(agent.id));
        write.publish(Topic::Workspace(agent.workspace_id));
        if kept { Ok(()) } else { Err(no_such_app()) }
    })?;
    Reply::json(200, &Value::Null)
}

fn no_such_app() -> Error {
    Error::new(Fault::Invalid, "The agent has no such app.").detail("The app_slug is not the slug of one of its apps.")
}

#[derive(Serialize)]
struct KeyPair<'a> {
    public_key: &'a str,
    private_key: &'a str,
}

/// `GET …/me/gitsshkey`: the pair of the workspace's owner. `coder gitssh` asks for every git command.
pub(super) fn git_ssh_key(call: &Call<'_>, auth: AgentAuth) -> Result<Reply, Error> {
    let store = &call.service.app.store;
    let key = store.read(|conn| -> Result<_, Error> {
        let owner = agents::owner(conn, auth.agent().id)?;
        Ok(match owner {
            Some(owner) => users::git_ssh_key(conn, owner)?,
            None => None,
        })
    })?;
    let Some(key) = key else {
        return Err(Error::new(Fault::Internal, "The workspace's owner has no git SSH key.")
            .detail("Its owner can make one: coder publickey --reset."));
    };
    let private_key = git_key::open(store.sealer(), &key)?;
    Reply::json(200, &KeyPair { public_key: &key.public_key, private_key: &private_key })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NewSource {
    id: Uuid,
    display_name: String,
    icon: String,
}

/// `POST …/me/log-source`: 201 with what was posted, also for an id that is known already.
pub(super) fn log_source(call: &Call<'_>, auth: AgentAuth) -> Result<Reply, Error> {
    let body: NewSource = json::body(&call.body)?;
    if body.display_name.chars().count() > SOURCE_NAME_CHARS {
        return Err(Error::new(Fault::Invalid, "The name of the log source is too long.")
            .field("display_name", "At most 127 characters."));
    }
    let agent = auth.agent().id;
    let source = Source {
        id: LogSourceId(body.id),
        display_name: body.display_name,
        icon: body.icon,
        created_at: Timestamp::now(),
    };
    let stored = source.clone();
    call.service.app.store.write(move |write| agent_logs::add_source(write, agent, &stored))?;
    Reply::json(201, &LogSource::of(agent, &source))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NewLogs {
    log_source_id: Uuid,
    logs: Vec<NewLine>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NewLine {
    /// Checked, then ignored: lines get the server's time.
    created_at: String,
    level: String,
    output: String,
}

/// `PATCH …/me/logs`: 200 with `null`.
pub(super) fn append_logs(call: &Call<'_>, auth: AgentAuth) -> Result<Reply, Error> {
    let body: NewLogs = json::body(&call.body)?;
    if body.logs.is_empty() {
        return Err(Error::new(Fault::Invalid, "There are no log lines in the request."));
    }
    let mut lines: Vec<(Level, String)> = Vec::with_capacity(body.logs.len());
    for line in body.logs {
        if !line.created_at.is_empty() && Timestamp::parse(&line.created_at).is_err() {
            return Err(Error::new(Fault::Invalid, "A log line's created_at is not an RFC 3339 time.")
                .detail(line.created_at.chars().take(64).collect::<String>()));
        }
        lines.push((agent_logs::level(&line.level)?, line.output));
    }
    let agent: AgentId = auth.agent().id;
    let source = Some(LogSourceId(body.log_source_id));
    let appended =
        call.service.app.store.write(move |write| agent_logs::append(write, agent, source, lines, Timestamp::now()))?;
    match appended {
        Appended::Stored => Reply::json(200, &Value::Null),
        Appended::Overflowed { before } => {
            let error = Error::new(Fault::TooLarge, "The log lines of this agent have reached their limit.");
            Err(if before { error.detail("An earlier batch was refused for the same reason.") } else { error })
        }
    }
}

/// `GET …/me/reinit`: every agent since 2.23 waits here for ever; there is nothing to tell, as no
/// workspace is built in advance. Agents that ask with `wait` take 409 as "never" and stop asking.
pub(super) fn reinit(call: &Call<'_>, auth: AgentAuth) -> Result<Reply, Error> {
    if call.query.get("wait").is_some() {
        return Err(Error::new(Fault::Conflict, "This workspace is never claimed by somebody else."));
    }
    let app = call.service.app.clone();
    Ok(websocket::events(call, streams::reinit::wait(app, auth.agent().id)))
}

/// `GET …/me/rpc`: the agent's lifeline.
pub(super) fn rpc(call: &Call<'_>, auth: AgentAuth) -> Result<Reply, Error> {
    let version = match call.query.text("version") {
        // coder v2.7 sends none.
        "" => "2.0",
        version => version,
    };
    check_version(version)?;
    // Log shippers name another role or come without one; newer agents say `agent`, older ones nothing.
    let monitored = matches!(call.query.text("role"), "" | "agent");
    let (app, peer) = (call.service.app.clone(), call.peer.clone());
    let version = version.to_owned();
    Ok(websocket::upgrade(call, move || streams::rpc::agent(app, auth.into_agent(), version, monitored, peer)))
}
