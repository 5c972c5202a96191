//! What each RPC of an agent means: one file per family, bytes of a message in, bytes of a message out.
//!
//! The rule above all others: nearly every error makes an agent drop its connection and dial again,
//! for ever if the error persists (agent/agent.go, v2.24.0: a failing routine ends the session). So
//! what cannot be used is accepted and dropped, and an error is answered only where the agent is known
//! to go on, or where the answer would be a lie about something that must not be lost.
//!
//! A write is acknowledged after its commit. When the disk is full, reports that repeat themselves
//! (statistics, metadata, health, sessions, timings) are acknowledged and dropped, so that machines stay
//! reachable; what an agent sends only once (lifecycle, logs) waits on the connection until there is room.

mod apps;
mod banners;
mod boundary;
mod connections;
mod lifecycle;
mod logs;
mod manifest;
mod metadata;
mod resources;
mod scripts;
mod startup;
mod stats;
mod subagents;

use std::sync::Arc;

use prost::Message;

use crate::domain::{Error, Fault, Shared};
use crate::model::{AgentId, WorkspaceId};
use crate::store::Write;
use crate::wire::proto::google::Empty;
use crate::wire::proto::methods;

/// The agent behind a connection, as its RPCs see it.
pub struct Session {
    /// The running server.
    pub app: Shared,
    /// Whose connection it is.
    pub agent: AgentId,
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// The agent that declared it, for a sub-agent.
    pub parent: Option<AgentId>,
    /// Its name.
    pub name: String,
    /// The `version` that the connection asked for, stored with the start-up report.
    pub api_version: String,
    /// The client's address.
    pub peer: String,
}

/// Takes the answer to a call, once, on any thread; must be quick.
pub type Reply = Box<dyn FnOnce(Result<Vec<u8>, Error>) + Send>;

/// Answers calls that neither read nor write the store; for a loop. Anything else is `None`.
pub fn at_once(session: &Session, method: &str, body: &[u8]) -> Option<Result<Vec<u8>, Error>> {
    match method {
        methods::GET_SERVICE_BANNER => Some(banners::service(body)),
        methods::GET_ANNOUNCEMENT_BANNERS => Some(banners::announcements(body)),
        methods::GET_RESOURCES_MONITORING_CONFIGURATION => Some(resources::configuration(body)),
        methods::UPDATE_STATS => stats::idle(session, body),
        methods::POST_TELEMETRY => Some(Ok(Vec::new())),
        // Code 12 switches the feature off in the agent for the life of the connection
        // (agent/agentcontext/drpc.go, 2.10), which is what a server wants that does nothing with it.
        methods::PUSH_CONTEXT_STATE | methods::REFRESH_RESUME_TOKEN => Some(Err(unimplemented())),
        _ => None,
    }
}

/// Runs a call on a thread that may wait for a reader. `reply` is told here, or after the commit.
pub fn call(session: &Arc<Session>, method: &str, body: &[u8], reply: Reply) {
    if let Some(answer) = at_once(session, method, body) {
        return reply(answer);
    }
    match method {
        methods::GET_MANIFEST => reply(manifest::get(session, body)),
        methods::UPDATE_STARTUP => startup::update(session, body, reply),
        methods::UPDATE_LIFECYCLE => lifecycle::update(session, body, reply),
        methods::UPDATE_STATS => stats::update(session, body, reply),
        methods::BATCH_UPDATE_APP_HEALTHS => apps::update_healths(session, body, reply),
        methods::UPDATE_APP_STATUS => apps::update_status(session, body, reply),
        methods::BATCH_UPDATE_METADATA => metadata::update(session, body, reply),
        methods::BATCH_CREATE_LOGS => logs::create(session, body, reply),
        methods::SCRIPT_COMPLETED => scripts::completed(session, body, reply),
        methods::PUSH_RESOURCES_MONITORING_USAGE => resources::push(session, body, reply),
        methods::REPORT_CONNECTION => connections::report(session, body, reply),
        methods::CREATE_SUB_AGENT => subagents::create(session, body, reply),
        methods::DELETE_SUB_AGENT => subagents::delete(session, body, reply),
        methods::LIST_SUB_AGENTS => reply(subagents::list(session, body)),
        methods::REPORT_BOUNDARY_LOGS => reply(boundary::report(session, body)),
        _ => reply(Err(unimplemented())),
    }
}

fn unimplemented() -> Error {
    Error::new(Fault::Unimplemented, "Unimplemented")
}

fn decode<M: Message + Default>(body: &[u8]) -> Result<M, Error> {
    M::decode(body).map_err(|error| {
        Error::new(Fault::Invalid, "The request is not the protobuf message that this call takes.")
            .detail(error.to_string())
    })
}

/// Runs `f` on the writer; the answer goes out after the commit. A disk that is full is answered with
/// `shed`, where there is something: the report is dropped.
fn write<M: Message>(
    session: &Session,
    reply: Reply,
    shed: Option<Vec<u8>>,
    f: impl FnOnce(&Write<'_>) -> Result<M, Error> + Send + 'static,
) {
    let done = answered(session, reply, shed);
    session.app.store.write_then(move |write| f(write).map(|message| message.encode_to_vec()), done);
}

/// As [`write`], for what every agent reports again and again: its commit may wait for others.
fn write_report<M: Message>(
    session: &Session,
    reply: Reply,
    shed: Option<Vec<u8>>,
    f: impl FnOnce(&Write<'_>) -> Result<M, Error> + Send + 'static,
) {
    let done = answered(session, reply, shed);
    session.app.store.write_with_others(move |write| f(write).map(|message| message.encode_to_vec()), done);
}

fn answered(
    session: &Session,
    reply: Reply,
    shed: Option<Vec<u8>>,
) -> impl FnOnce(Result<Vec<u8>, Error>) + Send + use<> {
    let dropped = session.app.metrics.agent_reports_dropped.clone();
    move |result| match (result, shed) {
        (Err(error), Some(shed)) if error.fault == Fault::StorageFull => {
            dropped.inc();
            reply(Ok(shed));
        }
        (result, _) => reply(result),
    }
}

/// The answer without any field, for a report that is dropped.
const DROPPED: Option<Vec<u8>> = Some(Vec::new());

/// Cuts a text at a character border.
fn cut(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes));
    }
    text
}

fn timestamp(at: crate::wire::proto::google::Timestamp) -> crate::model::Timestamp {
    crate::model::Timestamp::from_parts(at.seconds, at.nanos)
}

const EMPTY: Empty = Empty {};
