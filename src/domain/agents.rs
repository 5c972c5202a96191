//! What clients are told about an agent: connection state, health, latency. Pure functions of the
//! stored row, the live connection and the clock.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::Serialize;

use super::presence::Live;
use crate::config::limits;
use crate::model::Timestamp;
use crate::store::agents::{Agent, Lifecycle};
use crate::store::scripts::Script;
use crate::tailnet::NodeInfo;

/// Connection state as clients know it. A closed set: any other word makes `coder ssh` spin
/// (v2.24.0 cli/cliui/agent.go).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never connected yet, and not late.
    Connecting,
    /// Alive within [`limits::AGENT_INACTIVE`].
    Connected,
    /// Was connected once.
    Disconnected,
    /// Never connected, and late.
    Timeout,
}

/// When an agent was connected, as shown: the stored instants with the live connection laid over them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connection {
    /// What it comes to at present.
    pub status: Status,
    /// First connection ever; always there when connected or disconnected (`coder ssh` subtracts it).
    pub first_connected_at: Option<Timestamp>,
    /// Last sign of life.
    pub last_connected_at: Option<Timestamp>,
    /// End of the last connection; always there when disconnected (`coder show` reads it unchecked).
    pub disconnected_at: Option<Timestamp>,
    /// Last change of anything, heartbeats included.
    pub updated_at: Timestamp,
}

/// The connection of `agent` as seen at `now`, by a server that began at `began`.
///
/// An agent whose last connection has no stored end was connected when the server stopped. It counts as
/// silent since `began` only: it must have its chance to come back, because VS Code gives a window up
/// as soon as it sees the agent disconnected.
pub fn connection(agent: &Agent, live: Option<Live>, began: Timestamp, now: Timestamp) -> Connection {
    let seen = live.map(|live| live.last_seen);
    let last = agent.last_connected_at.max(seen);
    let first = agent.first_connected_at.or(last);
    // A heartbeat after the stored end means that a newer connection is open.
    let ended = agent.disconnected_at.filter(|ended| seen.is_none_or(|seen| seen < *ended));
    let silent_since = |last: Timestamp, ended: Option<Timestamp>| match (live, ended) {
        (None, None) => last.max(began),
        _ => last,
    };
    let (status, disconnected_at) = match (last, ended) {
        (None, _) => {
            let patience = Duration::from_secs(u64::try_from(agent.connection_timeout_seconds).unwrap_or(0));
            let late = !patience.is_zero() && now.since(agent.created_at) > patience;
            (if late { Status::Timeout } else { Status::Connecting }, None)
        }
        (Some(last), Some(ended)) if ended >= last => (Status::Disconnected, Some(ended)),
        (Some(last), ended) if now.since(silent_since(last, ended)) > limits::AGENT_INACTIVE => {
            (Status::Disconnected, Some(last))
        }
        (Some(_), _) => (Status::Connected, None),
    };
    Connection {
        status,
        first_connected_at: first,
        last_connected_at: last,
        disconnected_at,
        updated_at: seen.map_or(agent.updated_at, |seen| seen.max(agent.updated_at)),
    }
}

/// After how long the status of `agent` changes by the clock alone, if it does: one that never came is
/// late, one that did not come back after a restart counts as gone. Whatever else changes is announced.
pub fn turns_after(agent: &Agent, live: Option<Live>, began: Timestamp, now: Timestamp) -> Option<Duration> {
    // The comparisons above are strict.
    const JUST_AFTER: Duration = Duration::from_millis(1);
    let at = match (agent.last_connected_at, live) {
        (_, Some(_)) => return None,
        (None, None) => {
            let patience = u64::try_from(agent.connection_timeout_seconds).ok().filter(|seconds| *seconds > 0)?;
            agent.created_at.plus(Duration::from_secs(patience))
        }
        (Some(last), None) => match agent.disconnected_at {
            Some(ended) if ended >= last => return None,
            Some(_) => last.plus(limits::AGENT_INACTIVE),
            None => last.max(began).plus(limits::AGENT_INACTIVE),
        },
    };
    (at >= now).then(|| at.since(now) + JUST_AFTER)
}

/// Whether an agent is well, and if not, why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Health {
    /// The short answer.
    pub healthy: bool,
    /// A clause for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// The health of an agent in this state; the first rule that fits decides.
pub fn health(status: Status, lifecycle: Lifecycle) -> Health {
    let ill = |reason| Health { healthy: false, reason: Some(reason) };
    match (status, lifecycle) {
        (Status::Connected, Lifecycle::Off) => ill("the agent is shutting down"),
        (_, Lifecycle::Off) => ill("the agent is not running"),
        (Status::Timeout, _) => ill("the agent has not connected in time"),
        (Status::Disconnected, _) => ill("the agent has lost its connection"),
        (_, Lifecycle::StartError) => ill("a start script of the agent failed"),
        (_, Lifecycle::ShuttingDown | Lifecycle::ShutdownTimeout | Lifecycle::ShutdownError) => {
            ill("the agent is shutting down")
        }
        (
            Status::Connecting | Status::Connected,
            Lifecycle::Created | Lifecycle::Starting | Lifecycle::StartTimeout | Lifecycle::Ready,
        ) => Health { healthy: true, reason: None },
    }
}

/// Round trip to one relay region.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Latency {
    /// Whether the agent is reached through it.
    pub preferred: bool,
    /// Milliseconds.
    pub latency_ms: f64,
}

/// Latencies by region name. The IPv4 and IPv6 values of a region fold into one: the better one.
pub fn latency(node: &NodeInfo, regions: &HashMap<i32, String>) -> BTreeMap<String, Latency> {
    let mut by_name: BTreeMap<String, Latency> = BTreeMap::new();
    for (key, seconds) in &node.derp_latency {
        let Some(id) = key.split('-').next().and_then(|id| id.parse::<i32>().ok()) else { continue };
        // JSON knows no infinity.
        if !seconds.is_finite() {
            continue;
        }
        let name = regions.get(&id).cloned().unwrap_or_else(|| format!("Unnamed {id}"));
        let one = Latency { preferred: id == node.preferred_derp, latency_ms: seconds * 1_000.0 };
        by_name.entry(name).and_modify(|known| known.latency_ms = known.latency_ms.min(one.latency_ms)).or_insert(one);
    }
    by_name
}

/// Whether clients wait for the start scripts before they log in.
pub fn startup_script_behavior(scripts: &[Script]) -> &'static str {
    if scripts.iter().any(|script| script.run_on_start && script.start_blocks_login) {
        "blocking"
    } else {
        "non-blocking"
    }
}

/// The apps that clients may show by themselves; a closed set.
pub const DISPLAY_APPS: [&str; 5] =
    ["vscode", "vscode_insiders", "ssh_helper", "port_forwarding_helper", "web_terminal"];

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;
    use crate::model::{AgentId, MICROS_PER_SECOND, WorkspaceId};

    const T0: i64 = 1_000_000 * MICROS_PER_SECOND;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(T0 + seconds * MICROS_PER_SECOND)
    }

    fn agent(first: Option<i64>, last: Option<i64>, ended: Option<i64>) -> Agent {
        Agent {
            id: AgentId::random(),
            workspace_id: WorkspaceId::random(),
            parent_id: None,
            name: "main".into(),
            token_hash: vec![0; 32],
            token_sealed: Vec::new(),
            operating_system: "linux".into(),
            architecture: "amd64".into(),
            directory: String::new(),
            environment: BTreeMap::new(),
            motd_file: String::new(),
            troubleshooting_url: String::new(),
            connection_timeout_seconds: 120,
            display_apps: Vec::new(),
            instance_id: String::new(),
            instance_cloud: None,
            version: String::new(),
            api_version: String::new(),
            expanded_directory: String::new(),
            subsystems: Vec::new(),
            lifecycle_state: Lifecycle::Created,
            started_at: None,
            ready_at: None,
            first_connected_at: first.map(at),
            last_connected_at: last.map(at),
            disconnected_at: ended.map(at),
            logs_length: 0,
            logs_overflowed: false,
            created_at: at(0),
            updated_at: at(0),
        }
    }

    fn live(seen: i64) -> Option<Live> {
        Some(Live { connections: 1, last_seen: at(seen) })
    }

    #[test]
    fn shows_the_status_of_every_row_of_the_table() {
        // (stored first, last, ended; live; now) → status, shown end
        let rows = [
            ("late", (None, None, None), None, 121, Status::Timeout, None),
            ("not late yet", (None, None, None), None, 120, Status::Connecting, None),
            ("ended", (Some(10), Some(10), Some(60)), None, 61, Status::Disconnected, Some(60)),
            ("ended at once", (Some(10), Some(10), Some(10)), None, 11, Status::Disconnected, Some(10)),
            ("silent", (Some(10), Some(10), None), None, 41, Status::Disconnected, Some(10)),
            ("silent, older end kept", (Some(10), Some(50), Some(40)), None, 81, Status::Disconnected, Some(50)),
            ("just in time", (Some(10), Some(10), None), None, 40, Status::Connected, None),
            ("back after an end", (Some(10), Some(50), Some(40)), None, 60, Status::Connected, None),
            ("alive", (Some(10), Some(10), None), live(90), 100, Status::Connected, None),
            ("alive, silent", (Some(10), Some(10), None), live(60), 100, Status::Disconnected, Some(60)),
            ("alive after a stored end", (Some(10), Some(10), Some(20)), live(90), 100, Status::Connected, None),
            ("alive, nothing stored yet", (None, None, None), live(90), 100, Status::Connected, None),
        ];
        for (name, (first, last, ended), live, now, status, shown) in rows {
            let seen = connection(&agent(first, last, ended), live, at(-1_000), at(now));
            assert_eq!((seen.status, seen.disconnected_at), (status, shown.map(at)), "{name}");
            if matches!(seen.status, Status::Connected | Status::Disconnected) {
                assert!(seen.first_connected_at.is_some() && seen.last_connected_at.is_some(), "{name}");
            }
        }
    }

    #[test]
    fn gives_agents_a_chance_to_come_back_after_a_restart() {
        let shown = |ended, live, now| {
            let seen = connection(&agent(Some(1), Some(1), ended), live, at(1_000), at(now));
            (seen.status, seen.last_connected_at, seen.disconnected_at)
        };
        assert_eq!(shown(None, None, 1_030), (Status::Connected, Some(at(1)), None));
        assert_eq!(shown(None, None, 1_031), (Status::Disconnected, Some(at(1)), Some(at(1))));
        assert_eq!(shown(Some(5), None, 1_001), (Status::Disconnected, Some(at(1)), Some(at(5))), "it had left");
        assert_eq!(shown(None, live(1_002), 1_033), (Status::Disconnected, Some(at(1_002)), Some(at(1_002))));
    }

    #[test]
    fn knows_when_the_clock_alone_changes_a_status() {
        let just = Duration::from_millis(1);
        let seconds = Duration::from_secs;
        // (stored first, last, ended; live; server's start; now) → after how long
        let rows = [
            ("never came, not late yet", (None, None, None), None, 0, 20, Some(seconds(100) + just)),
            ("never came, late", (None, None, None), None, 0, 121, None),
            ("alive", (Some(10), Some(10), None), live(90), 0, 100, None),
            ("ended", (Some(10), Some(10), Some(60)), None, 0, 61, None),
            ("may come back after a restart", (Some(10), Some(10), None), None, 500, 510, Some(seconds(20) + just)),
            ("did not come back", (Some(10), Some(10), None), None, 500, 531, None),
        ];
        for (name, (first, last, ended), live, began, now, after) in rows {
            let agent = agent(first, last, ended);
            let found = turns_after(&agent, live, at(began), at(now));
            assert_eq!(found, after, "{name}");
            // And then it does change.
            let later = found.map_or(at(now), |after| at(now).plus(after));
            let changed = connection(&agent, live, at(began), at(now)).status
                != connection(&agent, live, at(began), later).status;
            assert_eq!(changed, after.is_some(), "{name}");
        }
        let mut patient = agent(None, None, None);
        patient.connection_timeout_seconds = 0;
        assert_eq!(turns_after(&patient, None, at(0), at(1)), None);
    }

    #[test]
    fn never_times_out_without_a_timeout() {
        let mut patient = agent(None, None, None);
        patient.connection_timeout_seconds = 0;
        assert_eq!(connection(&patient, None, at(0), at(1_000_000)).status, Status::Connecting);
    }

    #[test]
    fn moves_updated_at_with_heartbeats() {
        let seen = connection(&agent(Some(1), Some(1), None), live(77), at(0), at(80));
        assert_eq!((seen.updated_at, seen.last_connected_at), (at(77), Some(at(77))));
    }

    #[test]
    fn shows_the_health_of_every_pair() {
        use Lifecycle::*;
        let states =
            [Created, Starting, StartTimeout, StartError, Ready, ShuttingDown, ShutdownTimeout, ShutdownError, Off];
        for status in [Status::Connecting, Status::Connected, Status::Disconnected, Status::Timeout] {
            for state in states {
                let well = matches!(status, Status::Connecting | Status::Connected)
                    && matches!(state, Created | Starting | StartTimeout | Ready);
                let health = health(status, state);
                assert_eq!(health.healthy, well, "{status:?} {state:?}");
                assert_eq!(health.reason.is_none(), well, "{status:?} {state:?}");
            }
        }
    }

    #[test]
    fn writes_the_words_that_clients_know() {
        let words =
            serde_json::to_string(&[Status::Connecting, Status::Connected, Status::Disconnected, Status::Timeout]);
        assert_eq!(words.ok().as_deref(), Some(r#"["connecting","connected","disconnected","timeout"]"#));
    }

    #[test]
    fn folds_latencies_into_one_per_region_name() {
        let node = NodeInfo {
            preferred_derp: 999,
            derp_latency: [("999-v4", 0.004), ("999-v6", 0.002), ("7-v4", 0.5), ("x-v4", 1.0), ("8-v4", f64::INFINITY)]
                .into_iter()
                .map(|(key, seconds)| (key.to_owned(), seconds))
                .collect(),
        };
        let shown = latency(&node, &HashMap::from([(999, "Relay".to_owned())]));
        assert_eq!(shown.len(), 2);
        assert_eq!(shown["Relay"], Latency { preferred: true, latency_ms: 2.0 });
        assert_eq!(shown["Unnamed 7"], Latency { preferred: false, latency_ms: 500.0 });
    }
}
