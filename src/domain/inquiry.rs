//! A question to an agent's own HTTP API, through the tailnet, and its answer as it comes. Nobody waits for it.

use std::time::Instant;

use super::App;
use crate::config::limits::ANSWERS_OF_ONE;
use crate::model::AgentId;
use crate::ops::budget::Held;
use crate::ops::places::Place;
use crate::tailnet::peer::{Conduit, Notify, State, Within};
use crate::wire::exchange::{Answer, Coming, request};

/// The agent's port for its HTTP API (agent/agent.go, v2.24.0).
const PORT: u16 = 4;
/// Largest answer, bytes: a machine with thousands of containers.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// See above.
pub struct Inquiry {
    /// Present while the answer comes.
    conduit: Option<Conduit>,
    coming: Coming,
    /// Its share of the memory for all answers.
    held: Held,
    _place: Place<AgentId>,
}

/// Why there is no answer.
pub enum Unanswered {
    /// The agent was not reached, or the connection broke.
    Failed(String),
    /// It is larger than what the server has room for.
    TooLarge,
    /// It was cut off, or is no HTTP.
    Unreadable,
}

impl Inquiry {
    /// One more question for `agent`, unless it has as many to answer as it may have.
    pub fn admit(app: &App, agent: AgentId) -> Option<Inquiry> {
        let place = app.answers.take(agent, ANSWERS_OF_ONE)?;
        Some(Inquiry { conduit: None, coming: Coming::default(), held: app.answers_memory.hold(), _place: place })
    }

    /// The answer will come through `conduit`, which [`ask`] has opened.
    pub fn begin(&mut self, conduit: Conduit) {
        self.conduit = Some(conduit);
    }

    /// Takes what has come; says what came of the question once that is known.
    pub fn read(&mut self) -> Option<Result<Answer, Unanswered>> {
        let state = self.conduit.as_mut()?.read(self.coming.buffer());
        let length = self.coming.length();
        let has_room = length <= ANSWER_BYTES && self.held.cover(length);
        let under_way = matches!(state, State::Dialing | State::Open);
        if under_way && has_room && !self.coming.is_whole() {
            return None;
        }
        self.conduit = None;
        Some(match state {
            State::Failed(why) => Err(Unanswered::Failed(why)),
            _ if !has_room => Err(Unanswered::TooLarge),
            _ => self.coming.answer().ok_or(Unanswered::Unreadable),
        })
    }
}

/// Sends the question. The agent must be reached at `open` and have answered at `over`; `notify` is called when
/// there is something to read, see [`crate::tailnet::peer::Peer::dial`].
pub fn ask(
    app: &App,
    agent: AgentId,
    (method, path): (&str, &str),
    (open, over): (Instant, Instant),
    notify: Notify,
) -> Conduit {
    app.peer.dial(agent, PORT, request(method, path, "agent", &[]), Within { open, over: Some(over) }, notify)
}
