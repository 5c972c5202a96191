//! Calls that wait for the store: their turn in the `rpc` pool, and what comes back.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::super::errand::{self, Answer};
use super::call::{Call, State};
use super::calls::Calls;
use super::side::Side;
use crate::agentapi;
use crate::config::limits::AGENT_CALLS;
use crate::domain::Error;
use crate::ops::mail::Outcome;

/// The unary calls of one connection that were not answered at once, by their serials.
#[derive(Default)]
pub(super) struct Pool {
    /// In the order of their requests, none before its instant.
    waiting: VecDeque<(Instant, u64)>,
    /// In the pool, also those that the client has given up: each still sends its letter.
    running: HashSet<u64>,
}

impl Pool {
    pub(super) fn wait(&mut self, now: Instant, serial: u64) {
        self.waiting.push_back((now, serial));
    }

    pub(super) fn give_up(&mut self, serial: u64) {
        self.waiting.retain(|(_, waiting)| *waiting != serial);
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Nothing runs.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// When the next call may have its turn.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let room = self.running.len() < AGENT_CALLS;
        room.then(|| self.waiting.iter().map(|(due, _)| *due).min()).flatten()
    }
}

impl Calls {
    /// Gives calls whose turn has come to the pool.
    pub(super) fn start_calls(&mut self, now: Instant) {
        let (Some(address), Side::Agent(agent)) = (self.address.clone(), &self.side) else { return };
        let session = Arc::clone(agent.session());
        let mut later = VecDeque::new();
        while self.pool.running.len() < AGENT_CALLS
            && let Some((due, serial)) = self.pool.waiting.pop_front()
        {
            let Some(id) = self.stream_of(serial) else { continue };
            let Some(Call { state: State::Unary(method, body), .. }) = self.table.get(&id) else { continue };
            if due > now {
                later.push_back((due, serial));
                continue;
            }
            let (job_session, method, body) = (Arc::clone(&session), *method, Arc::clone(body));
            let address = address.clone();
            let job = move || {
                let answer = Answer::new(address, serial);
                let reply = move |result: Result<Vec<u8>, Error>| {
                    answer.give(match result {
                        Ok(message) => Outcome::Bytes(message),
                        Err(error) => errand::failure(&error),
                    });
                };
                agentapi::call(&job_session, method, &body, Box::new(reply));
            };
            match session.app.jobs.try_submit(job) {
                Ok(()) => {
                    self.pool.running.insert(serial);
                }
                Err(_) => {
                    session.app.metrics.agent_calls_delayed.inc();
                    let pause = now + errand::QUEUE_PAUSE;
                    later.push_back((pause, serial));
                    self.pool.waiting.iter_mut().for_each(|(due, _)| *due = pause.max(*due));
                    break;
                }
            }
        }
        later.append(&mut self.pool.waiting);
        self.pool.waiting = later;
    }

    /// Takes the result of a unary call; gives one that is for somebody else back.
    pub(super) fn call_done(&mut self, now: Instant, serial: u64, outcome: Outcome) -> Option<Outcome> {
        if !self.pool.running.remove(&serial) {
            return Some(outcome);
        }
        // A call that was given up meanwhile gets no answer: the client does not wait for one.
        let id = self.stream_of(serial)?;
        let call = self.table.get_mut(&id).filter(|call| matches!(call.state, State::Unary(..)))?;
        let metrics = &self.side.app().metrics;
        let bytes = match outcome {
            Outcome::Bytes(message) => {
                metrics.agent_calls.inc();
                call.reply(&message)
            }
            Outcome::Busy(pause) => {
                metrics.agent_calls_delayed.inc();
                self.pool.waiting.push_back((now + pause, serial));
                return None;
            }
            Outcome::Failed { code, text } => {
                metrics.agent_call_errors.inc();
                call.fail(code, &text)
            }
            Outcome::Value(_) => return None,
        };
        self.mux.send(id, &bytes);
        None
    }

    /// Answers a call without the pool.
    pub(super) fn answer(&mut self, id: u32, answer: Result<Vec<u8>, Error>) {
        let Some(call) = self.table.get_mut(&id) else { return };
        if let Side::Agent(agent) = &self.side {
            let metrics = &agent.session().app.metrics;
            if answer.is_ok() {
                metrics.agent_calls.inc()
            } else {
                metrics.agent_call_errors.inc()
            };
        }
        let bytes = match answer {
            Ok(message) => call.reply(&message),
            Err(error) => match errand::failure(&error) {
                Outcome::Failed { code, text } => call.fail(code, &text),
                _ => call.fail(0, &error.to_string()),
            },
        };
        self.mux.send(id, &bytes);
    }
}
