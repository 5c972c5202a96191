//! Watching the relay map over a WebSocket: binary messages, each the whole map as JSON and a newline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::rpc::WITHDRAWN;
use super::socket::{OneWay, POLICY};
use super::watching::{News, Visitor, Watching};
use super::{Out, Stream};
use crate::domain::Shared;
use crate::model::AgentId;
use crate::ops::hub::Topic;
use crate::ops::mail::{Address, Mail};
use crate::tailnet::derp_map::DerpMap;

/// How long a pong may take here (coderd/workspaceagents.go derpMapUpdates, v2.24.0).
const PONG_WITHIN: Duration = Duration::from_secs(30);

/// The map at once, and again whenever it has changed. Ends with the visitor's session.
pub fn watch(app: Shared, visitor: Visitor) -> Box<dyn Stream> {
    start(Watching::of(app.clone(), vec![Topic::DerpMap], visitor, None), app)
}

/// The same for an agent. Ends when its token is withdrawn.
pub fn watch_as_agent(app: Shared, agent: AgentId) -> Box<dyn Stream> {
    start(Watching::new(app.clone(), vec![Topic::DerpMap, Topic::AgentRevoked(agent)]), app)
}

fn start(watching: Watching, app: Shared) -> Box<dyn Stream> {
    Box::new(Watch { watching, app, socket: OneWay::new(Instant::now(), POLICY, Some(PONG_WITHIN)), shown: None })
}

struct Watch {
    app: Shared,
    watching: Watching,
    socket: OneWay,
    shown: Option<Arc<DerpMap>>,
}

impl Watch {
    fn show(&mut self, out: &mut Out) {
        let map = self.app.derp_map.now();
        if self.shown.as_ref() != Some(&map) {
            self.socket.binary(format!("{}\n", map.json()).as_bytes(), out);
            self.shown = Some(map);
        }
    }
}

impl Stream for Watch {
    fn open(&mut self, now: Instant, address: Address, out: &mut Out) {
        self.socket = OneWay::new(now, POLICY, Some(PONG_WITHIN));
        self.watching.open(now, address);
        self.show(out);
    }

    fn receive(&mut self, _now: Instant, bytes: &[u8], out: &mut Out) {
        self.socket.receive(bytes, out);
    }

    fn mail(&mut self, now: Instant, mail: Mail, out: &mut Out) {
        if self.socket.ended() {
            return;
        }
        let is_withdrawn = matches!(mail, Mail::Changed(Topic::AgentRevoked(_)));
        match self.watching.mail(now, mail) {
            News::Changed if is_withdrawn => self.socket.end(POLICY, WITHDRAWN, out),
            News::Changed => self.show(out),
            News::End(code, reason) => self.socket.end(code, reason, out),
            News::Done(_) | News::Nothing => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        [self.socket.deadline(), self.watching.deadline()].into_iter().flatten().min()
    }

    fn tick(&mut self, now: Instant, out: &mut Out) {
        self.watching.tick(now);
        self.socket.tick(now, out);
    }

    fn shutdown(&mut self, _now: Instant, out: &mut Out) {
        self.socket.shutdown(out);
    }

    fn closed(&mut self) {
        self.watching.close();
    }
}
