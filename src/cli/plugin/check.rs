//! `moorline plugin check`.

use std::path::Path;

use super::super::context::Context;
use super::super::place::user_name;
use super::super::{Failure, Said, print};
use super::{confined, was_confined};
use crate::plugins::{self, Inspection};

pub(super) fn run(context: &Context, library: &Path) -> Result<Said, Failure> {
    let found = plugins::inspect(&context.loaded.settings.program, library, None);
    let value = serde_json::to_value(&found)?;
    let text = shown(&found);
    let Some(problem) = &found.problem else { return Ok(Said { text, value }) };
    // What was found out helps to mend it.
    print(if context.json { value.to_string() } else { text }.trim_end());
    Err(Failure::from(format!("{} cannot be used: {problem}", library.display())))
}

fn shown(found: &Inspection) -> String {
    let mut lines = vec![found.library.display().to_string()];
    let mut line = |name: &str, what: String| lines.push(format!("  {name:<13}{what}"));
    match &found.file {
        Some(file) => {
            let owner = user_name(file.owner);
            line("file", format!("owner {owner} ({}), mode {}, {} bytes", file.owner, file.mode, file.length));
            line("SHA-256", file.sha256.clone());
        }
        None => line("file", "none that can be read".to_owned()),
    }
    let (major, minor) = found.host_interface;
    let built = found.interface.map_or_else(
        || "not known, it did not get so far".to_owned(),
        |(major, minor)| format!("built for {major}.{minor}"),
    );
    line("interface", format!("{built}; this host speaks {major}.{minor}"));
    if !found.functions.is_empty() {
        line("functions", found.functions.join(", "));
    }
    if let Some(about) = &found.description {
        line("plugin", format!("{} {}, {}", about.name, about.version, about.kind.word()));
        line("serves", about.serves.join(", "));
        let none = about.capabilities.is_empty();
        line("capabilities", if none { "none".to_owned() } else { about.capabilities.join(", ") });
    }
    if let Some(held) = found.confined.as_ref().filter(|held| was_confined(held)) {
        line("confined by", confined(held));
    }
    line("verdict", found.problem.clone().unwrap_or_else(|| "good".to_owned()));
    lines.join("\n")
}
