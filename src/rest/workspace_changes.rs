//! What people may change of a workspace, and refusals of everything else.
//!
//! A refusal is 400 with one sentence that says what to do instead: 401 makes the CLI advise to sign in
//! again, 403 and 409 make it try another way, 404 reads as "this server is too old"
//! (coder v2.24.0 cli/root.go, cli/start.go).

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::auth::{Seen, Target};
use super::json;
use super::organizations;
use super::reply::Reply;
use super::request::Call;
use super::workspaces::shown;
use crate::domain::access::UserAuth;
use crate::domain::{Error, Fault, connection_log, favorites, names};
use crate::model::AgentId;
use crate::store::workspaces::Workspace;

/// Shortest time until a stop that the real server takes.
const TTL_MS_MIN: i64 = 60_000;
/// Fields of a weekly schedule, without its time zone.
const SCHEDULE_FIELDS: usize = 5;

fn refusal(sentence: String) -> Error {
    Error::new(Fault::Invalid, sentence)
}

fn title(workspace: &Workspace) -> String {
    format!("{}/{}", workspace.owner_name, workspace.name)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Usage {
    agent_id: Uuid,
    app_name: String,
}

/// `POST …/workspaces/{workspace}/usage`: a client is at work there; it says so every minute. Which
/// agent and app it names is for the connection log, where only the client's own tunnel hears of it.
pub(super) fn usage(call: &Call<'_>, seen: Seen) -> Result<Reply, Error> {
    if !call.body.is_empty() {
        let Usage { agent_id, app_name } = json::body(&call.body)?;
        let person = seen.user.user.id;
        connection_log::used(&call.service.app, person, AgentId(agent_id), &call.peer, &app_name)?;
    }
    favorites::used(&call.service.app.store, &seen.workspace)?;
    Ok(Reply::empty(204))
}

/// `PUT …/workspaces/{workspace}/favorite`.
pub(super) fn favorite(call: &Call<'_>, seen: Seen) -> Result<Reply, Error> {
    favorites::set(&call.service.app.store, seen.user.user.id, &seen.workspace, true)?;
    Ok(Reply::empty(204))
}

/// `DELETE …/workspaces/{workspace}/favorite`.
pub(super) fn unfavorite(call: &Call<'_>, seen: Seen) -> Result<Reply, Error> {
    favorites::set(&call.service.app.store, seen.user.user.id, &seen.workspace, false)?;
    Ok(Reply::empty(204))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Rename {
    name: String,
}

/// `PATCH …/workspaces/{workspace}`.
pub(super) fn rename(call: &Call<'_>, seen: Seen) -> Result<Reply, Error> {
    let body: Rename = json::body(&call.body)?;
    if body.name.is_empty() || body.name == seen.workspace.name {
        return Ok(Reply::empty(204));
    }
    Err(refusal(format!(
        "Workspace {} keeps the name with which it was declared; ask an administrator to declare it anew under another.",
        title(&seen.workspace)
    )))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Autostart {
    schedule: Option<String>,
}

/// `PUT …/workspaces/{workspace}/autostart`: no schedule is what there is already.
pub(super) fn autostart(call: &Call<'_>, seen: Seen) -> Result<Reply, Error> {
    let body: Autostart = json::body(&call.body)?;
    let schedule = body.schedule.unwrap_or_default();
    let fields = schedule.split_whitespace().filter(|field| !field.starts_with("CRON_TZ=")).count();
    match fields {
        0 => Ok(Reply::empty(204)),
        SCHEDULE_FIELDS => Err(no_schedule("started", &seen.workspace)),
        _ => Err(Error::new(Fault::Invalid, "The schedule cannot be used.")
            .field("schedule", "It has five fields, with CRON_TZ=ZONE before them if need be.")),
    }
}

fn no_schedule(done: &str, workspace: &Workspace) -> Error {
    refusal(format!(
        "Workspace {} is a declared machine, which is not {done} by a schedule of this server; set one up where the machine is hosted.",
        title(workspace)
    ))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Ttl {
    ttl_ms: Option<i64>,
}

/// `PUT …/workspaces/{workspace}/ttl`: no time until a stop is what there is already.
pub(super) fn ttl(call: &Call<'_>, seen: Seen) -> Result<Reply, Error> {
    let body: Ttl = json::body(&call.body)?;
    match body.ttl_ms {
        None | Some(0) => Ok(Reply::empty(204)),
        Some(..TTL_MS_MIN) => Err(Error::new(Fault::Invalid, "The time until a stop cannot be used.")
            .field("ttl_ms", "It is a minute at least.")),
        Some(_) => Err(no_schedule("stopped", &seen.workspace)),
    }
}

/// `PUT …/workspaces/{workspace}/extend`.
pub(super) fn extend(_: &Call<'_>, seen: Seen) -> Result<Reply, Error> {
    Err(refusal(format!(
        "Workspace {} has no deadline that could be moved: this server never stops it.",
        title(&seen.workspace)
    )))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Dormant {
    dormant: bool,
}

/// `PUT …/workspaces/{workspace}/dormant`: awake is what it is already.
pub(super) fn dormant(call: &Call<'_>, seen: Seen) -> Result<Reply, Error> {
    let body: Dormant = json::body(&call.body)?;
    if body.dormant {
        return Err(refusal(format!(
            "Workspace {} is a declared machine, which this server cannot put to sleep; shut the machine down instead.",
            title(&seen.workspace)
        )));
    }
    call.service.app.store.read(|conn| shown(call, conn, seen))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AutomaticUpdates {
    automatic_updates: String,
}

/// `PUT …/workspaces/{workspace}/autoupdates`: never is what there is already.
pub(super) fn automatic_updates(call: &Call<'_>, seen: Seen) -> Result<Reply, Error> {
    let body: AutomaticUpdates = json::body(&call.body)?;
    match body.automatic_updates.as_str() {
        "never" => Ok(Reply::empty(204)),
        "always" => Err(refusal(format!(
            "Workspace {} is a declared machine, which has no template to update from; update the machine itself.",
            title(&seen.workspace)
        ))),
        _ => Err(Error::new(Fault::Invalid, "The choice cannot be used.")
            .field("automatic_updates", "It is always or never.")),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NewBuild {
    transition: String,
}

/// `POST …/workspaces/{workspace}/builds`: start, stop, update and delete of the CLI.
pub(super) fn build(call: &Call<'_>, seen: Seen) -> Result<Reply, Error> {
    let body: NewBuild = json::body(&call.body)?;
    let title = title(&seen.workspace);
    Err(match body.transition.as_str() {
        "start" => refusal(format!(
            "This server cannot start or rebuild the machine of workspace {title}; start the machine itself, and its agent connects."
        )),
        "stop" => {
            refusal(format!("This server cannot stop the machine of workspace {title}; shut the machine down itself."))
        }
        "delete" => refusal(format!(
            "Workspace {title} was declared by the operator of this server; to have it removed, ask an administrator to run: moorline workspace remove {title}"
        )),
        _ => {
            Error::new(Fault::Invalid, "The transition is not one.").field("transition", "It is start, stop or delete.")
        }
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NewWorkspace {
    name: String,
    template_id: Uuid,
    template_version_id: Uuid,
}

/// `POST …/users/{user}/workspaces`: `coder create` of newer versions and the web site of the real server.
pub(super) fn create(call: &Call<'_>, target: Target) -> Result<Reply, Error> {
    Err(new_workspace(call, &target.user.username)?)
}

/// `POST …/organizations/{organization}/members/{user}/workspaces`: the same.
pub(super) fn create_as_member(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    organizations::check(call, call.param(0))?;
    let owner = match call.param(1) {
        "me" => auth.user.username.as_str(),
        name => name,
    };
    Err(new_workspace(call, owner)?)
}

fn new_workspace(call: &Call<'_>, owner: &str) -> Result<Error, Error> {
    let body: NewWorkspace = json::body(&call.body)?;
    let mut error = Error::new(Fault::Invalid, "The workspace cannot be made as asked.");
    if body.template_id.is_nil() && body.template_version_id.is_nil() {
        error = error
            .field("template_id", "It is required without a template_version_id.")
            .field("template_version_id", "It is required without a template_id.");
    }
    if let Err(why) = names::check(&body.name) {
        error = error.field("name", why);
    }
    if !error.fields.is_empty() {
        return Err(error);
    }
    let ids = call.service.app.ids();
    if !body.template_id.is_nil() && body.template_id != ids.template {
        return Err(Error::new(Fault::Invalid, format!("There is no template {}.", body.template_id))
            .field("template_id", "No template has this id."));
    }
    Ok(declared_only(owner, &body.name))
}

/// Says how a workspace comes to be.
pub(super) fn declared_only(owner: &str, name: &str) -> Error {
    let name = if names::check(name).is_ok() { name } else { "NAME" };
    let owner = if names::check(owner).is_ok() { owner } else { "OWNER" };
    refusal(format!(
        "Workspaces are declared by the operator of this server; to have one, ask an administrator to run: moorline workspace add {name} --owner {owner}"
    ))
}

/// Says that a machine which is there cannot be built again.
pub(super) fn not_built(workspace: &Workspace) -> Error {
    refusal(format!(
        "This server cannot start or restart the machine of workspace {}; restart the machine itself, and its agent connects.",
        title(workspace)
    ))
}

/// `POST …/workspaces/{workspace}/port-share` and `DELETE` of it.
pub(super) fn share_port(call: &Call<'_>, _: Seen) -> Result<Reply, Error> {
    json::body::<serde_json::Map<String, Value>>(&call.body)?;
    Err(refusal(
        "This server does not share ports of workspaces; forward the port to your own machine: coder port-forward"
            .into(),
    ))
}
