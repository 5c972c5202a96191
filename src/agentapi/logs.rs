//! BatchCreateLogs: lines of scripts and of other log sources.

use super::{Reply, Session, decode, write};
use crate::domain::agent_logs::{self, Appended};
use crate::domain::{Error, Fault};
use crate::model::{LogSourceId, Timestamp};
use crate::ops::hub::Topic;
use crate::store::logs::{self, Level};
use crate::wire::proto::agent::{BatchCreateLogsRequest, BatchCreateLogsResponse, log};

/// Stores a batch whole or not at all. The limit is told in the reply, not as an error: the agent then
/// sends nothing more in its process. A source id that is not 16 bytes is an error, as upstream has it
/// (coderd/agentapi/logs.go, v2.24.0): no agent sends one, and the author of another sender should know.
pub(super) fn create(session: &Session, body: &[u8], reply: Reply) {
    let request: BatchCreateLogsRequest = match decode(body) {
        Ok(request) => request,
        Err(error) => return reply(Err(error)),
    };
    if request.logs.is_empty() {
        return reply(Ok(Vec::new()));
    }
    let Some(source) = LogSourceId::from_slice(&request.log_source_id) else {
        return reply(Err(Error::new(Fault::Invalid, "A log source id has 16 bytes.")));
    };
    let lines: Vec<(Level, String)> = request.logs.into_iter().map(|line| (level(line.level), line.output)).collect();
    let (id, workspace) = (session.agent, session.workspace);
    write(session, reply, None, move |write| {
        let first = logs::usage(write, id)?.is_some_and(|(bytes, _)| bytes == 0);
        // The time that the agent gives is ignored: the whole batch has the server's.
        let appended = agent_logs::append_until_overflow(write, id, Some(source), lines, Timestamp::now())?;
        let overflowed = matches!(appended, Appended::Overflowed { .. });
        if first || appended == (Appended::Overflowed { before: false }) {
            write.publish(Topic::Workspace(workspace));
        }
        Ok(BatchCreateLogsResponse { log_limit_exceeded: overflowed })
    });
}

fn level(reported: i32) -> Level {
    match log::Level::try_from(reported) {
        Ok(log::Level::Trace) => Level::Trace,
        Ok(log::Level::Debug) => Level::Debug,
        Ok(log::Level::Warn) => Level::Warn,
        Ok(log::Level::Error) => Level::Error,
        Ok(log::Level::Info | log::Level::Unspecified) | Err(_) => Level::Info,
    }
}
