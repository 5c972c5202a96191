//! Two machines that are the same agent. Nobody can tell from here which of them is the right one, so both
//! are let in as one would be, and the operator is told.
//!
//! Two signs count. An older connection of an agent is still alive when a newer one, from another address,
//! has been open for a while: whoever moved would have left the older one. Or the machine that signs in is
//! by turns at one address and another: that is how two look that keep taking the agent's place in the
//! tailnet from each other, because each signs in anew before it connects.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::{App, Error};
use crate::config::limits::AGENT_INACTIVE;
use crate::model::{AgentId, Timestamp};
use crate::ops::hub::Topic;
use crate::store::agents;
use crate::store::audit::{self, Actor, Entry, Verdict};
use crate::store::clones::{self, Sighting};

/// Signs of the same clones, one after the other, are one event as long as no more than this is between them.
const EVENT: Duration = Duration::from_secs(3_600);
/// Sign-ins that come by turns from two addresses in this time are of two machines.
const TURNS: Duration = Duration::from_secs(600);
/// Sign-ins that must come by turns: A, B, A.
const SIGN_INS: usize = 3;
/// An older connection that is alive so long after a newer one began was not left behind.
const OVERLAP: Duration = AGENT_INACTIVE;
/// Agents about which something is kept; each 200 bytes and its addresses. Beyond it, those go that were
/// silent for longest.
const AGENTS: usize = 16_384;

/// What is kept of agents.
#[derive(Default)]
pub struct Clones {
    agents: Mutex<HashMap<AgentId, Traces>>,
}

#[derive(Default)]
struct Traces {
    sign_ins: VecDeque<(String, Timestamp)>,
    connections: Vec<Open>,
    next: u64,
    /// When the last sign was seen.
    event: Option<Timestamp>,
    touched: Timestamp,
}

struct Open {
    ticket: u64,
    address: String,
    since: Timestamp,
}

/// Two addresses at which an agent is.
type Pair = (String, String);

impl Traces {
    fn signed_in(&mut self, address: &str, now: Timestamp) -> Option<Pair> {
        self.sign_ins.push_back((address.to_owned(), now));
        if self.sign_ins.len() > SIGN_INS {
            self.sign_ins.pop_front();
        }
        let mut last = self.sign_ins.iter();
        let (Some((one, first)), Some((two, _)), Some((three, _))) = (last.next(), last.next(), last.next()) else {
            return None;
        };
        (one == three && one != two && now.since(*first) < TURNS).then(|| (two.clone(), one.clone()))
    }

    fn alive(&self, ticket: u64, now: Timestamp) -> Option<Pair> {
        let this = self.connections.iter().find(|open| open.ticket == ticket)?;
        let other = self
            .connections
            .iter()
            .find(|open| open.ticket > ticket && open.address != this.address && now.since(open.since) > OVERLAP)?;
        Some((this.address.clone(), other.address.clone()))
    }

    /// Whether a sign that is seen at `now` begins an event.
    fn begins_event(&mut self, now: Timestamp) -> bool {
        let begins = self.event.is_none_or(|last| now.since(last) > EVENT);
        self.event = Some(now);
        begins
    }
}

impl Clones {
    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, Traces>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A machine at `address` was given the token of `agent`.
    pub fn signed_in(&self, app: &App, agent: AgentId, address: &str) {
        let now = Timestamp::now();
        let pair = {
            let mut agents = self.lock();
            let traces = entry(&mut agents, agent, now);
            traces.signed_in(address, now).filter(|_| traces.begins_event(now))
        };
        if let Some(pair) = pair {
            report(app, agent, pair, "signs in by turns from");
        }
    }

    /// A connection of `agent` from `address` begins; gives its ticket.
    pub fn connected(&self, agent: AgentId, address: &str) -> u64 {
        let now = Timestamp::now();
        let mut agents = self.lock();
        let traces = entry(&mut agents, agent, now);
        traces.next += 1;
        traces.connections.push(Open { ticket: traces.next, address: address.to_owned(), since: now });
        traces.next
    }

    /// A sign of life on a connection.
    pub fn alive(&self, app: &App, agent: AgentId, ticket: u64) {
        let now = Timestamp::now();
        let pair = {
            let mut agents = self.lock();
            let Some(traces) = agents.get_mut(&agent).filter(|traces| traces.connections.len() > 1) else { return };
            traces.alive(ticket, now).filter(|_| traces.begins_event(now))
        };
        if let Some(pair) = pair {
            report(app, agent, pair, "is connected at the same time from");
        }
    }

    /// A connection is gone.
    pub fn gone(&self, agent: AgentId, ticket: u64) {
        let mut agents = self.lock();
        let Some(traces) = agents.get_mut(&agent) else { return };
        traces.connections.retain(|open| open.ticket != ticket);
        if traces.connections.is_empty() && traces.sign_ins.is_empty() && traces.event.is_none() {
            agents.remove(&agent);
        }
    }
}

fn entry(agents: &mut HashMap<AgentId, Traces>, agent: AgentId, now: Timestamp) -> &mut Traces {
    if agents.len() >= AGENTS && !agents.contains_key(&agent) {
        let idle = agents.iter().filter(|(_, traces)| traces.connections.is_empty());
        if let Some(oldest) = idle.min_by_key(|(_, traces)| traces.touched).map(|(agent, _)| *agent) {
            agents.remove(&oldest);
        }
    }
    let traces = agents.entry(agent).or_default();
    traces.touched = now;
    traces
}

/// How `workspace list` and `workspace show` show it.
pub(super) fn view(conn: &Connection, agent: AgentId) -> Result<Value, Error> {
    Ok(clones::of(conn, agent)?.map_or(
        Value::Null,
        |sighting| json!({ "addresses": [sighting.first_ip, sighting.second_ip], "seen_at": sighting.seen_at }),
    ))
}

/// Tells the operator; nobody waits for it.
fn report(app: &App, agent: AgentId, (first, second): Pair, how: &str) {
    let detail = format!("{how} {first} and {second}");
    app.store.write_then(
        move |write| {
            let Some((row, place)) = agents::with_place(write, agent)? else { return Ok(None) };
            let now = Timestamp::now();
            let name = format!("{}/{}.{}", place.owner_name, place.workspace_name, row.name);
            clones::put(write, agent, &Sighting { first_ip: first, second_ip: second.clone(), seen_at: now })?;
            let entry = Entry {
                actor: Actor::Agent(agent, row.name),
                action: "agent.clone",
                target: name.clone(),
                ip: second,
                verdict: Verdict::Failed,
                detail: detail.clone(),
            };
            audit::insert(write, now, &entry)?;
            write.publish(Topic::Workspace(row.workspace_id));
            Ok(Some(format!("two machines seem to be {name}: it {detail}")))
        },
        |result: Result<Option<String>, Error>| match result {
            Ok(Some(sentence)) => log::warn!("{sentence}"),
            Ok(None) => {}
            Err(error) => log::warn!("that two machines seem to be one agent could not be noted: {error}"),
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MICROS_PER_SECOND;

    fn at(second: i64) -> Timestamp {
        Timestamp((1_000_000 + second) * MICROS_PER_SECOND)
    }

    #[test]
    fn sign_ins_by_turns_are_of_two_machines() {
        let pair = |sign_ins: &[(&str, i64)]| {
            let mut traces = Traces::default();
            sign_ins.iter().filter_map(|(address, second)| traces.signed_in(address, at(*second))).last()
        };
        assert_eq!(pair(&[("a", 0), ("b", 1), ("a", 2)]), Some(("b".into(), "a".into())));
        assert_eq!(pair(&[("a", 0), ("a", 1), ("b", 2), ("b", 3), ("c", 4)]), None, "it moved");
        assert_eq!(pair(&[("a", 0), ("b", 400), ("a", 700)]), None, "it moved and came back");
    }

    #[test]
    fn a_connection_that_outlives_a_newer_one_from_elsewhere_is_of_another_machine() {
        let open = |ticket, address: &str, second| Open { ticket, address: address.into(), since: at(second) };
        let traces = Traces { connections: vec![open(1, "a", 0), open(2, "b", 10)], ..Traces::default() };
        assert_eq!(traces.alive(1, at(30)), None, "it may still be on its way out");
        assert_eq!(traces.alive(2, at(60)), None);
        assert_eq!(traces.alive(1, at(60)), Some(("a".into(), "b".into())));
        let same = Traces { connections: vec![open(1, "a", 0), open(2, "a", 10)], ..Traces::default() };
        assert_eq!(same.alive(1, at(60)), None);
    }

    #[test]
    fn signs_without_a_pause_are_one_event() {
        let mut traces = Traces::default();
        assert!(traces.begins_event(at(0)));
        assert!(!traces.begins_event(at(3_000)));
        assert!(!traces.begins_event(at(6_000)));
        assert!(traces.begins_event(at(9_700)));
    }
}
