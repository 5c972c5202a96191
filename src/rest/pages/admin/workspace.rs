//! One workspace, and what an administrator may do with it.

use super::super::html::{Html, fill, text};
use super::super::moment;
use super::super::parts::{self, Desk, Form, Question, cell, link, table, when};
use super::workspaces::{PATH, last_seen, standing};
use crate::domain::instance::{Instance, agent_auth};
use crate::domain::workspaces::{self as rules, FullName, Issued};
use crate::domain::{Error, Fault, enrolment, tokens};
use crate::model::{WorkspaceId, hex};
use crate::rest::auth::no_such_workspace;
use crate::rest::bin;
use crate::rest::reply::Reply;
use crate::rest::request::Call;
use crate::store::agents::{self, Agent};
use crate::store::workspaces::{self, Workspace};
use crate::store::{clones, users};

const REMOVE: &[&str] = &["confirm"];
const ROTATE: &[&str] = &["agent"];

/// The workspace in the path, with its agents.
fn target(desk: &Desk<'_>) -> Result<(Workspace, Vec<Agent>), Error> {
    let call = desk.call;
    call.service.app.store.read(|conn| {
        let owner = users::by_username(conn, call.param(0))?.ok_or_else(no_such_workspace)?;
        let workspace = workspaces::by_name(conn, owner.id, call.param(1))?.ok_or_else(no_such_workspace)?;
        let agents = agents::of_workspace(conn, workspace.id)?;
        Ok((workspace, agents))
    })
}

fn title(workspace: &Workspace) -> String {
    format!("{}/{}", workspace.owner_name, workspace.name)
}

fn page_of(workspace: &Workspace) -> String {
    format!("{PATH}/{}", title(workspace))
}

fn full_name(workspace: &Workspace, agent: &str) -> FullName {
    let agent = Some(agent.to_owned()).filter(|agent| !agent.is_empty());
    FullName { owner: workspace.owner_name.clone(), workspace: workspace.name.clone(), agent }
}

/// `GET /admin/workspaces/{owner}/{workspace}`.
pub(in crate::rest) fn show(call: &Call<'_>) -> Result<Reply, Error> {
    parts::admin(call, |desk| {
        let app = &call.service.app;
        let (workspace, agents) = target(desk)?;
        let mut rows = Vec::new();
        for agent in &agents {
            let twins = app.store.read(|conn| clones::of(conn, agent.id).map_err(Error::from))?;
            let warning = twins.map_or_else(String::new, |seen| {
                format!(
                    "Two machines seem to be this agent, at {} and {}. Stop one of them, then rotate the token.",
                    seen.first_ip, seen.second_ip
                )
            });
            let parent = agents.iter().find(|parent| Some(parent.id) == agent.parent_id);
            let below = parent.map_or_else(String::new, |parent| format!("inside of {}", parent.name));
            let instance = Instance::of(agent).map_or_else(|| "–".to_owned(), |instance| instance.to_string());
            rows.push(vec![
                cell(text(&agent.name), &below),
                cell(standing(app, agent), &warning),
                text(&format!("{}/{}", agent.operating_system, agent.architecture)),
                text(if agent.version.is_empty() { "–" } else { &agent.version }),
                last_seen(app, agent).map_or_else(|| text("never"), when),
                text(&instance),
            ]);
        }
        let columns = ["Agent", "State", "System", "Version", "Last seen", "Cloud instance"];
        let title = title(&workspace);
        let values = [
            ("title", text(&title)),
            ("owner", link(&format!("/admin/users/{}", workspace.owner_name), &workspace.owner_name)),
            ("page", text(&format!("/@{title}"))),
            ("path", text(&page_of(&workspace))),
            ("created", moment(workspace.created_at)),
            ("used", moment(workspace.last_used_at)),
            ("agents", table("Agents", &columns, rows, "It has no agents.")),
        ];
        Ok(desk.page(200, &title, fill(include_str!("workspace.html"), &values)))
    })
}

/// `GET /admin/workspaces/{owner}/{workspace}/{deed}`: asks whether it shall be done.
pub(in crate::rest) fn ask(call: &Call<'_>) -> Result<Reply, Error> {
    parts::admin(call, |desk| {
        let (workspace, agents) = target(desk)?;
        match call.param(2) {
            "rotate" => Ok(ask_rotate(desk, 200, &workspace, &agents, Form::new(ROTATE))),
            "remove" => Ok(ask_remove(desk, 200, &workspace, Form::new(REMOVE))),
            _ => Err(Error::new(Fault::NotFound, "There is no such page on this server.")),
        }
    })
}

fn ask_rotate(desk: &Desk<'_>, status: u16, workspace: &Workspace, agents: &[Agent], form: Form<'_>) -> Reply {
    let declared = agents.iter().filter(|agent| agent.parent_id.is_none());
    let agents = declared.map(|agent| (agent.name.as_str(), agent.name.as_str()));
    let page = page_of(workspace);
    desk.ask(
        status,
        Question {
            title: &format!("Rotate the tokens of {}?", title(workspace)),
            to: &page,
            action: "rotate",
            text: "The old token is refused at once, so the machine is cut off until you have run the line there that \
                   is then shown.",
            fields: form.choice("agent", "Agent", "", "", std::iter::once(("", "All of them")).chain(agents)),
            problem: form.problem(),
            button: "Rotate",
            is_harmless: false,
            back: &page,
        },
    )
}

fn ask_remove(desk: &Desk<'_>, status: u16, workspace: &Workspace, form: Form<'_>) -> Reply {
    let page = page_of(workspace);
    let label = format!("To confirm, type the name: {}", workspace.name);
    let typed = " autocomplete=\"off\" autocapitalize=\"none\" spellcheck=\"false\" required";
    desk.ask(
        status,
        Question {
            title: &format!("Remove {}?", title(workspace)),
            to: &page,
            action: "remove",
            text: "Its agents are refused at once, and their connections end. The machine itself and its files are \
                   left alone. This cannot be undone.",
            fields: form.line("confirm", &label, "", "", typed),
            problem: form.problem(),
            button: "Remove",
            is_harmless: false,
            back: &page,
        },
    )
}

/// `POST /admin/workspaces/{owner}/{workspace}`: does it.
pub(in crate::rest) fn act(call: &Call<'_>) -> Result<Reply, Error> {
    parts::admin_form(call, |desk, fields| {
        let store = &call.service.app.store;
        let (workspace, agents) = target(desk)?;
        match fields.text("action") {
            "rotate" => {
                let name = full_name(&workspace, fields.text("agent"));
                match rules::rotate_tokens(store, &desk.by(), &name) {
                    Ok((id, issued)) => show_lines(desk, id, "The old tokens are refused from now on.", &issued),
                    Err(error) => {
                        let (status, error) = parts::mendable(error)?;
                        Ok(ask_rotate(desk, status, &workspace, &agents, Form::again(ROTATE, fields, &error)))
                    }
                }
            }
            "remove" => {
                if !fields.text("confirm").trim().eq_ignore_ascii_case(&workspace.name) {
                    let error = Error::new(Fault::Invalid, format!("{} was not removed.", title(&workspace)));
                    let error = error.field("confirm", "Type the name to confirm.");
                    return Ok(ask_remove(desk, 400, &workspace, Form::again(REMOVE, fields, &error)));
                }
                rules::remove(store, &desk.by(), &full_name(&workspace, ""))?;
                Ok(desk.done(PATH, &format!("{} was removed; its agents are refused.", title(&workspace))))
            }
            _ => Err(Error::new(Fault::Invalid, "The page has no such button.")),
        }
    })
}

/// What to run on the machines of agents whose tokens were just made. The tokens are shown only now.
pub(super) fn show_lines(desk: &Desk<'_>, id: WorkspaceId, said: &str, issued: &[Issued]) -> Result<Reply, Error> {
    let app = &desk.call.service.app;
    let (workspace, agents) = app.store.read(|conn| {
        let workspace = workspaces::by_id(conn, id)?.ok_or_else(no_such_workspace)?;
        Ok::<_, Error>((workspace, agents::of_workspace(conn, id)?))
    })?;
    let lines = issued.iter().map(|one| {
        let agent = agents.iter().find(|agent| agent.id == one.id);
        let system = agent.map_or("linux", |agent| agent.operating_system.as_str());
        let identity = agent.and_then(Instance::of).map_or_else(Html::default, |instance| {
            let auth = agent_auth(instance.cloud);
            let line = format!("CODER_AGENT_URL={} CODER_AGENT_AUTH={auth} coder agent", app.access_url);
            let values = [("instance", text(&instance.to_string())), ("line", text(&line))];
            fill(include_str!("enrol-identity.html"), &values)
        });
        let values = [
            ("name", text(&one.name)),
            ("line", text(&line(desk, system, &one.token.to_string()))),
            ("identity", identity),
        ];
        fill(include_str!("enrol-line.html"), &values)
    });
    let title = title(&workspace);
    let values = [
        ("title", text(&title)),
        ("said", text(said)),
        ("lines", Html::join(lines)),
        ("page", link(&page_of(&workspace), &format!("To {title}"))),
    ];
    Ok(desk.copyable("On the machine", fill(include_str!("enrol.html"), &values)))
}

/// A line that also installs the program, where this server has programs to give.
fn line(desk: &Desk<'_>, system: &str, token: &str) -> String {
    let url = &desk.call.service.app.access_url;
    let script = match enrolment::script(system) {
        "/enrol.ps1" => bin::enrol_powershell(desk.call),
        _ => bin::enrol_sh(desk.call),
    };
    match script {
        Ok(script) if script.status == 200 => enrolment::line(url, system, &hex(&tokens::hash(&script.body)), token),
        // The token exists by now and is not to be lost, whatever is wrong with the programs.
        _ => format!("CODER_AGENT_URL={url} CODER_AGENT_TOKEN={token} coder agent"),
    }
}
