//! `moorline apply`.

use std::path::Path;

use serde_json::Value;

use super::args::Apply;
use super::context::Context;
use super::table::{items, text};
use super::workspace::server_url;
use super::{Failure, Said, door};
use crate::config::limits;
use crate::domain::admin::Command;
use crate::domain::declare::{self, Format};

/// Lines about what stays although it is not declared; a file may be about a part of the fleet only.
const KEPT_SHOWN: usize = 20;

pub(super) fn run(context: &Context, arguments: &Apply) -> Result<Said, Failure> {
    let path = &arguments.declaration;
    let name = path.display().to_string();
    let format = Format::of(&name)
        .ok_or_else(|| Failure::usage(format!("{name}: the declaration's name must end in .toml or .json")))?;
    let source = read(path, limits::DECLARATION_BYTES)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let declaration = declare::read(&name, &source, format, &|file| password(&folder.join(file)))?;
    let (dry_run, prune) = (arguments.dry_run, arguments.prune);
    // A dry run must leave nothing behind, not even a new file.
    let create = arguments.create && !dry_run;
    let done = door::ask(context, Command::Apply { declaration, dry_run, prune }, create)?;
    Ok(Said { text: say(context, &done.value, dry_run, done.online), value: done.value })
}

fn read(path: &Path, most: usize) -> Result<String, Failure> {
    let name = path.display();
    let length = std::fs::metadata(path).map_err(|error| format!("{name}: {error}"))?.len();
    if length > u64::try_from(most).unwrap_or(u64::MAX) {
        return Err(format!("{name}: the declaration has {length} bytes; {most} are the most").into());
    }
    let bytes = std::fs::read(path).map_err(|error| format!("{name}: {error}"))?;
    String::from_utf8(bytes).map_err(|_| format!("{name}: it is not UTF-8 text").into())
}

/// The first line of a password file, which lies relative to the declaration.
fn password(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn say(context: &Context, value: &Value, dry_run: bool, online: bool) -> String {
    let changes = items(value, "changes");
    let mut said = String::new();
    let mut agent_updated = false;
    for change in changes {
        let (action, kind) = (text(change, "action"), text(change, "kind"));
        let fields: Vec<&str> = items(change, "fields").iter().filter_map(Value::as_str).collect();
        let fields = if fields.is_empty() { String::new() } else { format!(": {}", fields.join(", ")) };
        said.push_str(&format!("{action:<7} {kind:<10} {}{fields}\n", text(change, "name")));
        agent_updated |= action == "update" && kind == "agent";
    }
    let all_kept = items(value, "kept");
    for kept in all_kept.iter().take(KEPT_SHOWN) {
        let line =
            format!("{:<7} {:<10} {} ({})\n", "keep", text(kept, "kind"), text(kept, "name"), text(kept, "reason"));
        said.push_str(&line);
    }
    if let Some(more) = all_kept.len().checked_sub(KEPT_SHOWN).filter(|more| *more > 0) {
        said.push_str(&format!("keep    {more} more\n"));
    }
    said.push_str(&match (changes.len(), dry_run) {
        (0, _) => "Everything is as declared; nothing was changed.\n".to_owned(),
        (1, true) => "One change would be made; nothing was changed.\n".to_owned(),
        (1, false) => "One change was made.\n".to_owned(),
        (count, true) => format!("{count} changes would be made; nothing was changed.\n"),
        (count, false) => format!("{count} changes were made.\n"),
    });
    if agent_updated {
        said.push_str(
            "A running agent gets its new manifest at its next connection; restart it to run changed start scripts.\n",
        );
    }
    let mut tokens = String::new();
    for workspace in items(value, "workspaces") {
        for agent in items(workspace, "agents") {
            let token = text(agent, "token");
            if !token.is_empty() {
                let name = format!("{}/{}.{}", text(workspace, "owner"), text(workspace, "name"), text(agent, "name"));
                tokens.push_str(&format!("  {token}  {name}\n"));
            }
        }
    }
    if !tokens.is_empty() {
        let url = server_url(context, online);
        said.push_str(&format!("\nTokens of new agents, shown only now:\n{tokens}"));
        said.push_str(&format!("Run on each machine: CODER_AGENT_URL={url} CODER_AGENT_TOKEN=TOKEN coder agent\n"));
    }
    said
}
