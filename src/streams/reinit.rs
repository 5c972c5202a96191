//! `GET …/me/reinit`: would tell an agent of a pre-built workspace to start over. There are no pre-built
//! workspaces here, so nothing but pings comes. Every agent since 2.23 keeps this open and logs an error
//! whenever it ends (cli/agent.go, v2.24.0), so it is served rather than refused.

use std::time::Instant;

use super::events::Events;
use super::watching::{News, Watching};
use super::{Out, Stream};
use crate::domain::Shared;
use crate::model::AgentId;
use crate::ops::hub::Topic;
use crate::ops::mail::{Address, Mail};

/// Pings until the agent goes, the server stops, or the agent's token is withdrawn.
pub fn wait(app: Shared, agent: AgentId) -> Box<dyn Stream> {
    let watching = Watching::new(app, vec![Topic::AgentRevoked(agent)]);
    Box::new(Wait { watching, events: Events::new(Instant::now()) })
}

struct Wait {
    watching: Watching,
    events: Events,
}

impl Stream for Wait {
    fn open(&mut self, now: Instant, address: Address, _out: &mut Out) {
        self.events = Events::new(now);
        self.watching.open(now, address);
    }

    fn receive(&mut self, _now: Instant, _bytes: &[u8], _out: &mut Out) {}

    fn mail(&mut self, now: Instant, mail: Mail, out: &mut Out) {
        match self.watching.mail(now, mail) {
            News::Changed | News::End(..) => self.events.end(out),
            News::Done(_) | News::Nothing => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.events.deadline()
    }

    fn tick(&mut self, now: Instant, out: &mut Out) {
        self.events.tick(now, out);
    }

    fn shutdown(&mut self, _now: Instant, out: &mut Out) {
        self.events.end(out);
    }

    fn closed(&mut self) {
        self.watching.close();
    }
}
