//! What the server asks an agent itself, through the tailnet: its HTTP API.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::later::{self, Promise};
use super::reply::Reply;
use super::request::Call;
use crate::config::limits::ANSWERS_OF_ONE;
use crate::domain::agents::{self, Status};
use crate::domain::{Error, Fault};
use crate::model::{AgentId, Timestamp};
use crate::ops::budget::Held;
use crate::ops::lock::lock;
use crate::ops::places::Place;
use crate::store::agents::Agent;
use crate::tailnet::peer::{Conduit, State, Within};
use crate::wire::exchange::{self, Answer, Coming};

/// The agent's port for its HTTP API (agent/agent.go, v2.24.0).
pub(super) const PORT: u16 = 4;
/// Within this the agent is reached, and has answered; the real server gives it 30 s for the first.
const REACHED: Duration = Duration::from_secs(10);
const ANSWERED: Duration = Duration::from_secs(30);
/// Largest answer, bytes: a machine with thousands of containers.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// Refuses for `fault` unless the agent is connected.
pub(super) fn connected(call: &Call<'_>, agent: &Agent, fault: Fault) -> Result<(), Error> {
    let app = &call.service.app;
    let now = agents::connection(agent, app.presence.of(agent.id), app.started_at, Timestamp::now());
    let state = match now.status {
        Status::Connected => return Ok(()),
        Status::Connecting => "connecting",
        Status::Disconnected => "disconnected",
        Status::Timeout => "timeout",
    };
    Err(Error::new(fault, format!("The agent must be connected for this; its state is {state:?}.")))
}

/// Makes the reply of the agent's answer.
type Convert = Box<dyn FnOnce(Answer) -> Result<Reply, Error> + Send>;

/// Asks an agent, and answers with what `convert` makes of what it says. No thread waits for it.
pub(super) fn ask(
    call: &Call<'_>,
    agent: AgentId,
    method: &str,
    path: &str,
    convert: impl FnOnce(Answer) -> Result<Reply, Error> + Send + 'static,
) -> Result<Reply, Error> {
    let app = call.service.app.clone();
    let Some(place) = app.answers.take(agent, ANSWERS_OF_ONE) else {
        return Err(Error::new(Fault::Overloaded, "The agent has too many questions to answer. Try again soon."));
    };
    let held = app.answers_memory.hold();
    let (reply, mut promise) = later::park(call)?;
    promise.begin();
    let coming = Coming::default();
    let question = Question { promise, convert: Box::new(convert), conduit: None, coming, held, _place: place };
    let asked = Arc::new(Asked { question: Mutex::new(Some(question)) });
    let now = Instant::now();
    let within = Within { open: now + REACHED, over: Some(now + ANSWERED) };
    let jobs = app.jobs.clone();
    let looker = Arc::clone(&asked);
    let notify = Box::new(move || {
        let again = Arc::clone(&looker);
        if jobs.try_submit(move || again.look()).is_err() {
            // The promise is broken, which answers the request.
            lock(&looker.question).take();
        }
        true
    });
    let conduit = app.peer.dial(agent, PORT, exchange::request(method, path, "agent", &[]), within, notify);
    if let Some(question) = lock(&asked.question).as_mut() {
        question.conduit = Some(conduit);
    }
    // Whatever came before the conduit was there.
    asked.look();
    Ok(reply)
}

struct Asked {
    /// Gone once it is answered.
    question: Mutex<Option<Question>>,
}

struct Question {
    promise: Promise,
    convert: Convert,
    conduit: Option<Conduit>,
    coming: Coming,
    /// Its share of the memory for all answers.
    held: Held,
    _place: Place<AgentId>,
}

impl Asked {
    /// Takes what has come, and answers when that is all. Not for loops.
    fn look(&self) {
        let mut held = lock(&self.question);
        let Some(question) = held.as_mut() else { return };
        let Some(conduit) = &mut question.conduit else { return };
        let state = conduit.read(question.coming.buffer());
        let length = question.coming.length();
        let too_long = length > ANSWER_BYTES || !question.held.cover(length);
        let under_way = matches!(state, State::Dialing | State::Open);
        if under_way && !too_long && !question.coming.is_whole() {
            return;
        }
        let Some(Question { promise, convert, conduit, coming, held: _memory, _place }) = held.take() else { return };
        drop(held);
        drop(conduit);
        promise.give(match state {
            State::Failed(why) => Err(unanswered(why)),
            _ if too_long => Err(unanswered("Its answer is larger than what the server has room for.".into())),
            _ => match coming.answer() {
                Some(answer) => convert(answer),
                None => Err(unanswered("Its answer was cut off, or is no HTTP.".into())),
            },
        });
    }
}

/// The agent was not reached, or what it said makes no sense; as the real server has it, 500.
pub(super) fn unanswered(detail: String) -> Error {
    Error::new(Fault::Internal, "The agent did not answer.").detail(detail)
}
