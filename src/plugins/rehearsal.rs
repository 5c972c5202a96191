//! A built library in its own process, and a recorded conversation in place of the server: `moorline plugin test`.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use moorline_plugin::abi::{self, Status};
use moorline_plugin::host::Services;
use moorline_plugin::plugin::{Answer, Refusal};
use moorline_plugin::schema::{HttpRequest, Setup};
use moorline_plugin::testing::{Case, Replay, play_case};
use serde::Serialize;

use super::child::Order;
use super::connection::{Called, Connection, NotStarted};
use super::file;
use super::http::{Target, fault_of};
use super::services::{Desk, parse_put};
use super::words;
use crate::ops::lock::lock;

/// Lines of log that are kept of a case; about 200 bytes each.
const LOG_LINES: usize = 1_000;

/// Longest line that says what was wrong, bytes.
const LINE_BYTES: usize = 4_096;

/// What became of a case.
#[derive(Clone, Debug, Serialize)]
pub struct Played {
    /// Its name.
    pub case: String,
    /// What was not as recorded, a line each; none: it passed.
    pub wrong: Vec<String>,
    /// What the plugin has logged meanwhile.
    pub log: Vec<String>,
}

/// Plays a case against a library, as the server would load it. An error: it cannot be loaded at all.
pub fn rehearse(program: &Path, library: &Path, case: &Case) -> Result<Played, String> {
    let checked = file::check(library, None)?;
    let replay = Replay::new(case.now);
    let log = Arc::new(Mutex::new(Vec::new()));
    let mut broken = None;
    let make = |setup: &Setup| {
        let order = Order {
            library: library.to_owned(),
            sha256: checked.sha256.clone(),
            kind: None,
            setup: Some(setup.clone()),
            rehearsal: true,
        };
        let desk = Stage { replay: replay.clone(), log: Arc::clone(&log) };
        match Connection::start(program, "test", &order, Some(Box::new(desk))) {
            Ok((connection, _)) => Ok(connection),
            Err(NotStarted { started: Some(started), why }) => match started.refused {
                Some((status, refused)) => Err(Refusal { status, refused }),
                None => {
                    broken = Some(why.clone());
                    Err(Refusal::failed(why))
                }
            },
            Err(NotStarted { started: None, why }) => Err(Refusal::failed(why)),
        }
    };
    // What comes from the plugin must not play with the author's terminal.
    let wrong: Vec<String> =
        play_case(case, &replay, make, call).iter().map(|line| words::clean(line, LINE_BYTES)).collect();
    match broken {
        Some(why) => Err(why),
        None => Ok(Played { case: case.name.clone(), wrong, log: std::mem::take(&mut *lock(&log)) }),
    }
}

/// Runs a method in the process.
fn call(connection: &Connection, method: &str, request: &[u8]) -> Answer<Vec<u8>> {
    match connection.call(method, request, Duration::from_secs(u64::from(abi::CALL_SECONDS))) {
        Called::Answered(abi::OK, reply) => Ok(reply),
        Called::Answered(status, reply) => {
            Err(Refusal { status, refused: serde_json::from_slice(&reply).unwrap_or_default() })
        }
        Called::TimedOut => {
            connection.kill();
            Err(Refusal::failed(format!("not answered within {} s; the process was ended", abi::CALL_SECONDS)))
        }
        Called::Ended => Err(Refusal::failed(format!("its process {}", connection.end()))),
    }
}

/// Answers as recorded.
struct Stage {
    replay: Replay,
    log: Arc<Mutex<Vec<String>>>,
}

impl Desk for Stage {
    fn serve(&self, service: &str, request: &[u8]) -> (Status, Vec<u8>) {
        match service {
            "http" => self.fetch(request).map_or_else(
                |Refusal { status, refused }| (status, serde_json::to_vec(&refused).unwrap_or_default()),
                |reply| (abi::OK, reply),
            ),
            "cache_get" => {
                let found = std::str::from_utf8(request).ok().and_then(|key| self.replay.cache_get(key));
                found.map_or((abi::UNSUPPORTED, Vec::new()), |value| (abi::OK, value))
            }
            "cache_put" => {
                let put = parse_put(request).and_then(|(seconds, key, value)| {
                    let keep = Duration::from_secs(u64::from(seconds));
                    self.replay.cache_put(std::str::from_utf8(key).ok()?, value, keep);
                    Some(())
                });
                (if put.is_some() { abi::OK } else { abi::INVALID }, Vec::new())
            }
            "now" => (abi::OK, self.replay.now_micros().to_be_bytes().to_vec()),
            "random" => {
                let length = request.try_into().map_or(0, u32::from_be_bytes);
                let mut bytes = vec![0; usize::try_from(length).unwrap_or(0).min(abi::RANDOM_BYTES)];
                match self.replay.random(&mut bytes) {
                    Ok(()) => (abi::OK, bytes),
                    Err(refusal) => (refusal.status, Vec::new()),
                }
            }
            _ => (abi::UNSUPPORTED, Vec::new()),
        }
    }

    fn note(&self, level: log::Level, text: &str) -> bool {
        let mut log = lock(&self.log);
        if log.len() < LOG_LINES {
            log.push(format!("{}: {text}", level.as_str().to_lowercase()));
        }
        true
    }
}

impl Stage {
    /// What the server would not send is not looked up either.
    fn fetch(&self, request: &[u8]) -> Answer<Vec<u8>> {
        let request: HttpRequest = serde_json::from_slice(request)
            .map_err(|error| Refusal::invalid(format!("the request is not as agreed: {error}")))?;
        if let Some(why) = fault_of(&request) {
            return Err(Refusal::invalid(why));
        }
        Target::of(&request.url).map_err(Refusal::invalid)?;
        let response = self.replay.http(&request)?;
        serde_json::to_vec(&response).map_err(|error| Refusal::failed(error.to_string()))
    }
}
