//! The connection of an agent: WebSocket, in it yamux, on each of its streams one DRPC call.
//!
//! Everything here runs on the loop that owns the socket and never waits. A call that needs the store
//! goes to the `rpc` pool; a write is handed on from there to the writer and answered after its commit,
//! so neither a loop nor a thread of the pool waits for the disk, and many agents share a commit.
//!
//! Overload never fails a call, because an agent answers nearly every error by dropping its connection:
//! a call for which a queue or the disk is full stays here and is tried again.

mod call;
mod coordinate;
mod monitor;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message;

use self::call::{Call, State};
use self::monitor::Monitor;
use super::errand::{self, Answer};
use super::socket::{FAILURE, POLICY, RESTART};
use super::{Out, Stream};
use crate::agentapi::{self, Session};
use crate::config::limits::{
    AGENT_CALLS, AGENT_HELD_BYTES, AGENT_INACTIVE, AGENT_MESSAGE_BYTES, PING_PERIOD, STREAM_HIGH_WATER,
    STREAM_MESSAGE_BYTES,
};
use crate::domain::{Error, Shared};
use crate::ops::hub::{Subscription, Topic};
use crate::ops::mail::{Address, Mail, Outcome};
use crate::store::agents::Agent;
use crate::tailnet::nodes::Peer;
use crate::wire::drpc::Packet;
use crate::wire::proto::methods::{self, Kind, METHODS};
use crate::wire::proto::tailnet::WorkspaceUpdate;
use crate::wire::websocket::{self, WebSocket};
use crate::wire::yamux;

/// How long a stopping server waits for the calls that are under way.
const LAST_CALLS: Duration = Duration::from_secs(2);
/// Close code for text where only bytes are spoken.
const NOT_BINARY: u16 = 1003;

/// The connection of `agent`, which was admitted with the token of that row and asked for
/// `api_version`. `monitored`: it says that the agent is connected (`role` absent or `agent`).
pub fn agent(app: Shared, agent: Agent, api_version: String, monitored: bool, peer: String) -> Box<dyn Stream> {
    let session = Arc::new(Session {
        app,
        agent: agent.id,
        workspace: agent.workspace_id,
        parent: agent.parent_id,
        name: agent.name,
        api_version,
        peer,
    });
    Box::new(Connection {
        monitor: Monitor::new(Arc::clone(&session), agent.token_hash, monitored),
        session,
        address: None,
        revoked: None,
        maps: None,
        socket: WebSocket::server(AGENT_MESSAGE_BYTES),
        mux: yamux::Session::server(),
        calls: BTreeMap::new(),
        waiting: VecDeque::new(),
        running: HashSet::new(),
        pings: 0,
        next_ping: Instant::now() + PING_PERIOD,
        last_pong: Instant::now(),
        stage: Stage::Open,
        reason: "",
        backlog: 0,
    })
}

struct Connection {
    // Fixed.
    session: Arc<Session>,
    monitor: Monitor,
    /// From `open` to `closed`.
    address: Option<Address>,
    revoked: Option<Subscription>,
    /// From the first stream of relay maps on.
    maps: Option<Subscription>,
    // The layers.
    socket: WebSocket,
    mux: yamux::Session,
    /// By yamux stream.
    calls: BTreeMap<u32, Call>,
    /// Unary calls in the order of their requests, none before its instant.
    waiting: VecDeque<(Instant, u32)>,
    /// Calls in the pool, also those that the client has given up: each still sends its letter.
    running: HashSet<u32>,
    // Life.
    pings: u32,
    next_ping: Instant,
    last_pong: Instant,
    stage: Stage,
    /// Why the connection ended, for the audit log.
    reason: &'static str,
    /// Bytes that the client has not taken, as of the last call.
    backlog: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The server stops: calls under way are answered until this instant, then comes the goodbye.
    Leaving(Instant),
    Over,
}

impl Connection {
    fn over(&mut self, reason: &'static str, out: &mut Out) {
        if self.stage != Stage::Over {
            self.stage = Stage::Over;
            self.reason = reason;
            out.finish = true;
        }
    }

    fn close(&mut self, code: u16, text: &str, reason: &'static str, out: &mut Out) {
        self.flush(out);
        self.socket.close(code, text, &mut out.bytes);
        self.over(reason, out);
    }

    /// Hands the multiplexer's bytes to the WebSocket. Message borders mean nothing to the peer, but
    /// older builds take no message above 32 KiB.
    fn flush(&mut self, out: &mut Out) {
        let mut bytes = Vec::new();
        self.mux.take_output(&mut bytes);
        for chunk in bytes.chunks(STREAM_MESSAGE_BYTES) {
            self.socket.binary(chunk, &mut out.bytes);
        }
        self.backlog = out.backlog + out.bytes.len();
    }

    fn multiplexed(&mut self, now: Instant, bytes: &[u8], out: &mut Out) {
        let mut events = Vec::new();
        let result = self.mux.receive(bytes, &mut events);
        for event in events {
            match event {
                yamux::Event::Opened(id) => {
                    self.calls.insert(id, Call::new());
                }
                yamux::Event::Data(id, bytes) => {
                    self.data(now, id, &bytes);
                    self.mux.consumed(id, bytes.len());
                }
                yamux::Event::Finished(id) => {
                    self.give_up(id);
                    self.calls.remove(&id);
                    self.mux.finish(id);
                }
                yamux::Event::Reset(id) => {
                    self.give_up(id);
                    self.calls.remove(&id);
                }
                yamux::Event::Pong(_) => {
                    self.last_pong = now;
                    self.monitor.seen();
                }
                // The agent opens no more streams; what is under way goes on.
                yamux::Event::GoAway(_) => {}
            }
        }
        if let Err(error) = result {
            self.close(FAILURE, &error.to_string(), "protocol error", out);
        }
    }

    fn data(&mut self, now: Instant, id: u32, bytes: &[u8]) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if matches!(call.state, State::Over) {
            return;
        }
        let mut packets = Vec::new();
        let result = call.decoder.receive(bytes, &mut packets);
        for packet in packets {
            self.packet(now, id, packet);
        }
        let held: usize = self.calls.values().map(Call::held).sum();
        if result.is_err() || held > AGENT_HELD_BYTES {
            log::debug!(agent = self.session.agent.to_string(); "a call was reset: {result:?}, {held} bytes held");
            self.reset(id);
        }
    }

    fn reset(&mut self, id: u32) {
        self.give_up(id);
        self.calls.remove(&id);
        self.mux.reset(id);
    }

    fn packet(&mut self, now: Instant, id: u32, packet: Packet) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        match (&call.state, packet) {
            (State::Over, _) | (_, Packet::Metadata(_)) => {}
            (State::Start, Packet::Invoke(name)) => self.invoke(id, &name),
            (State::Request(method), Packet::Message(body)) => {
                let method = *method;
                self.requested(now, id, method, body);
            }
            (State::Request(method), Packet::CloseSend) => {
                let text = format!("The call of {method} came without a request.");
                let bytes = call.fail(0, &text);
                self.mux.send(id, &bytes);
            }
            (State::Coordinate(peer), Packet::Message(body)) => {
                let verdict = coordinate::request(&self.session.app.nodes, self.session.agent, peer, &body);
                self.coordinated(id, verdict);
            }
            (State::Coordinate(_), Packet::CloseSend) => self.coordinated(id, coordinate::Verdict::Close(None)),
            (_, Packet::Close | Packet::Cancel | Packet::Error { .. }) => self.give_up(id),
            // A client that says more than it should on a call that runs: the call is what counts.
            (_, Packet::CloseSend) | (State::Unary(..) | State::Maps(_) | State::Updates, Packet::Message(_)) => {}
            (_, Packet::Invoke(_)) | (State::Start, Packet::Message(_)) => self.reset(id),
        }
    }

    fn invoke(&mut self, id: u32, name: &str) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        match METHODS.iter().find(|(method, _)| *method == name) {
            Some((_, Kind::Bidirectional)) => self.coordinate(id),
            Some((method, Kind::Unary | Kind::ServerStream)) => call.state = State::Request(method),
            // The real server answers code 0, which clients cannot tell from a failure.
            None => {
                let bytes = call.fail(12, &format!("Unimplemented: unknown rpc: {name:?}"));
                self.session.app.metrics.agent_call_errors.inc();
                self.mux.send(id, &bytes);
            }
        }
    }

    fn requested(&mut self, now: Instant, id: u32, method: &'static str, body: Vec<u8>) {
        match method {
            methods::STREAM_DERP_MAPS => self.stream_maps(id),
            methods::WORKSPACE_UPDATES => {
                // An agent may see no workspaces. The end of the stream would end the client's session,
                // so it gets the empty picture and nothing after it.
                let Some(call) = self.calls.get_mut(&id) else { return };
                let bytes = call.message(&WorkspaceUpdate::default().encode_to_vec());
                call.state = State::Updates;
                self.mux.send(id, &bytes);
            }
            _ => match agentapi::at_once(&self.session, method, &body) {
                Some(answer) => self.answer(id, answer),
                None => {
                    if let Some(call) = self.calls.get_mut(&id) {
                        call.state = State::Unary(method, Arc::new(body));
                        self.waiting.push_back((now, id));
                    }
                }
            },
        }
    }

    fn answer(&mut self, id: u32, answer: Result<Vec<u8>, Error>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let metrics = &self.session.app.metrics;
        let bytes = match answer {
            Ok(message) => {
                metrics.agent_calls.inc();
                call.reply(&message)
            }
            Err(error) => {
                metrics.agent_call_errors.inc();
                match errand::failure(&error) {
                    Outcome::Failed { code, text } => call.fail(code, &text),
                    _ => call.fail(0, &error.to_string()),
                }
            }
        };
        self.mux.send(id, &bytes);
    }

    /// Gives calls whose turn has come to the pool.
    fn start_calls(&mut self, now: Instant) {
        let Some(address) = self.address.clone().filter(|_| self.stage == Stage::Open) else { return };
        let mut later = VecDeque::new();
        while self.running.len() < AGENT_CALLS
            && let Some((due, id)) = self.waiting.pop_front()
        {
            let Some(Call { state: State::Unary(method, body), .. }) = self.calls.get(&id) else { continue };
            if due > now {
                later.push_back((due, id));
                continue;
            }
            let (session, method, body) = (Arc::clone(&self.session), *method, Arc::clone(body));
            let address = address.clone();
            let job = move || {
                let answer = Answer::new(address, u64::from(id));
                let reply = move |result: Result<Vec<u8>, Error>| {
                    answer.give(match result {
                        Ok(message) => Outcome::Bytes(message),
                        Err(error) => errand::failure(&error),
                    });
                };
                agentapi::call(&session, method, &body, Box::new(reply));
            };
            match self.session.app.jobs.try_submit(job) {
                Ok(()) => {
                    self.running.insert(id);
                }
                Err(_) => {
                    self.session.app.metrics.agent_calls_delayed.inc();
                    let pause = now + errand::QUEUE_PAUSE;
                    later.push_back((pause, id));
                    self.waiting.iter_mut().for_each(|(due, _)| *due = pause.max(*due));
                    break;
                }
            }
        }
        later.append(&mut self.waiting);
        self.waiting = later;
    }

    fn done(&mut self, now: Instant, id: u32, outcome: Outcome) {
        if !self.running.remove(&id) {
            return;
        }
        // A call that was given up meanwhile gets no answer: the client does not wait for one.
        let Some(call) = self.calls.get_mut(&id).filter(|call| matches!(call.state, State::Unary(..))) else { return };
        let metrics = &self.session.app.metrics;
        let bytes = match outcome {
            Outcome::Bytes(message) => {
                metrics.agent_calls.inc();
                call.reply(&message)
            }
            Outcome::Busy(pause) => {
                metrics.agent_calls_delayed.inc();
                self.waiting.push_back((now + pause, id));
                return;
            }
            Outcome::Failed { code, text } => {
                metrics.agent_call_errors.inc();
                call.fail(code, &text)
            }
            Outcome::Value(_) => return,
        };
        self.mux.send(id, &bytes);
    }

    fn stream_maps(&mut self, id: u32) {
        if let (None, Some(address)) = (&self.maps, &self.address) {
            self.maps = Some(self.session.app.hub.subscribe(Topic::DerpMap, address.clone()));
        }
        let map = self.map();
        let Some(call) = self.calls.get_mut(&id) else { return };
        let bytes = call.message(&map);
        call.state = State::Maps(map);
        self.mux.send(id, &bytes);
    }

    fn map(&self) -> Vec<u8> {
        self.session.app.derp_map.now().proto().encode_to_vec()
    }

    fn push_maps(&mut self) {
        self.maps.iter().for_each(Subscription::acknowledge);
        let map = self.map();
        for (id, call) in &mut self.calls {
            if matches!(&call.state, State::Maps(last) if *last != map) {
                let bytes = call.message(&map);
                call.state = State::Maps(map.clone());
                self.mux.send(*id, &bytes);
            }
        }
    }

    fn coordinate(&mut self, id: u32) {
        let (Some(address), Some(call)) = (&self.address, self.calls.get_mut(&id)) else { return };
        let peer = Peer { address: address.clone(), tag: u64::from(id) };
        let older = self.session.app.nodes.join(self.session.agent, peer.clone());
        call.state = State::Coordinate(peer);
        if let Some(older) = older
            && !older.address.try_post(Mail::Superseded { tag: older.tag })
        {
            // Its next ping finds out.
            log::debug!("an older coordination stream could not be told that it is overwritten");
        }
    }

    fn coordinated(&mut self, id: u32, verdict: coordinate::Verdict) {
        let close = !matches!(verdict, coordinate::Verdict::Answer(_));
        if close {
            self.leave_tailnet(id);
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        let bytes = match verdict {
            coordinate::Verdict::Answer(messages) => {
                messages.iter().flat_map(|message| call.message(message)).collect()
            }
            coordinate::Verdict::Close(error) => {
                let mut bytes = error.map(|error| call.message(&error)).unwrap_or_default();
                bytes.extend(call.close());
                bytes
            }
            coordinate::Verdict::Broken(text) => call.fail(0, &text),
        };
        self.mux.send(id, &bytes);
    }

    fn superseded(&mut self, id: u32) {
        if matches!(self.calls.get(&id), Some(Call { state: State::Coordinate(_), .. })) {
            let error = coordinate::error(coordinate::OVERWRITTEN);
            self.coordinated(id, coordinate::Verdict::Close(Some(error)));
        }
    }

    /// Ends coordination streams that were overwritten without a letter reaching this connection.
    fn check_place(&mut self) {
        let overwritten: Vec<u32> = self
            .calls
            .iter()
            .filter(|(_, call)| match &call.state {
                State::Coordinate(peer) => !self.session.app.nodes.is_current(self.session.agent, peer),
                _ => false,
            })
            .map(|(id, _)| *id)
            .collect();
        for id in overwritten {
            self.superseded(id);
        }
    }

    fn leave_tailnet(&self, id: u32) {
        if let Some(Call { state: State::Coordinate(peer), .. }) = self.calls.get(&id) {
            self.session.app.nodes.leave(self.session.agent, peer);
        }
    }

    /// The client is no longer interested.
    fn give_up(&mut self, id: u32) {
        self.leave_tailnet(id);
        self.waiting.retain(|(_, waiting)| *waiting != id);
        if let Some(call) = self.calls.get_mut(&id) {
            call.state = State::Over;
        }
    }

    fn goodbye(&mut self, out: &mut Out) {
        self.close(RESTART, "the server is restarting", "server stopped", out);
    }

    /// What every call from the loop ends with.
    fn settle(&mut self, now: Instant, out: &mut Out) {
        if self.stage == Stage::Over {
            self.backlog = out.backlog + out.bytes.len();
            return;
        }
        self.start_calls(now);
        match self.stage {
            Stage::Leaving(until) if self.running.is_empty() || now >= until => self.goodbye(out),
            _ => self.flush(out),
        }
    }
}

impl Stream for Connection {
    fn open(&mut self, now: Instant, address: Address, out: &mut Out) {
        let app = &self.session.app;
        app.metrics.agent_connections.inc();
        self.revoked = Some(app.hub.subscribe(Topic::AgentRevoked(self.session.agent), address.clone()));
        self.monitor.begin(&address);
        self.address = Some(address);
        self.next_ping = now + PING_PERIOD;
        self.last_pong = now;
        self.settle(now, out);
    }

    fn receive(&mut self, now: Instant, bytes: &[u8], out: &mut Out) {
        if self.stage == Stage::Over {
            return;
        }
        let mut events = Vec::new();
        let result = self.socket.receive(bytes, &mut out.bytes, &mut events);
        for event in events {
            if self.stage == Stage::Over {
                return;
            }
            match event {
                websocket::Event::Binary(bytes) => self.multiplexed(now, &bytes, out),
                websocket::Event::Text(_) => {
                    self.close(NOT_BINARY, "this stream carries binary messages", "protocol error", out);
                }
                websocket::Event::Pong(_) => {}
                websocket::Event::Closed { .. } => self.over("closed by the agent", out),
            }
        }
        if result.is_err() {
            // The codec has said why in its close frame.
            self.over("protocol error", out);
        }
        self.settle(now, out);
    }

    fn mail(&mut self, now: Instant, mail: Mail, out: &mut Out) {
        if self.stage == Stage::Over {
            return;
        }
        match mail {
            Mail::Changed(Topic::DerpMap) => self.push_maps(),
            Mail::Changed(Topic::AgentRevoked(_)) => {
                self.close(POLICY, "the agent's token was withdrawn", "token withdrawn", out);
            }
            Mail::Changed(_) | Mail::Inbox { .. } => {}
            Mail::Done { tag, outcome } => {
                if let Ok(id) = u32::try_from(tag) {
                    self.done(now, id, outcome);
                }
            }
            Mail::Superseded { tag } => {
                if let Ok(id) = u32::try_from(tag) {
                    self.superseded(id);
                }
            }
            Mail::Close { code, reason } => self.close(code, reason, reason, out),
        }
        self.settle(now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        let until = match self.stage {
            Stage::Over => return None,
            Stage::Leaving(until) => Some(until),
            Stage::Open => None,
        };
        let turn = match self.stage == Stage::Open && self.running.len() < AGENT_CALLS {
            true => self.waiting.iter().map(|(due, _)| *due).min(),
            false => None,
        };
        let pings = self.next_ping.min(self.last_pong + AGENT_INACTIVE);
        Some([until, turn].into_iter().flatten().fold(pings, Instant::min))
    }

    fn tick(&mut self, now: Instant, out: &mut Out) {
        if self.stage == Stage::Over {
            return;
        }
        if now.duration_since(self.last_pong) >= AGENT_INACTIVE {
            self.close(FAILURE, "ping timeout", "ping timeout", out);
            // Nobody reads there: what cannot be written at once is not waited for.
            out.abort = out.backlog > 0;
            return;
        }
        if now >= self.next_ping {
            self.next_ping = now + PING_PERIOD;
            self.mux.ping(self.pings);
            self.pings = self.pings.wrapping_add(1);
            self.check_place();
            if let Some(address) = &self.address {
                self.monitor.mend(address);
            }
        }
        self.settle(now, out);
    }

    fn drained(&mut self, _now: Instant, out: &mut Out) {
        self.backlog = out.backlog + out.bytes.len();
    }

    fn wants_input(&self) -> bool {
        self.backlog <= STREAM_HIGH_WATER
    }

    fn shutdown(&mut self, now: Instant, out: &mut Out) {
        if self.stage != Stage::Open {
            return;
        }
        // The agent's next call fails and it dials again; calls that were begun are answered first, so
        // that it does not repeat what is stored.
        self.mux.go_away(yamux::NORMAL);
        self.stage = Stage::Leaving(now + LAST_CALLS);
        self.settle(now, out);
    }

    fn closed(&mut self) {
        if self.address.take().is_none() {
            return;
        }
        for id in self.calls.keys().copied().collect::<Vec<_>>() {
            self.leave_tailnet(id);
        }
        self.calls.clear();
        self.waiting.clear();
        self.revoked = None;
        self.maps = None;
        self.session.app.metrics.agent_connections.dec();
        self.monitor.end(if self.reason.is_empty() { "connection lost" } else { self.reason });
    }
}
