//! One coordination stream: what its peer may ask, and the order in which that is done.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::domain::Shared;
use crate::domain::absent::{Absent, Pass};
use crate::domain::connection_log::Journal;
use crate::domain::credential::Credential;
use crate::model::AgentId;
use crate::store::tunnels::Ending;
use crate::tailnet::Seat;
use crate::tailnet::admission::{self, peer_id};
use crate::wire::proto::tailnet::{CoordinateRequest, CoordinateResponse};
use prost::Message;

/// Time between an agent's goodbye and the word of it to its partners. They drop what comes from an agent that
/// is gone, and its last words, such as the ends of sessions, may still be on their way through the relay. The
/// agent waits for the end of this stream (tailnet/controllers.go Close, v2.24.0).
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Requests of one stream that wait for the one before them. Beyond it the stream's credit is held back,
/// so that its peer must wait, too; the real server's buffer has the same size (tailnet/coordinator.go
/// RequestBufferSize, v2.24.0). Together with what one window of credit brings: 256 KiB.
const WAITING_REQUESTS: usize = 32;

/// What the peer of a connection may ask of the coordinator.
pub(super) enum Rule {
    /// An agent, by its id and what is stored of its token, announces itself and never opens tunnels.
    Agent(AgentId, Vec<u8>),
    /// A client that reaches one agent, to which it was let through when it was admitted.
    One(AgentId, Credential),
    /// A client that reaches every agent that its user may; each tunnel is looked up.
    Reachable(Credential),
}

/// How a peer leaves the tailnet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Gone {
    /// Without a goodbye: it may come back.
    Lost,
    /// It may not be here any more.
    Withdrawn,
    /// This server stops: nobody is told anything, since all come back.
    Stopping,
}

/// A coordination stream.
pub(super) struct Coordination {
    pub(super) seat: Seat,
    rule: Rule,
    journal: Option<Journal>,
    /// Requests that wait for the tunnel of an earlier one to be looked up.
    waiting: VecDeque<Vec<u8>>,
    pub(super) check: Option<Check>,
    /// Received bytes whose credit the peer gets once fewer requests wait.
    pub(super) withheld: usize,
    /// There is something in the inbox that the peer has no room for.
    pub(super) held: bool,
    /// The agent has said goodbye, and its partners are told then.
    pub(super) goodbye: Option<Instant>,
}

/// A tunnel that is being looked up.
pub(super) struct Check {
    request: CoordinateRequest,
    pub(super) agent: AgentId,
    /// The job's mark; `None` while it is not in the pool.
    pub(super) tag: Option<u64>,
    /// Not in the pool before this instant.
    pub(super) due: Instant,
}

/// What follows from a request.
#[derive(PartialEq, Debug)]
pub(super) enum Next {
    /// It is done; so much is to be told besides the inbox.
    Done(Vec<Vec<u8>>),
    /// Its tunnel must be looked up first.
    Check,
    /// The peer may not ask this: it is told so, and the stream ends.
    Refused(String),
    /// The request is not what it should be: the stream ends with this error.
    Broken(String),
    /// The peer has said goodbye.
    Goodbye,
}

/// A message with an error text, which its receiver only logs.
pub(super) fn error(text: impl Into<String>) -> Vec<u8> {
    CoordinateResponse { error: text.into(), ..CoordinateResponse::default() }.encode_to_vec()
}

impl Coordination {
    /// The peer has taken `seat`. Tunnels of earlier streams come alive as it asks for them again, so each is
    /// authorised anew.
    pub(super) fn new(app: &Shared, seat: Seat, rule: Rule, journal: Option<Journal>) -> Coordination {
        app.absent.remove(seat.peer());
        Coordination {
            seat,
            rule,
            journal,
            waiting: VecDeque::new(),
            check: None,
            withheld: 0,
            held: false,
            goodbye: None,
        }
    }

    /// Bytes of requests that wait.
    pub(super) fn held_bytes(&self) -> usize {
        self.waiting.iter().map(Vec::len).sum()
    }

    /// No further requests are taken for now.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_REQUESTS
    }

    /// A request came. `None`: it has to wait.
    pub(super) fn request(&mut self, app: &Shared, now: Instant, body: Vec<u8>) -> Option<Next> {
        if self.check.is_some() {
            self.waiting.push_back(body);
            return None;
        }
        Some(self.judge(app, now, &body))
    }

    /// The next request that has waited.
    pub(super) fn next_waiting(&mut self, app: &Shared, now: Instant) -> Option<Next> {
        if self.check.is_some() {
            return None;
        }
        let body = self.waiting.pop_front()?;
        Some(self.judge(app, now, &body))
    }

    /// The tunnel was looked up: the request goes on, or is refused. The text is vague on purpose: nobody
    /// learns which agents there are (tailnet/tunnel.go ClientUserCoordinateeAuth, v2.24.0).
    pub(super) fn checked(&mut self, app: &Shared, now: Instant, allowed: bool) -> Option<Next> {
        let check = self.check.take()?;
        Some(match allowed {
            true => self.apply(app, now, check.request),
            false => Next::Refused("workspace agent not found or you do not have permission".into()),
        })
    }

    /// The whole request is authorised before any of it is done.
    fn judge(&mut self, app: &Shared, now: Instant, body: &[u8]) -> Next {
        let request = match CoordinateRequest::decode(body) {
            Ok(request) => request,
            Err(error) => return Next::Broken(format!("The request is no CoordinateRequest: {error}")),
        };
        let verdict = match &self.rule {
            Rule::Agent(agent, _) => admission::agent(*agent, &request),
            Rule::One(agent, _) => admission::client(&request, Some(*agent)),
            Rule::Reachable(_) => admission::client(&request, None),
        };
        if let Err(text) = verdict {
            return Next::Refused(text);
        }
        match (&self.rule, &request.add_tunnel) {
            (Rule::Reachable(_), Some(tunnel)) => match peer_id(&tunnel.id) {
                Ok(id) => {
                    self.check = Some(Check { request, agent: AgentId(id), tag: None, due: now });
                    Next::Check
                }
                Err(text) => Next::Refused(format!("parse add tunnel id: {text}")),
            },
            _ => self.apply(app, now, request),
        }
    }

    /// Does what a request asks, in the order of the real server: the node, the tunnels, the goodbye, the
    /// handshakes (tailnet/coordinator.go handleRequest, v2.24.0).
    fn apply(&mut self, app: &Shared, now: Instant, request: CoordinateRequest) -> Next {
        let tailnet = &app.tailnet;
        let mut told = Vec::new();
        if let Some(node) = request.update_self.and_then(|update| update.node) {
            if let Some(journal) = &mut self.journal {
                journal.announced(&node);
            }
            if let Err(text) = tailnet.update(&self.seat, node) {
                return Next::Refused(text);
            }
        }
        if let Some(tunnel) = request.add_tunnel {
            let id = match peer_id(&tunnel.id) {
                Ok(id) => id,
                Err(text) => return Next::Broken(text),
            };
            // One tunnel too many must not cost the others: the peer is told, and on it goes.
            match (tailnet.add_tunnel(&self.seat, id), &mut self.journal) {
                (Ok(()), Some(journal)) => journal.tunnel_opened(AgentId(id)),
                (Ok(()), None) => {}
                (Err(refusal), _) => told.push(error(format!("add tunnel: {refusal}"))),
            }
        }
        if let Some(tunnel) = request.remove_tunnel {
            match peer_id(&tunnel.id) {
                Ok(id) => {
                    tailnet.remove_tunnel(&self.seat, id);
                    if let Some(journal) = &mut self.journal {
                        journal.tunnel_closed(AgentId(id), Ending::Closed);
                    }
                }
                Err(text) => return Next::Broken(text),
            }
        }
        if request.disconnect.is_some() {
            if matches!(self.rule, Rule::Agent(..)) && !tailnet.partners(self.seat.peer()).is_empty() {
                self.goodbye = Some(now + LAST_WORDS);
                return Next::Done(told);
            }
            self.say_goodbye(app);
            return Next::Goodbye;
        }
        for ready in request.ready_for_handshake {
            match peer_id(&ready.id) {
                Ok(id) => tailnet.ready(&self.seat, id),
                Err(text) => return Next::Broken(text),
            }
        }
        Next::Done(told)
    }

    /// The peer is gone for its partners at once.
    pub(super) fn say_goodbye(&mut self, app: &Shared) {
        self.goodbye = None;
        app.tailnet.disconnect(&self.seat);
        if let Some(journal) = &mut self.journal {
            journal.end(Ending::Closed);
        }
    }

    /// With what a client was admitted.
    pub(super) fn credential(&self) -> Option<&Credential> {
        match &self.rule {
            Rule::One(_, credential) | Rule::Reachable(credential) => Some(credential),
            Rule::Agent(..) => None,
        }
    }

    fn pass(&self) -> Pass {
        match &self.rule {
            Rule::One(_, credential) | Rule::Reachable(credential) => Pass::Person(credential.clone()),
            Rule::Agent(id, token_hash) => Pass::Agent { id: *id, token_hash: token_hash.clone() },
        }
    }

    /// The peer leaves. Without effect if it has said goodbye, or a newer stream has taken its place.
    pub(super) fn leave(&mut self, app: &Shared, gone: Gone) {
        let ending = match gone {
            Gone::Lost if self.goodbye.is_some() => return self.say_goodbye(app),
            Gone::Lost => {
                if app.tailnet.lose(&self.seat) {
                    Absent::add(app, self.seat.peer(), self.pass());
                }
                Ending::Lost
            }
            Gone::Withdrawn => {
                app.tailnet.disconnect(&self.seat);
                Ending::Revoked
            }
            Gone::Stopping => Ending::Lost,
        };
        if let Some(journal) = &mut self.journal {
            journal.end(ending);
        }
    }

    /// A newer stream of the same peer has taken the place of this one.
    pub(super) fn superseded(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.superseded();
        }
    }
}
