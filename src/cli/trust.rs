//! `moorline trust`.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::args::Trust;
use super::context::Context;
use super::table::{instant, items, table, text};
use super::{Failure, Said, door};
use crate::domain::admin::Command;

/// Largest file of trust anchors, bytes.
const FILE_BYTES: u64 = 4 * 1024 * 1024;

pub(super) fn run(context: &Context, verb: Trust) -> Result<Said, Failure> {
    match verb {
        Trust::List => {
            let value = door::ask(context, Command::TrustList {}, false)?.value;
            Ok(Said { text: shown(items(&value, "anchors")) + &problems(&value), value })
        }
        Trust::Import { anchors: file, name, role } => {
            let content = STANDARD.encode(read(&file)?);
            let stem = || file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            let name = name.or_else(stem).unwrap_or_default();
            let done = door::ask(context, Command::TrustImport { content, name, role }, false)?;
            let when = if done.online { "from now on" } else { "from the next start of the server on" };
            let table = shown(items(&done.value, "imported"));
            Ok(Said { text: format!("Trusted {when}:\n{table}"), value: done.value })
        }
        Trust::Remove { name } => {
            let value = door::ask(context, Command::TrustRemove { name }, false)?.value;
            Ok(Said { text: format!("{} is not trusted any more.", text(&value, "name")), value })
        }
        Trust::Check { within } => {
            let value = door::ask(context, Command::TrustCheck { within_days: within }, false)?.value;
            let (ending, problems) = (items(&value, "ending"), problems(&value));
            if !ending.is_empty() || !problems.is_empty() {
                let said = if ending.is_empty() { String::new() } else { shown(ending) };
                return Err(Failure::from(format!(
                    "{} trust anchors end within {within} days\n{said}{problems}",
                    ending.len()
                )));
            }
            let count = text(&value, "looked_at");
            Ok(Said { text: format!("None of {count} trust anchors ends within {within} days."), value })
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| Failure::from(format!("{}: {error}", file.display()));
    let length = std::fs::metadata(file).map_err(failed)?.len();
    if length > FILE_BYTES {
        return Err(Failure::from(format!("{}: it has {length} bytes; {FILE_BYTES} are the most", file.display())));
    }
    std::fs::read(file).map_err(failed)
}

fn shown(anchors: &[Value]) -> String {
    let rows: Vec<Vec<String>> = anchors
        .iter()
        .map(|anchor| {
            let counts = anchor.get("end_counts").and_then(Value::as_bool).unwrap_or(false);
            let end = match (instant(anchor, "not_after"), counts) {
                (none, _) if none == "-" => none,
                (end, true) => end,
                // Amazon's: see the README.
                (end, false) => format!("({end})"),
            };
            vec![text(anchor, "name"), text(anchor, "role"), text(anchor, "origin"), end]
        })
        .collect();
    table(&["name", "role", "origin", "ends"], &rows)
}

fn problems(value: &Value) -> String {
    items(value, "problems").iter().filter_map(Value::as_str).map(|problem| format!("{problem}\n")).collect()
}
