//! Workspaces: what there is, and what to type next.

use rusqlite::Connection;

use super::html::{Html, fill, text};
use super::{moment, page, see_other, sign_in_first, signed_in};
use crate::domain::access::UserAuth;
use crate::domain::agents::{self, Status};
use crate::domain::{Error, Fault, Shared};
use crate::model::Timestamp;
use crate::rest::reply::Reply;
use crate::rest::request::Call;
use crate::store::agents::{Agent, Lifecycle, of_workspace};
use crate::store::users;
use crate::store::workspaces::{self, Workspace};

/// Workspaces that the page shows; the command line lists the rest.
const SHOWN: usize = 200;

/// `GET /`.
pub(in crate::rest) fn home(call: &Call<'_>) -> Result<Reply, Error> {
    let Some(user) = signed_in(call)? else { return Ok(see_other(super::login::PATH)) };
    let app = &call.service.app;
    let (rows, count) = app.store.read(|conn| -> Result<_, Error> {
        let found = workspaces::list(conn, Some(user.user.id))?;
        let rows: Result<Vec<Html>, Error> =
            found.iter().take(SHOWN).map(|workspace| row(app, conn, workspace)).collect();
        Ok((rows?, found.len()))
    })?;
    let list = match count {
        0 => fill(include_str!("no-workspaces.html"), &[("name", text(&user.user.username))]),
        _ => {
            let more = if count > SHOWN { format!("These are the first {SHOWN} of {count}.") } else { String::new() };
            fill(include_str!("workspaces.html"), &[("rows", Html::join(rows)), ("left_out", text(&more))])
        }
    };
    let content =
        fill(include_str!("home.html"), &[("list", list), ("install", install(app)), ("url", text(&app.access_url))]);
    Ok(page(call, 200, "Workspaces", Some(&user), content))
}

/// How to get the command line, if it is to be had here.
fn install(app: &Shared) -> Html {
    if app.programs.are_offered() {
        fill(include_str!("install.html"), &[("url", text(&app.access_url))])
    } else {
        Html::default()
    }
}

fn row(app: &Shared, conn: &Connection, workspace: &Workspace) -> Result<Html, Error> {
    let agents = of_workspace(conn, workspace.id)?;
    let several = agents.len() > 1;
    let states = agents.iter().map(|agent| {
        let (word, class) = state(app, agent);
        let name = if several { format!("{}: ", agent.name) } else { String::new() };
        fill(include_str!("state.html"), &[("agent", text(&name)), ("word", text(word)), ("class", text(class))])
    });
    let target = match agents.first() {
        Some(agent) if several => format!("{}.{}", workspace.name, agent.name),
        _ => workspace.name.clone(),
    };
    Ok(fill(
        include_str!("workspace-row.html"),
        &[
            ("owner", text(&workspace.owner_name)),
            ("name", text(&workspace.name)),
            ("states", Html::join(states)),
            ("target", text(&target)),
        ],
    ))
}

/// How an agent is, in words for people, and the class that colours them.
pub(super) fn state(app: &Shared, agent: &Agent) -> (&'static str, &'static str) {
    let connection = agents::connection(agent, app.presence.of(agent.id), app.started_at, Timestamp::now());
    match (connection.status, agent.lifecycle_state) {
        (Status::Connected, Lifecycle::Created | Lifecycle::Starting) => ("starting", "wait"),
        (Status::Connected, Lifecycle::Ready) => ("connected", "good"),
        (Status::Connected, Lifecycle::StartError) => ("connected, but a start script failed", "bad"),
        (Status::Connected, Lifecycle::StartTimeout) => ("connected, but a start script takes too long", "bad"),
        (Status::Connected, _) => ("shutting down", "wait"),
        (Status::Connecting, _) => ("has not connected yet", "wait"),
        (Status::Timeout, _) => ("has not connected in time", "bad"),
        (Status::Disconnected, _) => ("disconnected", "bad"),
    }
}

/// `GET /@{owner}/{workspace}`: the command line and editors link to it.
pub(in crate::rest) fn workspace(call: &Call<'_>) -> Result<Reply, Error> {
    let Some(user) = signed_in(call)? else { return Ok(sign_in_first(&call.path)) };
    let app = &call.service.app;
    let content = app.store.read(|conn| {
        let Some(workspace) = find(conn, &user, call.param(0), call.param(1))? else {
            return Err(Error::new(Fault::NotFound, "The workspace does not exist, or you may not see it."));
        };
        let agents = of_workspace(conn, workspace.id)?;
        let parts = agents.iter().map(|agent| {
            let (word, class) = state(app, agent);
            let connection = agents::connection(agent, app.presence.of(agent.id), app.started_at, Timestamp::now());
            let seen = connection.last_connected_at.map_or_else(|| text("never"), moment);
            let version = if agent.version.is_empty() { "unknown" } else { &agent.version };
            let own = if workspace.owner_id == user.user.id { "" } else { workspace.owner_name.as_str() };
            let slash = if own.is_empty() { "" } else { "/" };
            let target = format!("{own}{slash}{}.{}", workspace.name, agent.name);
            fill(
                include_str!("agent.html"),
                &[
                    ("name", text(&agent.name)),
                    ("word", text(word)),
                    ("class", text(class)),
                    ("system", text(&format!("{}/{}", agent.operating_system, agent.architecture))),
                    ("seen", seen),
                    ("version", text(version)),
                    ("target", text(&target)),
                ],
            )
        });
        Ok(fill(
            include_str!("workspace.html"),
            &[
                ("title", text(&format!("{}/{}", workspace.owner_name, workspace.name))),
                ("agents", Html::join(parts)),
                ("url", text(&app.access_url)),
            ],
        ))
    })?;
    Ok(page(call, 200, &format!("{}/{}", call.param(0), call.param(1)), Some(&user), content))
}

fn find(conn: &Connection, user: &UserAuth, owner: &str, name: &str) -> Result<Option<Workspace>, Error> {
    let owner = if owner == "me" { Some(user.user.id) } else { users::by_username(conn, owner)?.map(|user| user.id) };
    let Some(owner) = owner.filter(|owner| user.may_see(*owner)) else { return Ok(None) };
    Ok(workspaces::by_name(conn, owner, name)?)
}

/// `GET /@{owner}/{workspace}/settings` and `…/terminal`: what is there of them is on the one page.
pub(in crate::rest) fn to_workspace(call: &Call<'_>) -> Result<Reply, Error> {
    // Clients write WORKSPACE.AGENT, too (JetBrains Toolbox 0.9.3).
    let name = call.param(1).split('.').next().unwrap_or_default();
    let good = |name: &str| crate::domain::names::check(name).is_ok();
    // What is below these is for programs, which take a page for an answer.
    let reserved = ["api", "bin"].contains(&call.param(0));
    if reserved || !good(call.param(0)) || !good(name) {
        return Err(Error::new(Fault::NotFound, "There is no such page on this server."));
    }
    Ok(see_other(format!("/@{}/{name}", call.param(0))))
}

/// `GET /templates` and `GET /templates/{name}`: editors have buttons for it.
pub(in crate::rest) fn templates(call: &Call<'_>) -> Result<Reply, Error> {
    let Some(user) = signed_in(call)? else { return Ok(sign_in_first("/templates")) };
    let content = fill(include_str!("templates.html"), &[("name", text(&user.user.username))]);
    Ok(page(call, 200, "Templates", Some(&user), content))
}

/// `GET /workspaces`: where the real server has them.
pub(in crate::rest) fn elsewhere(_: &Call<'_>) -> Result<Reply, Error> {
    Ok(see_other("/"))
}
