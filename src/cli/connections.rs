//! `moorline connections`.

use std::time::Duration;

use serde_json::Value;

use super::args::Connections;
use super::context::Context;
use super::table::{instant, items, table, text};
use super::{Failure, Said, door};
use crate::config::duration;
use crate::domain::admin::Command;
use crate::domain::connection_log::Part;

pub(super) fn run(context: &Context, arguments: Connections) -> Result<Said, Failure> {
    let Connections { workspace, since, limit } = arguments;
    let part = Part { workspace, since_seconds: since.map(|since| since.as_secs()), limit };
    let value = door::ask(context, Command::Connections(part), false)?.value;
    Ok(Said { text: list(&value, limit), value })
}

fn list(value: &Value, limit: u32) -> String {
    let rows: Vec<Vec<String>> = items(value, "connections").iter().map(row).collect();
    if rows.is_empty() {
        return "Nobody has connected in this time.".into();
    }
    let mut said = table(&["started", "time", "user", "from", "workspace.agent", "by", "end"], &rows);
    if value.get("more").and_then(Value::as_bool) == Some(true) {
        said.push_str(&format!("\nThese are the newest {limit}; --limit shows more.\n"));
    }
    said
}

fn row(entry: &Value) -> Vec<String> {
    let seconds = entry.get("seconds").and_then(Value::as_u64).unwrap_or(0);
    let open = entry.get("ended_at").is_none_or(Value::is_null);
    let exit = match text(entry, "exit_code") {
        code if code.is_empty() || code == "0" => String::new(),
        code => format!(" ({code})"),
    };
    let or_unknown = |key| Some(text(entry, key)).filter(|text| !text.is_empty()).unwrap_or_else(|| "-".into());
    vec![
        instant(entry, "started_at"),
        duration::write(Duration::from_secs(seconds)),
        or_unknown("user"),
        or_unknown("ip"),
        format!("{}/{}.{}", text(entry, "owner"), text(entry, "workspace"), text(entry, "agent")),
        text(entry, "by"),
        if open { "open".into() } else { format!("{}{exit}", or_unknown("end")) },
    ]
}
