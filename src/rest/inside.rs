//! What the server asks an agent itself, through the tailnet: its HTTP API.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::later::{self, Promise};
use super::reply::Reply;
use super::request::Call;
use crate::domain::agents::{self, Status};
use crate::domain::inquiry::{self, Inquiry, Unanswered};
use crate::domain::{Error, Fault};
use crate::model::{AgentId, Timestamp};
use crate::ops::lock::lock;
use crate::store::agents::Agent;
use crate::wire::exchange::Answer;

/// Within this the agent is reached, and has answered; the real server gives it 30 s for the first.
const REACHED: Duration = Duration::from_secs(10);
const ANSWERED: Duration = Duration::from_secs(30);

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
    let Some(inquiry) = Inquiry::admit(&app, agent) else {
        return Err(Error::new(Fault::Overloaded, "The agent has too many questions to answer. Try again soon."));
    };
    let (reply, mut promise) = later::park(call)?;
    promise.begin();
    let question = Question { promise, convert: Box::new(convert), inquiry };
    let asked = Arc::new(Asked { question: Mutex::new(Some(question)) });
    let now = Instant::now();
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
    let conduit = inquiry::ask(&app, agent, (method, path), (now + REACHED, now + ANSWERED), notify);
    if let Some(question) = lock(&asked.question).as_mut() {
        question.inquiry.begin(conduit);
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
    inquiry: Inquiry,
}

impl Asked {
    /// Takes what has come, and answers when that is all. Not for loops.
    fn look(&self) {
        let mut held = lock(&self.question);
        let Some(told) = held.as_mut().and_then(|question| question.inquiry.read()) else { return };
        let Some(Question { promise, convert, inquiry: _memory }) = held.take() else { return };
        drop(held);
        promise.give(match told {
            Ok(answer) => convert(answer),
            Err(Unanswered::Failed(why)) => Err(unanswered(why)),
            Err(Unanswered::TooLarge) => {
                Err(unanswered("Its answer is larger than what the server has room for.".into()))
            }
            Err(Unanswered::Unreadable) => Err(unanswered("Its answer was cut off, or is no HTTP.".into())),
        });
    }
}

/// The agent was not reached, or what it said makes no sense; as the real server has it, 500.
pub(super) fn unanswered(detail: String) -> Error {
    Error::new(Fault::Internal, "The agent did not answer.").detail(detail)
}
