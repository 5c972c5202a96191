//! Watching the relay map over a WebSocket: binary messages, each the whole map as JSON and a newline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::socket::{OneWay, POLICY};
use super::{Out, Stream};
use crate::domain::Shared;
use crate::ops::hub::{Subscription, Topic};
use crate::ops::mail::{Address, Mail};
use crate::tailnet::derp_map::DerpMap;

/// How long a pong may take here (coderd/workspaceagents.go derpMapUpdates, v2.24.0).
const PONG_WITHIN: Duration = Duration::from_secs(30);

/// The map at once, and again whenever it has changed.
pub fn watch(app: Shared) -> Box<dyn Stream> {
    Box::new(Watch {
        app,
        socket: OneWay::new(Instant::now(), POLICY, Some(PONG_WITHIN)),
        opened: false,
        changes: None,
        shown: None,
    })
}

struct Watch {
    app: Shared,
    socket: OneWay,
    opened: bool,
    changes: Option<Subscription>,
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
        self.app.metrics.watchers.inc();
        self.opened = true;
        self.socket = OneWay::new(now, POLICY, Some(PONG_WITHIN));
        self.changes = Some(self.app.hub.subscribe(Topic::DerpMap, address));
        self.show(out);
    }

    fn receive(&mut self, _now: Instant, bytes: &[u8], out: &mut Out) {
        self.socket.receive(bytes, out);
    }

    fn mail(&mut self, _now: Instant, mail: Mail, out: &mut Out) {
        match mail {
            Mail::Changed(_) if !self.socket.ended() => {
                self.changes.iter().for_each(Subscription::acknowledge);
                self.show(out);
            }
            Mail::Close { code, reason } => self.socket.end(code, reason, out),
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.socket.deadline()
    }

    fn tick(&mut self, now: Instant, out: &mut Out) {
        self.socket.tick(now, out);
    }

    fn shutdown(&mut self, _now: Instant, out: &mut Out) {
        self.socket.shutdown(out);
    }

    fn closed(&mut self) {
        if std::mem::take(&mut self.opened) {
            self.app.metrics.watchers.dec();
        }
        self.changes = None;
    }
}
