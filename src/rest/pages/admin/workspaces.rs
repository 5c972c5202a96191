//! All workspaces, and how one is added.

use rusqlite::Connection;

use super::super::agents::Present;
use super::super::html::{Html, fill, text};
use super::super::parts::{self, Desk, Form, cell, link, state, table, when};
use super::workspace::show_lines;
use super::{SHOWN, left_out};
use crate::domain::declare::{ARCHITECTURES, DeclaredAgent, SYSTEMS};
use crate::domain::instance::Instance;
use crate::domain::{Error, Fault, Shared, workspaces as rules};
use crate::model::Timestamp;
use crate::rest::reply::Reply;
use crate::rest::request::{Call, Query};
use crate::store::agents::{Agent, of_workspace};
use crate::store::instances::Cloud;
use crate::store::workspaces::{self, Workspace};
use crate::store::{clones, users};

pub(super) const PATH: &str = "/admin/workspaces";

const FIELDS: &[&str] = &["owner", "name", "agent", "os", "arch", "directory", "cloud", "instance"];
/// The clouds, as the form has them.
const CLOUDS: [(&str, &str, Option<Cloud>); 4] = [
    ("", "None: the machine gets a token", None),
    ("aws", "AWS", Some(Cloud::Aws)),
    ("azure", "Azure", Some(Cloud::Azure)),
    ("google", "Google Cloud", Some(Cloud::Google)),
];

/// `GET /admin/workspaces`.
pub(in crate::rest) fn list(call: &Call<'_>) -> Result<Reply, Error> {
    parts::admin(call, |desk| {
        let app = &call.service.app;
        let asked = call.query.text("q").trim().to_lowercase();
        let (rows, count) = app.store.read(|conn| -> Result<_, Error> {
            let mut found = workspaces::list(conn, None)?;
            found.retain(|one| format!("{}/{}", one.owner_name, one.name).to_lowercase().contains(&asked));
            let rows: Result<Vec<_>, Error> = found.iter().take(SHOWN).map(|one| row(app, conn, one)).collect();
            Ok((rows?, found.len()))
        })?;
        let columns = ["Workspace", "Agents", "Last seen", "Cloud instance", "Last used"];
        let values = [
            ("query", text(call.query.text("q").trim())),
            ("table", table("Workspaces", &columns, rows, "There is no such workspace.")),
            ("left_out", text(&left_out(count))),
        ];
        Ok(desk.page(200, "Workspaces", fill(include_str!("workspaces.html"), &values)))
    })
}

fn row(app: &Shared, conn: &Connection, workspace: &Workspace) -> Result<Vec<Html>, Error> {
    let agents = of_workspace(conn, workspace.id)?;
    let several = agents.len() > 1;
    let mut states = Vec::new();
    for agent in &agents {
        let name = if several { agent.name.as_str() } else { "" };
        states.push(cell(standing(app, agent), name));
        if clones::of(conn, agent.id)?.is_some() {
            states.push(fill("<br>{{state}}", &[("state", state("two machines seem to be this agent", "bad"))]));
        }
        states.push(Html::of("<br>"));
    }
    states.pop();
    let seen = agents.iter().filter_map(|agent| last_seen(app, agent)).max();
    let bound: Vec<String> = agents.iter().filter_map(Instance::of).map(|instance| instance.to_string()).collect();
    let path = format!("{PATH}/{}/{}", workspace.owner_name, workspace.name);
    Ok(vec![
        link(&path, &format!("{}/{}", workspace.owner_name, workspace.name)),
        if agents.is_empty() { text("none") } else { Html::join(states) },
        seen.map_or_else(|| text("never"), when),
        text(if bound.is_empty() { "–".into() } else { bound.join(", ") }.as_str()),
        when(workspace.last_used_at),
    ])
}

/// How an agent is.
pub(super) fn standing(app: &Shared, agent: &Agent) -> Html {
    Present::of(app, agent, Timestamp::now()).state()
}

/// Its last sign of life.
pub(super) fn last_seen(app: &Shared, agent: &Agent) -> Option<Timestamp> {
    let live = app.presence.of(agent.id);
    crate::domain::agents::connection(agent, live, app.started_at, Timestamp::now()).last_connected_at
}

/// `GET /admin/workspaces/new`.
pub(in crate::rest) fn new(call: &Call<'_>) -> Result<Reply, Error> {
    parts::admin(call, |desk| show_form(desk, 200, Form::new(FIELDS)))
}

fn show_form(desk: &Desk<'_>, status: u16, form: Form<'_>) -> Result<Reply, Error> {
    let people = desk.call.service.app.store.read(|conn| users::list(conn).map_err(Error::from))?;
    let plain = " autocomplete=\"off\" autocapitalize=\"none\" spellcheck=\"false\"";
    let needed = " autocomplete=\"off\" autocapitalize=\"none\" spellcheck=\"false\" required";
    let same = |words: &'static [&'static str]| words.iter().map(|word| (*word, *word));
    let own = desk.user.user.username.clone();
    let owners = people.iter().map(|user| (user.username.as_str(), user.username.as_str()));
    let clouds = CLOUDS.iter().map(|(value, label, _)| (*value, *label));
    let instance_hint = "Like i-0123456789abcdef0 (AWS), a VM id (Azure), or a number (Google Cloud).";
    let values = [
        ("csrf", desk.csrf()),
        ("problem", form.problem()),
        ("owner", form.choice("owner", "Owner", &own, "", owners)),
        ("name", form.line("name", "Name", "", "1 to 32 letters, digits and single hyphens.", needed)),
        ("agent", form.line("agent", "Agent", "main", "What the machine is called inside of the workspace.", needed)),
        ("os", form.choice("os", "Operating system", "linux", "", same(SYSTEMS))),
        ("arch", form.choice("arch", "Architecture", "amd64", "", same(ARCHITECTURES))),
        ("directory", form.line("directory", "Working directory", "", "Empty: the home directory.", plain)),
        (
            "cloud",
            form.choice(
                "cloud",
                "Cloud",
                "",
                "A machine of a cloud can sign in by its identity, without token.",
                clouds,
            ),
        ),
        ("instance", form.line("instance", "Instance", "", instance_hint, plain)),
    ];
    Ok(desk.page(status, "Add a workspace", fill(include_str!("workspace-new.html"), &values)))
}

/// What was filled in.
fn declared(fields: &Query) -> Result<DeclaredAgent, Error> {
    let line = |name: &str| fields.text(name).trim().to_owned();
    let mut agent = DeclaredAgent {
        name: line("agent"),
        os: line("os"),
        arch: line("arch"),
        directory: line("directory"),
        ..DeclaredAgent::default()
    };
    let refuse = |field: &'static str, why: &str| {
        Err(Error::new(Fault::Invalid, "The workspace was not added.").field(field, why))
    };
    let instance = line("instance");
    let cloud = CLOUDS.iter().find(|(value, ..)| *value == fields.text("cloud")).and_then(|(_, _, cloud)| *cloud);
    match (cloud, instance.is_empty()) {
        (None, true) => {}
        (None, false) => return refuse("cloud", "Choose the cloud of the instance."),
        (Some(_), true) => return refuse("instance", "Name the instance, or choose no cloud."),
        (Some(Cloud::Aws), false) => agent.aws_instance_id = instance,
        (Some(Cloud::Azure), false) => agent.azure_vm_id = instance,
        (Some(Cloud::Google), false) => agent.google_instance_id = instance,
    }
    Ok(agent)
}

/// `POST /admin/workspaces/new`: adds it and shows once what to run on the machine.
pub(in crate::rest) fn add(call: &Call<'_>) -> Result<Reply, Error> {
    parts::admin_form(call, |desk, fields| {
        let (owner, name) = (fields.text("owner").trim(), fields.text("name").trim());
        let added = crate::domain::names::check(name)
            .map_err(|why| Error::new(Fault::Invalid, "The workspace was not added.").field("name", why))
            .and_then(|()| declared(fields))
            .and_then(|agent| {
                rules::add(&call.service.app.store, &desk.by(), owner, name, &agent).map_err(in_our_words)
            });
        match added {
            Ok((id, issued)) => show_lines(desk, id, "The workspace was added.", &[issued]),
            Err(error) => {
                let (status, error) = parts::mendable(error)?;
                show_form(desk, status, Form::again(FIELDS, fields, &error))
            }
        }
    })
}

/// Names of fields as the form has them. That of the workspace was looked at before.
fn in_our_words(mut error: Error) -> Error {
    for field in &mut error.fields {
        field.field = match field.field.as_str() {
            "name" => "agent".into(),
            "aws_instance_id" | "azure_vm_id" | "google_instance_id" => "instance".into(),
            _ => continue,
        };
    }
    error
}
