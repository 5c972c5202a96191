//! The list of one's workspaces, and what to type next.

use std::collections::HashMap;

use super::agents::Present;
use super::html::{Html, fill, text};
use super::{Frame, page, see_other, sign_in_first, signed_in};
use crate::domain::{Error, Shared};
use crate::model::{AgentId, Timestamp, WorkspaceId};
use crate::rest::reply::Reply;
use crate::rest::request::Call;
use crate::store::agents::{self, Agent};
use crate::store::metadata::{self, Metadata};
use crate::store::workspaces::{self, Workspace};

/// Workspaces that the page shows; the command line lists the rest.
const SHOWN: usize = 200;

/// Pieces of metadata of an agent that the list shows; the workspace's own page shows the rest.
const METADATA_SHOWN: usize = 6;

/// `GET /`. Its script asks for it again every few seconds.
pub(in crate::rest) fn home(call: &Call<'_>) -> Result<Reply, Error> {
    let Some(user) = signed_in(call)? else { return Ok(see_other(super::login::PATH)) };
    let app = &call.service.app;
    let list = app.store.read(|conn| -> Result<_, Error> {
        let mut found = workspaces::list(conn, Some(user.user.id))?;
        let count = found.len();
        found.truncate(SHOWN);
        let ids: Vec<WorkspaceId> = found.iter().map(|workspace| workspace.id).collect();
        let agents = agents::of_workspaces(conn, &ids)?;
        let ids: Vec<AgentId> = agents.iter().map(|agent| agent.id).collect();
        Ok(List { count, workspaces: found, metadata: grouped(metadata::of_agents(conn, &ids)?), agents })
    })?;
    let content = fill(
        include_str!("home.html"),
        &[("list", list.show(app, &user.user.username)), ("install", install(app)), ("url", text(&app.access_url))],
    );
    Ok(Frame::of(call, &user).live("Workspaces", "live.js", content))
}

fn grouped(rows: Vec<(AgentId, Metadata)>) -> HashMap<AgentId, Vec<Metadata>> {
    let mut groups: HashMap<AgentId, Vec<Metadata>> = HashMap::new();
    for (agent, row) in rows {
        groups.entry(agent).or_default().push(row);
    }
    groups
}

struct List {
    /// Of all, shown or not.
    count: usize,
    workspaces: Vec<Workspace>,
    /// Of all the workspaces.
    agents: Vec<Agent>,
    metadata: HashMap<AgentId, Vec<Metadata>>,
}

impl List {
    fn show(&self, app: &Shared, username: &str) -> Html {
        if self.count == 0 {
            return fill(include_str!("no-workspaces.html"), &[("name", text(username))]);
        }
        let now = Timestamp::now();
        let rows = self.workspaces.iter().map(|workspace| self.row(app, workspace, now));
        let more =
            if self.count > SHOWN { format!("These are the first {SHOWN} of {}.", self.count) } else { String::new() };
        fill(include_str!("workspaces.html"), &[("rows", Html::join(rows)), ("left_out", text(&more))])
    }

    fn row(&self, app: &Shared, workspace: &Workspace, now: Timestamp) -> Html {
        let agents: Vec<&Agent> = self.agents.iter().filter(|agent| agent.workspace_id == workspace.id).collect();
        let several = agents.len() > 1;
        let agents = agents.into_iter().map(|agent| {
            let (target, label) = if several {
                let label = fill(include_str!("agent-name.html"), &[("name", text(&agent.name))]);
                (format!("{}.{}", workspace.name, agent.name), label)
            } else {
                (workspace.name.clone(), Html::default())
            };
            let present = Present::of(app, agent, now);
            let metadata = self.metadata.get(&agent.id).map_or(&[][..], Vec::as_slice);
            fill(
                include_str!("workspace-agent.html"),
                &[
                    ("agent", label),
                    ("id", text(&agent.id.to_string())),
                    ("title", text(&target)),
                    ("state", present.state()),
                    ("seen", present.seen()),
                    ("terminal", text(&format!("/@{}/{target}/terminal", workspace.owner_name))),
                    ("metadata", present.metadata(metadata.get(..METADATA_SHOWN).unwrap_or(metadata))),
                    ("target", text(&target)),
                ],
            )
        });
        fill(
            include_str!("workspace-row.html"),
            &[("owner", text(&workspace.owner_name)), ("name", text(&workspace.name)), ("agents", Html::join(agents))],
        )
    }
}

/// How to get the command line, if it is to be had here.
fn install(app: &Shared) -> Html {
    if app.programs.are_offered() {
        fill(include_str!("install.html"), &[("url", text(&app.access_url))])
    } else {
        Html::default()
    }
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
