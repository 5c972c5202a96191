//! `moorline plugin test`.

use std::path::{Path, PathBuf};

use moorline_plugin::testing::Recording;
use serde_json::{Value, json};

use super::super::context::Context;
use super::super::{Failure, Said, print};
use crate::plugins;

/// Largest recording, bytes.
const RECORDING_BYTES: u64 = 16 * 1024 * 1024;

pub(super) fn run(context: &Context, library: &Path, given: &[PathBuf]) -> Result<Said, Failure> {
    // All of them are read before the first is played.
    let mut recordings = Vec::new();
    for path in files(given)? {
        let recording = read(&path)?;
        recordings.push((path, recording));
    }
    let mut cases: Vec<Value> = Vec::new();
    let mut failed = 0_usize;
    for (path, recording) in &recordings {
        for case in &recording.cases {
            let played = plugins::rehearse(&context.loaded.settings.program, library, case)
                .map_err(|why| Failure::from(format!("{} cannot be used: {why}", library.display())))?;
            let passed = played.wrong.is_empty();
            failed += usize::from(!passed);
            if !context.json {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                print(&format!("{}  {name}: {}", if passed { "pass" } else { "FAIL" }, played.case));
                for line in &played.wrong {
                    print(&format!("      {line}"));
                }
                // Of a case that passes, nobody asks.
                for line in played.log.iter().filter(|_| !passed) {
                    print(&format!("      log: {line}"));
                }
            }
            cases.push(json!({
                "recording": path, "case": played.case, "passed": passed, "wrong": played.wrong, "log": played.log,
            }));
        }
    }
    let count = cases.len();
    let value = json!({ "library": library, "cases": cases, "passed": count - failed, "failed": failed });
    if failed == 0 {
        let text = if count == 1 { "1 case passed.".to_owned() } else { format!("{count} cases passed.") };
        return Ok(Said { text, value });
    }
    if context.json {
        print(&value.to_string());
    }
    Err(Failure::from(format!("{failed} of {count} cases failed")))
}

/// The files themselves, and those in folders, by name.
fn files(given: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for path in given {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let failed = |error: std::io::Error| Failure::from(format!("{}: {error}", path.display()));
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?.path();
            if entry.extension().is_some_and(|end| end == "json") {
                inside.push(entry);
            }
        }
        if inside.is_empty() {
            return Err(Failure::from(format!("{}: the folder has no recording (*.json)", path.display())));
        }
        inside.sort();
        found.append(&mut inside);
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Recording, Failure> {
    let failed = |why: String| Failure::from(format!("{}: {why}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if length > RECORDING_BYTES {
        return Err(failed(format!("it has {length} bytes; {RECORDING_BYTES} are the most")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    Recording::parse(&text).map_err(|why| failed(format!("it is no good recording: {why}")))
}
