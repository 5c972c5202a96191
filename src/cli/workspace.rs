//! `moorline workspace`.

use serde_json::Value;

use super::args::Workspace;
use super::context::Context;
use super::table::{instant, items, table, text};
use super::{Failure, Said, door};
use crate::domain::admin::Command;
use crate::domain::declare::DeclaredAgent;

pub(super) fn run(context: &Context, verb: Workspace) -> Result<Said, Failure> {
    match verb {
        Workspace::Add { name, owner, agent, os, arch, dir } => {
            let title = format!("{owner}/{name}");
            let agent =
                DeclaredAgent { name: agent, os, arch, directory: dir.unwrap_or_default(), ..DeclaredAgent::default() };
            let done = door::ask(context, Command::WorkspaceAdd { owner, name, agent: Box::new(agent) }, false)?;
            let said = format!("Workspace {title} is declared.\n{}", commands(context, &done.value, done.online));
            Ok(Said { text: said, value: done.value })
        }
        Workspace::List => {
            let value = door::ask(context, Command::WorkspaceList {}, false)?.value;
            Ok(Said { text: list(&value, &context.same_file()), value })
        }
        Workspace::Show { workspace } => {
            let value = door::ask(context, Command::WorkspaceShow { workspace }, false)?.value;
            Ok(Said { text: show(&value), value })
        }
        Workspace::Remove { workspace } => {
            let value = door::ask(context, Command::WorkspaceRemove { workspace }, false)?.value;
            let title = format!("{}/{}", text(&value, "owner"), text(&value, "name"));
            Ok(Said { text: format!("Workspace {title} was removed; its agents are refused from now on."), value })
        }
        Workspace::RotateToken { workspace } => {
            let title = workspace.to_string();
            let done = door::ask(context, Command::WorkspaceRotateToken { workspace }, false)?;
            let said = format!(
                "The old tokens of {title} are refused from now on.\n{}",
                commands(context, &done.value, done.online)
            );
            Ok(Said { text: said, value: done.value })
        }
    }
}

/// What to run on the machine of each agent whose token was just made.
fn commands(context: &Context, value: &Value, online: bool) -> String {
    let url = server_url(context, online);
    let mut said = String::new();
    for agent in items(value, "agents") {
        said.push_str(&format!(
            "\nRun this on the machine of agent {} (the token is shown only now):\n  CODER_AGENT_URL={url} CODER_AGENT_TOKEN={} coder agent\n",
            text(agent, "name"),
            text(agent, "token")
        ));
    }
    said
}

/// How machines and people reach the server, as well as it is known here.
pub(super) fn server_url(context: &Context, online: bool) -> String {
    let settings = &context.loaded.settings;
    let asked = if online { door::access_url(context) } else { None };
    asked.or_else(|| settings.access_url.clone()).unwrap_or_else(|| {
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", settings.listen)
    })
}

fn list(value: &Value, same: &str) -> String {
    let mut rows = Vec::new();
    for workspace in items(value, "workspaces") {
        let title = format!("{}/{}", text(workspace, "owner"), text(workspace, "name"));
        let agents = items(workspace, "agents");
        for agent in agents {
            rows.push(vec![
                format!("{title}.{}", text(agent, "name")),
                format!("{}/{}", text(agent, "operating_system"), text(agent, "architecture")),
                text(agent, "lifecycle_state"),
                instant(agent, "last_connected_at"),
                instant(agent, "disconnected_at"),
            ]);
        }
        if agents.is_empty() {
            rows.push(vec![title, "-".into(), "-".into(), "-".into(), "-".into()]);
        }
    }
    if rows.is_empty() {
        return format!("There are no workspaces.\nNext: moorline workspace add NAME --owner USER{same}");
    }
    table(&["workspace.agent", "system", "lifecycle", "last connected", "disconnected"], &rows)
}

fn show(value: &Value) -> String {
    let mut said = format!(
        "Workspace {}/{}\n  id         {}\n  created    {}\n  changed    {}\n  last used  {}\n",
        text(value, "owner"),
        text(value, "name"),
        text(value, "id"),
        instant(value, "created_at"),
        instant(value, "updated_at"),
        instant(value, "last_used_at"),
    );
    for agent in items(value, "agents") {
        said.push_str(&format!("\nAgent {}\n", text(agent, "name")));
        let system = format!("{}/{}", text(agent, "operating_system"), text(agent, "architecture"));
        for (name, value) in [
            ("id", text(agent, "id")),
            ("system", system),
            ("directory", text(agent, "directory")),
            ("version", text(agent, "version")),
            ("lifecycle", text(agent, "lifecycle_state")),
            ("first connected", instant(agent, "first_connected_at")),
            ("last connected", instant(agent, "last_connected_at")),
            ("disconnected", instant(agent, "disconnected_at")),
        ] {
            if !value.is_empty() {
                said.push_str(&format!("  {name:<16} {value}\n"));
            }
        }
        for script in items(agent, "scripts") {
            said.push_str(&format!("  {:<16} {}\n", "script", text(script, "display_name")));
        }
        for app in items(agent, "apps") {
            said.push_str(&format!("  {:<16} {} ({})\n", "app", text(app, "slug"), text(app, "health")));
        }
        for one in items(agent, "metadata") {
            said.push_str(&format!(
                "  {:<16} {}: {}\n",
                "metadata",
                text(one, "display_name"),
                text(one, "value").trim()
            ));
        }
    }
    said
}
