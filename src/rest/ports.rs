//! What an agent knows of its machine: listening ports and containers.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::auth::Visible;
use super::inside::{self, ask, connected};
use super::reply::Reply;
use super::request::Call;
use super::websocket;
use crate::domain::credential::Credential;
use crate::domain::{Error, Fault};
use crate::model::AgentId;
use crate::ops::lock::lock;
use crate::store::apps;
use crate::streams::{Visitor, containers as watching};
use crate::wire::exchange::Answer;

/// What an agent said of its ports is good for this long: pages of several people may ask for it.
const FRESH: Duration = Duration::from_secs(1);
/// Agents whose ports are remembered: 8 MiB in all.
const REMEMBERED: usize = 1_024;
/// Longest answer that is remembered, bytes; a port takes about 60.
const REMEMBERED_BYTES: usize = 8 * 1024;
/// Below are no ports (agent/ports_supported.go, v2.24.0).
const FIRST_PORT: u16 = 9;
/// Ports of services that are not looked at with a browser (codersdk/workspacesdk/workspacesdk.go
/// AgentIgnoredListeningPorts, v2.24.0).
const NOT_SHOWN: [u16; 26] = [
    20, 21, 22, 23, 25, 53, 110, 143, 179, 389, 465, 587, 636, 989, 990, 993, 995, 3306, 3389, 5432, 27017, 27018,
    27019, 28017, 0, 8,
];

#[derive(Clone, Serialize, Deserialize)]
struct Port {
    process_name: String,
    network: String,
    port: u16,
}

#[derive(Deserialize)]
struct Ports {
    /// Go writes null for none.
    ports: Option<Vec<Port>>,
}

#[derive(Serialize)]
struct Shown {
    ports: Vec<Port>,
}

/// What agents said a moment ago.
#[derive(Default)]
pub(super) struct Remembered {
    ports: Mutex<HashMap<AgentId, (Instant, Vec<Port>)>>,
}

impl Remembered {
    fn of(&self, agent: AgentId) -> Option<Vec<Port>> {
        lock(&self.ports).get(&agent).filter(|(at, _)| at.elapsed() < FRESH).map(|(_, ports)| ports.clone())
    }

    fn keep(&self, agent: AgentId, ports: Vec<Port>) {
        let mut all = lock(&self.ports);
        if all.len() >= REMEMBERED {
            all.retain(|_, (at, _)| at.elapsed() < FRESH);
        }
        if all.len() < REMEMBERED {
            all.insert(agent, (Instant::now(), ports));
        }
    }
}

/// `GET …/{agent}/listening-ports`: `coder show` asks for every agent, also for those that are away, and
/// prints the refusal as a warning (cli/show.go, v2.24.0).
pub(super) fn listening(call: &Call<'_>, conn: &Connection, seen: Visible) -> Result<Reply, Error> {
    connected(call, &seen.agent, Fault::Invalid)?;
    let agent = seen.agent.id;
    let hidden: BTreeSet<u16> = apps::of_agent(conn, agent)?.iter().filter_map(|app| port_of(&app.url)).collect();
    if let Some(ports) = call.service.remembered.of(agent) {
        return shown(ports, &hidden);
    }
    let remembered = call.service.remembered.clone();
    ask(call, agent, "GET", "/api/v0/listening-ports", move |answer| {
        if answer.status != 200 {
            return Err(inside::unanswered(said(&answer)));
        }
        let ports: Ports =
            serde_json::from_slice(&answer.body).map_err(|error| inside::unanswered(error.to_string()))?;
        let ports = ports.ports.unwrap_or_default();
        if answer.body.len() <= REMEMBERED_BYTES {
            remembered.keep(agent, ports.clone());
        }
        shown(ports, &hidden)
    })
}

fn shown(mut ports: Vec<Port>, hidden: &BTreeSet<u16>) -> Result<Reply, Error> {
    ports.retain(|one| one.port >= FIRST_PORT && !NOT_SHOWN.contains(&one.port) && !hidden.contains(&one.port));
    Reply::json(200, &Shown { ports })
}

/// The port that a URL names.
fn port_of(url: &str) -> Option<u16> {
    let (_, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    host.rsplit_once(':')?.1.parse().ok()
}

/// `GET …/{agent}/containers`.
pub(super) fn containers(call: &Call<'_>, _: &Connection, seen: Visible) -> Result<Reply, Error> {
    let labels = labels(call)?;
    connected(call, &seen.agent, Fault::Invalid)?;
    ask(call, seen.agent.id, "GET", CONTAINERS, move |answer| match answer.status {
        200 => {
            let mut all: Value =
                serde_json::from_slice(&answer.body).map_err(|error| inside::unanswered(error.to_string()))?;
            if let Some(containers) = all.get_mut("containers").and_then(Value::as_array_mut) {
                containers.retain(|one| labels.iter().all(|(key, value)| has_label(one, key, value)));
            }
            Reply::json(200, &all)
        }
        _ => passed_on(answer),
    })
}

const CONTAINERS: &str = "/api/v0/containers";

/// `GET …/{agent}/containers/watch`: agents of 2.24 have no such stream, so they are asked again and again.
pub(super) fn watch_containers(call: &Call<'_>, _: &Connection, seen: Visible) -> Result<Reply, Error> {
    connected(call, &seen.agent, Fault::Invalid)?;
    let (app, agent) = (call.service.app.clone(), seen.agent.id);
    websocket::upgrade_if(call, || {
        let visitor = Visitor::admit(&app, Credential::of(&seen.user), agent.0)?;
        Ok(watching::watch(app.clone(), agent, visitor, CONTAINERS))
    })
}

/// `POST …/{agent}/containers/devcontainers/{container}/recreate`.
pub(super) fn recreate(call: &Call<'_>, _: &Connection, seen: Visible) -> Result<Reply, Error> {
    connected(call, &seen.agent, Fault::Invalid)?;
    // Anything that is no id is unknown to the agent, too, but must not become part of another path.
    let container = Uuid::try_parse(call.param(1))
        .map_err(|_| Error::new(Fault::NotFound, "There is no such development container."))?;
    let path = format!("{CONTAINERS}/devcontainers/{container}/recreate");
    ask(call, seen.agent.id, "POST", &path, passed_on)
}

/// The labels that containers must have: with a value, or with any.
fn labels(call: &Call<'_>) -> Result<Vec<(String, String)>, Error> {
    let pair = |label: &str| match label.split_once('=') {
        Some((key, value)) if !value.contains('=') => Some((key.to_owned(), value.to_owned())),
        _ => None,
    };
    call.query.all("label").map(pair).collect::<Option<_>>().ok_or_else(|| {
        Error::new(Fault::Invalid, "A label is not of the form KEY=VALUE.")
            .field("label", "KEY=VALUE, or KEY= for any value.")
    })
}

fn has_label(container: &Value, key: &str, value: &str) -> bool {
    let found = container.get("labels").and_then(|labels| labels.get(key)).and_then(Value::as_str);
    found.is_some_and(|found| value.is_empty() || found == value)
}

/// The agent's own answer, if it is one of its API.
fn passed_on(answer: Answer) -> Result<Reply, Error> {
    // Those have no body, so one that is sent would be read as another answer.
    let has_body = (200..600).contains(&answer.status) && !matches!(answer.status, 204 | 205 | 304);
    match serde_json::from_slice::<Value>(&answer.body) {
        Ok(Value::Object(_)) if has_body => Ok(Reply::json_body(answer.status, answer.body)),
        // An agent of an older release, or one that was told to have nothing to do with containers: its router's
        // own words, with the status that the real server passes on (codersdk/client.go ReadBodyAsError, v2.24.0).
        _ if answer.status == 404 => {
            Err(Error::new(Fault::NotFound, "The agent has no such thing.").detail(said(&answer)))
        }
        _ => Err(inside::unanswered(said(&answer))),
    }
}

fn said(answer: &Answer) -> String {
    // It reaches the log, too, where it must not look like other lines.
    let text = String::from_utf8_lossy(&answer.body);
    let text: String = text.chars().filter(|letter| !letter.is_control()).take(512).collect();
    format!("It answered {}: {text}", answer.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_on_what_is_an_answer() {
        let answer = |status, body: &str| passed_on(Answer { status, body: body.as_bytes().to_vec() });
        assert_eq!(answer(404, r#"{"message":"no"}"#).map(|reply| reply.status).ok(), Some(404));
        for (status, body) in [(204, "{}"), (304, "{}"), (101, "{}"), (600, "{}"), (200, "[]"), (200, "")] {
            assert!(answer(status, body).is_err(), "{status} {body}");
        }
        let error = answer(502, "bad\r\n2026-01-01 ERROR \u{1b}[31mforged").map(|_| ()).map_err(|error| error.detail);
        assert_eq!(error, Err("It answered 502: bad2026-01-01 ERROR [31mforged".to_owned()));
    }

    #[test]
    fn finds_the_port_of_an_app() {
        assert_eq!(port_of("http://localhost:8080/path?x=1"), Some(8080));
        assert_eq!(port_of("https://[::1]:9000"), Some(9000));
        assert_eq!(port_of("http://localhost/"), None);
        assert_eq!(port_of("vscode:thing"), None);
    }
}
