//! `moorline plugin list` and `moorline plugin egress`.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::args::Egress;
use super::super::context::Context;
use super::super::table::{instant, items, table, text};
use super::super::{Failure, Said, door};
use crate::config::duration;
use crate::config::providers::ProviderConfig;
use crate::domain::admin::Command;
use crate::plugins;

pub(super) fn providers(context: &Context) -> Result<Said, Failure> {
    let (online, providers) = match door::ask_server(context, Command::PluginList {})? {
        Some(value) => (true, items(&value, "providers").to_vec()),
        None => (false, context.loaded.settings.providers.iter().map(|one| offline(context, one)).collect()),
    };
    let mut said = String::new();
    if !online {
        let file = context.file().display();
        said.push_str(&format!("No server runs on {file}: this is what the libraries look like.\n\n"));
    }
    if providers.is_empty() {
        said.push_str("No provider is configured.");
    }
    for provider in &providers {
        said.push_str(&shown(provider));
    }
    Ok(Said { text: said, value: json!({ "server": online, "providers": providers }) })
}

/// What can be said of a provider without its server, in the same form.
fn offline(context: &Context, config: &ProviderConfig) -> Value {
    let found = plugins::inspect(&context.loaded.settings.program, &config.library, config.sha256.as_deref());
    let other = found.description.as_ref().is_some_and(|about| about.kind != config.kind);
    let problem = found.problem.or_else(|| other.then(|| "it is a plugin of another kind".to_owned()));
    json!({
        "id": config.id, "kind": config.kind, "type": config.kind_word, "library": config.library,
        "sha256": found.file.map(|file| file.sha256), "pinned": config.sha256.is_some(), "file_problem": problem,
        "description": found.description, "confined": found.confined, "state": "no_server",
    })
}

fn shown(provider: &Value) -> String {
    let has = |key: &str| provider.get(key).is_some_and(|value| !value.is_null());
    let seconds =
        |key: &str| duration::write(Duration::from_secs(provider.get(key).and_then(Value::as_u64).unwrap_or(0)));
    let state = match text(provider, "state").as_str() {
        "running" => format!("running, process {}", text(provider, "pid")),
        "down" => format!(
            "down for {}, next try {}: {}",
            seconds("for_seconds"),
            match provider.get("next_try_seconds").and_then(Value::as_u64) {
                None | Some(0) => "with the next call".to_owned(),
                Some(_) => format!("in {}", seconds("next_try_seconds")),
            },
            text(provider, "why")
        ),
        "no_server" if has("file_problem") => "cannot be used".to_owned(),
        "no_server" => "good".to_owned(),
        _ => "not started: nobody has needed it".to_owned(),
    };
    let mut said =
        format!("{} ({}, type {}): {state}\n", text(provider, "id"), text(provider, "kind"), text(provider, "type"));
    let mut line = |name: &str, what: String| said.push_str(&format!("  {name:<12}{what}\n"));
    let about = provider.get("description").filter(|about| !about.is_null());
    let about =
        about.map_or_else(String::new, |about| format!(" ({} {})", text(about, "name"), text(about, "version")));
    line("library", format!("{}{about}", text(provider, "library")));
    if has("sha256") {
        let pinned = if provider.get("pinned") == Some(&Value::Bool(true)) { "pinned" } else { "not pinned" };
        line("SHA-256", format!("{}, {pinned}", text(provider, "sha256")));
    }
    if has("file_problem") {
        line("file", text(provider, "file_problem"));
    }
    if has("not_loaded") {
        line(
            "not loaded",
            format!("the library was changed, and the one before goes on: {}", text(provider, "not_loaded")),
        );
    }
    if has("calls") {
        let [calls, failures, restarts] = ["calls", "failures", "restarts"].map(|key| text(provider, key));
        line("so far", format!("{calls} calls, {failures} failures, {restarts} restarts"));
    }
    let held = provider.get("confined").and_then(|held| serde_json::from_value(held.clone()).ok());
    if let Some(held) = held.filter(super::was_confined) {
        line("confined by", super::confined(&held));
    }
    if has("last_error") {
        line("last error", format!("{} ago: {}", seconds("last_error_seconds"), text(provider, "last_error")));
    }
    said
}

pub(super) fn egress(context: &Context, arguments: &Egress) -> Result<Said, Failure> {
    let Egress { provider, since, limit } = arguments;
    let since_seconds = since.map(|since| since.as_secs());
    let command = Command::PluginEgress { provider: provider.clone(), since_seconds, limit: *limit };
    let value = door::ask(context, command, false)?.value;
    let rows: Vec<Vec<String>> = items(&value, "requests").iter().map(request).collect();
    if rows.is_empty() {
        return Ok(Said { text: "Nothing was fetched for plugins in this time.".to_owned(), value });
    }
    let head = ["at", "provider", "method", "host", "path", "status", "sent", "received", "ms"];
    let mut said = table(&head, &rows);
    if value.get("more").and_then(Value::as_bool) == Some(true) {
        said.push_str(&format!("\nThese are the newest {limit}; --limit shows more.\n"));
    }
    Ok(Said { text: said, value })
}

fn request(row: &Value) -> Vec<String> {
    let took = row.get("took_us").and_then(Value::as_u64);
    let status = match (text(row, "status"), text(row, "fault").as_str()) {
        (status, "") if !status.is_empty() => status,
        // It left, and the server ended before the answer.
        (_, "") => "none yet".to_owned(),
        (_, "egress") => "not allowed".to_owned(),
        (_, fault) => fault.to_owned(),
    };
    vec![
        instant(row, "at"),
        text(row, "provider"),
        text(row, "method"),
        format!("{}:{}", text(row, "host"), text(row, "port")),
        text(row, "path"),
        status,
        text(row, "sent"),
        text(row, "received"),
        took.map_or_else(|| "-".to_owned(), |micros| (micros / 1_000).to_string()),
    ]
}
