//! The calls of one connection: yamux streams in, DRPC packets out of them, and who answers what.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::{Call, State};
use super::coordination::Gone;
use super::pool::Pool;
use super::side::Side;
use crate::ops::hub::{Subscription, Topic};
use crate::ops::mail::{Address, Mail};
use crate::wire::drpc::Packet;
use crate::wire::proto::methods::{self, Kind, METHODS};
use crate::wire::yamux;

/// How long an endless stream may have something that its peer gives it no room for. Whoever does not
/// read for so long would be told of a world that is gone; it dials again and hears of the present one.
const STUCK: Duration = Duration::from_secs(30);

/// The multiplexer and what is on its streams.
pub(super) struct Calls {
    pub(super) side: Side,
    pub(super) mux: yamux::Session,
    /// From `open` to `close`.
    pub(super) address: Option<Address>,
    /// By yamux stream.
    pub(super) table: BTreeMap<u32, Call>,
    pub(super) pool: Pool,
    /// From the first stream of relay maps on.
    pub(super) maps: Option<Subscription>,
    /// The socket has more to write than it should: endless streams wait.
    pub(super) held: bool,
    /// The last number given by [`Calls::serial`].
    serials: u64,
    /// Since when an endless stream has no room.
    stuck: Option<Instant>,
}

impl Calls {
    pub(super) fn new(side: Side) -> Calls {
        Calls {
            side,
            mux: yamux::Session::server(),
            address: None,
            table: BTreeMap::new(),
            pool: Pool::default(),
            maps: None,
            held: false,
            serials: 0,
            stuck: None,
        }
    }

    /// A number that this connection has not used and will not use again, to mark a call or a job with.
    pub(super) fn serial(&mut self) -> u64 {
        self.serials += 1;
        self.serials
    }

    /// The yamux stream of the call with this serial, if it is there.
    pub(super) fn stream_of(&self, serial: u64) -> Option<u32> {
        self.table.iter().find(|(_, call)| call.serial == serial).map(|(id, _)| *id)
    }

    pub(super) fn open(&mut self, now: Instant, address: Address) {
        self.side.open(now, &address);
        self.address = Some(address);
    }

    /// Bytes of the multiplexer from the peer; says whether a ping was answered.
    pub(super) fn receive(&mut self, now: Instant, bytes: &[u8]) -> Result<bool, yamux::Error> {
        let (mut events, mut pong) = (Vec::new(), false);
        let result = self.mux.receive(bytes, &mut events);
        for event in events {
            match event {
                yamux::Event::Opened(id) => {
                    let call = Call::new(self.serial());
                    self.table.insert(id, call);
                }
                yamux::Event::Data(id, bytes) => {
                    self.data(now, id, &bytes);
                    self.return_credit(id, bytes.len());
                }
                yamux::Event::Finished(id) => {
                    self.give_up(id);
                    self.table.remove(&id);
                    self.mux.finish(id);
                }
                yamux::Event::Reset(id) => {
                    self.give_up(id);
                    self.table.remove(&id);
                }
                yamux::Event::Pong(_) => pong = true,
                // The peer opens no more streams; what is under way goes on.
                yamux::Event::GoAway(_) => {}
            }
        }
        result.map(|()| pong)
    }

    /// A letter that is not about the connection itself.
    pub(super) fn mail(&mut self, now: Instant, mail: Mail) {
        match mail {
            Mail::Changed(Topic::DerpMap) => self.map_changed(),
            Mail::Changed(Topic::WorkspacesOf(_)) => self.workspaces_changed(now),
            Mail::Changed(_) | Mail::Close { .. } => {}
            Mail::Done { tag, outcome } => {
                let outcome = self.call_done(now, tag, outcome);
                let outcome = outcome.and_then(|outcome| self.tunnel_checked(now, tag, outcome));
                if let Some(outcome) = outcome {
                    self.workspaces_read(now, tag, outcome);
                }
            }
            Mail::Superseded { tag } => {
                if let Some(id) = self.stream_of(tag) {
                    self.superseded(id);
                }
            }
            Mail::Inbox { tag } => {
                if let Some(id) = self.stream_of(tag) {
                    self.take_inbox(id);
                }
            }
        }
    }

    /// What every turn ends with. A server that is `leaving` begins nothing new.
    pub(super) fn settle(&mut self, now: Instant, leaving: bool) {
        if !leaving {
            self.start_calls(now);
            self.start_checks(now);
            self.start_reads(now);
        }
        self.resume_inboxes();
        self.push_maps();
        let stuck = self.table.iter().any(|(id, call)| call.is_endless() && self.mux.queued(*id) > 0);
        self.stuck = stuck.then(|| self.stuck.unwrap_or(now));
    }

    /// When something is due. A server that is `leaving` begins nothing new.
    pub(super) fn deadline(&self, leaving: bool) -> Option<Instant> {
        let stuck = self.stuck.map(|since| since + STUCK);
        let work = match leaving {
            true => None,
            false => [self.pool.deadline(), self.checks_deadline(), self.reads_deadline(), self.side.deadline()]
                .into_iter()
                .flatten()
                .min(),
        };
        [stuck, work].into_iter().flatten().min()
    }

    /// Whether an endless stream has had no room for too long.
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        self.stuck.is_some_and(|since| now >= since + STUCK)
    }

    /// Nothing runs, and the peer has let go of every call that was answered.
    pub(super) fn is_idle(&self) -> bool {
        self.pool.is_idle() && !self.table.values().any(|call| matches!(call.state, State::Over))
    }

    /// The connection ends: its peer leaves the tailnet.
    pub(super) fn close(&mut self, gone: Gone) {
        for id in self.table.keys().copied().collect::<Vec<_>>() {
            self.leave_tailnet(id, gone);
        }
        self.table.clear();
        self.pool.clear();
        self.maps = None;
        self.address = None;
    }

    fn data(&mut self, now: Instant, id: u32, bytes: &[u8]) {
        let Some(call) = self.table.get_mut(&id) else { return };
        if matches!(call.state, State::Over) {
            return;
        }
        let mut packets = Vec::new();
        let result = call.decoder.receive(bytes, &mut packets);
        for packet in packets {
            self.packet(now, id, packet);
        }
        let held: usize = self.table.values().map(Call::held).sum();
        if result.is_err() || held > self.side.may_hold().0 {
            let peer = self.side.peer().0;
            log::debug!(peer = peer.to_string(); "a call was reset: {result:?}, {held} bytes held");
            self.reset(id);
        }
    }

    fn reset(&mut self, id: u32) {
        self.give_up(id);
        self.table.remove(&id);
        self.mux.reset(id);
    }

    fn packet(&mut self, now: Instant, id: u32, packet: Packet) {
        let Some(call) = self.table.get_mut(&id) else { return };
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
            (State::Coordinate(_), Packet::Message(body)) => self.coordination_request(now, id, body),
            (State::Coordinate(_), Packet::CloseSend) => self.coordination_finished(id),
            (_, Packet::Close | Packet::Cancel | Packet::Error { .. }) => self.give_up(id),
            // A client that says more than it should on a call that runs: the call is what counts.
            (_, Packet::CloseSend)
            | (State::Unary(..) | State::Maps(_) | State::Updates(_) | State::NoUpdates, Packet::Message(_)) => {}
            (_, Packet::Invoke(_)) | (State::Start, Packet::Message(_)) => self.reset(id),
        }
    }

    fn invoke(&mut self, id: u32, name: &str) {
        let Some(call) = self.table.get_mut(&id) else { return };
        match METHODS.iter().find(|(method, _)| *method == name) {
            Some((_, Kind::Bidirectional)) => self.coordinate(id),
            Some((method, Kind::Unary | Kind::ServerStream)) => call.state = State::Request(method),
            // The real server answers code 0, which clients cannot tell from a failure.
            None => {
                let bytes = call.fail(12, &format!("Unimplemented: unknown rpc: {name:?}"));
                self.side.app().metrics.agent_call_errors.inc();
                self.mux.send(id, &bytes);
            }
        }
    }

    fn requested(&mut self, now: Instant, id: u32, method: &'static str, body: Vec<u8>) {
        match method {
            methods::STREAM_DERP_MAPS => self.stream_maps(id),
            methods::WORKSPACE_UPDATES => self.watch_workspaces(now, id, &body),
            _ => match self.side.at_once(method, &body) {
                Some(answer) => self.answer(id, answer),
                None => {
                    if let Some(call) = self.table.get_mut(&id) {
                        call.state = State::Unary(method, Arc::new(body));
                        self.pool.wait(now, call.serial);
                    }
                }
            },
        }
    }

    /// The client is no longer interested.
    fn give_up(&mut self, id: u32) {
        self.leave_tailnet(id, Gone::Lost);
        if let Some(call) = self.table.get_mut(&id) {
            self.pool.give_up(call.serial);
            call.state = State::Over;
        }
    }
}
