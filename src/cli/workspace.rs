//! `moorline workspace`.

use std::collections::HashMap;

use serde_json::Value;

use super::args::{InstanceFlags, Workspace};
use super::context::Context;
use super::door::Done;
use super::table::{instant, items, table, text};
use super::{Failure, Said, door};
use crate::domain::admin::Command;
use crate::domain::declare::DeclaredAgent;
use crate::domain::instance::Instance;
use crate::domain::workspaces::FullName;
use crate::domain::{enrolment, tokens};
use crate::model::hex;
use crate::store::instances::Cloud;

pub(super) fn run(context: &Context, verb: Workspace) -> Result<Said, Failure> {
    match verb {
        Workspace::Add { name, owner, agent, os, arch, dir, instance } => {
            let title = format!("{owner}/{name}");
            let agent = DeclaredAgent {
                name: agent,
                os,
                arch,
                directory: dir.unwrap_or_default(),
                aws_instance_id: instance.aws_instance_id.unwrap_or_default(),
                azure_vm_id: instance.azure_vm_id.unwrap_or_default(),
                google_instance_id: instance.google_instance_id.unwrap_or_default(),
                ..DeclaredAgent::default()
            };
            let workspace = FullName { owner: owner.clone(), workspace: name.clone(), agent: None };
            let done = door::ask(context, Command::WorkspaceAdd { owner, name, agent: Box::new(agent) }, false)?;
            let said = format!("Workspace {title} is declared.\n{}", commands(context, workspace, &done));
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
        Workspace::Bind { workspace, instance } => {
            let instance = instance.into_instance().ok_or_else(|| Failure::usage("name the machine"))?;
            let done = door::ask(context, Command::WorkspaceBind { workspace, instance }, false)?;
            let url = server_url(context, done.online);
            Ok(Said { text: bound(&done.value, &url), value: done.value })
        }
        Workspace::Unbind { workspace } => {
            let value = door::ask(context, Command::WorkspaceUnbind { workspace }, false)?.value;
            let name = agent_name(&value);
            let text = format!(
                "{name} is no longer bound to {}. Its token stays good; to cut the machine off, run:\n  moorline workspace rotate-token {name}{}",
                text(&value, "was"),
                context.same_file()
            );
            Ok(Said { text, value })
        }
        Workspace::RotateToken { workspace } => {
            let title = workspace.to_string();
            let done = door::ask(context, Command::WorkspaceRotateToken { workspace: workspace.clone() }, false)?;
            let said =
                format!("The old tokens of {title} are refused from now on.\n{}", commands(context, workspace, &done));
            Ok(Said { text: said, value: done.value })
        }
    }
}

impl InstanceFlags {
    fn into_instance(self) -> Option<Instance> {
        let ids = [
            (Cloud::Aws, self.aws_instance_id),
            (Cloud::Azure, self.azure_vm_id),
            (Cloud::Google, self.google_instance_id),
        ];
        ids.into_iter().find_map(|(cloud, id)| Some(Instance { cloud, id: id? }))
    }
}

fn agent_name(value: &Value) -> String {
    format!("{}/{}.{}", text(value, "owner"), text(value, "workspace"), text(value, "agent"))
}

fn bound(value: &Value, url: &str) -> String {
    let mut said = String::new();
    if let Some(instance) = value.get("instance") {
        let name = agent_name(value);
        said.push_str(&format!("{name} is bound to {}:{}.\n", text(instance, "cloud"), text(instance, "id")));
        for other in items(instance, "also_bound").iter().filter_map(Value::as_str) {
            said.push_str(&format!("{other} is bound to it too, and is passed over from now on.\n"));
        }
        said.push_str(&format!(
            "\nRun this on the machine; it needs no token:\n  CODER_AGENT_URL={url} CODER_AGENT_AUTH={} coder agent\n",
            text(instance, "agent_auth")
        ));
    }
    said
}

/// What to run on the machine of each agent whose token was just made: a line that also installs the
/// program, where a running server has programs to give.
fn commands(context: &Context, workspace: FullName, done: &Done) -> String {
    let url = server_url(context, done.online);
    let agents = items(&done.value, "agents");
    let scripts = if done.online { Scripts::of(context, workspace, agents) } else { Ok(None) };
    let mut said = String::new();
    let scripts = scripts.unwrap_or_else(|why| {
        said = format!("{why}\n");
        None
    });
    for agent in agents {
        let (name, token) = (text(agent, "name"), text(agent, "token"));
        let line = match scripts.as_ref().and_then(|scripts| scripts.line(&url, &name, &token)) {
            Some(line) => line,
            None => format!("CODER_AGENT_URL={url} CODER_AGENT_TOKEN={token} coder agent"),
        };
        said.push_str(&format!("\nRun this on the machine of agent {name} (the token is shown only now):\n  {line}\n"));
    }
    said
}

/// The scripts of a running server, and for which system each agent was declared.
struct Scripts {
    systems: HashMap<String, String>,
    /// SHA-256 by path.
    pins: HashMap<&'static str, String>,
}

impl Scripts {
    /// `None` when the server has no programs for machines.
    fn of(context: &Context, mut workspace: FullName, agents: &[Value]) -> Result<Option<Scripts>, String> {
        if door::script(context, enrolment::script(""))?.is_none() {
            return Ok(None);
        }
        workspace.agent = None;
        let shown = door::ask(context, Command::WorkspaceShow { workspace }, false);
        let shown = shown.map_err(|failure| failure.text)?.value;
        let mut scripts = Scripts { systems: HashMap::new(), pins: HashMap::new() };
        for agent in items(&shown, "agents") {
            scripts.systems.insert(text(agent, "name"), text(agent, "operating_system"));
        }
        for agent in agents {
            let Some(system) = scripts.systems.get(&text(agent, "name")) else { continue };
            let path = enrolment::script(system);
            if !scripts.pins.contains_key(path)
                && let Some(script) = door::script(context, path)?
            {
                scripts.pins.insert(path, hex(&tokens::hash(&script)));
            }
        }
        Ok(Some(scripts))
    }

    fn line(&self, url: &str, agent: &str, token: &str) -> Option<String> {
        let system = self.systems.get(agent)?;
        Some(enrolment::line(url, system, self.pins.get(enrolment::script(system))?, token))
    }
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
    let mut notes = String::new();
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
            if let Some(note) = clones(agent) {
                notes.push_str(&format!("\n{title}.{}: {note}\n", text(agent, "name")));
            }
        }
        if agents.is_empty() {
            rows.push(vec![title, "-".into(), "-".into(), "-".into(), "-".into()]);
        }
    }
    if rows.is_empty() {
        return format!("There are no workspaces.\nNext: moorline workspace add NAME --owner USER{same}");
    }
    table(&["workspace.agent", "system", "lifecycle", "last connected", "disconnected"], &rows) + &notes
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
            ("machine", machine(agent)),
            ("WARNING", clones(agent).unwrap_or_default()),
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

/// The cloud instance of an agent.
fn machine(agent: &Value) -> String {
    let Some(instance) = agent.get("instance").filter(|instance| !instance.is_null()) else { return String::new() };
    let mut said = format!("{}:{}", text(instance, "cloud"), text(instance, "id"));
    let others: Vec<&str> = items(instance, "also_bound").iter().filter_map(Value::as_str).collect();
    if !others.is_empty() {
        let counts = instance.get("counts").and_then(Value::as_bool).unwrap_or(true);
        let which = if counts { "this agent was bound last and counts" } else { "another was bound later and counts" };
        said.push_str(&format!(" (also bound: {}; {which})", others.join(", ")));
    }
    said
}

/// What is said of an agent that two machines seem to be.
fn clones(agent: &Value) -> Option<String> {
    let clones = agent.get("clones").filter(|clones| !clones.is_null())?;
    let addresses: Vec<&str> = items(clones, "addresses").iter().filter_map(Value::as_str).collect();
    Some(format!(
        "two machines seem to be this agent, at {} (seen {}); stop one of them, then bind the agent anew or rotate its token",
        addresses.join(" and "),
        instant(clones, "seen_at")
    ))
}
