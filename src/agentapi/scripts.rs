//! ScriptCompleted: how a run of a script ended.

use super::{DROPPED, Reply, Session, decode, write};
use crate::config::limits::SCRIPT_TIMINGS;
use crate::domain::{Error, Fault};
use crate::model::{ScriptId, Timestamp};
use crate::store::scripts::{self, Stage, Timing, TimingStatus};
use crate::wire::proto::agent::{
    Timing as Report, WorkspaceAgentScriptCompletedRequest, WorkspaceAgentScriptCompletedResponse, timing,
};

/// Stores the run. Errors are only logged by the agent.
pub(super) fn completed(session: &Session, body: &[u8], reply: Reply) {
    let timing = decode::<WorkspaceAgentScriptCompletedRequest>(body).and_then(|request| {
        timing(request.timing.ok_or_else(|| Error::new(Fault::Invalid, "script timing is required"))?)
    });
    let timing = match timing {
        Ok(timing) => timing,
        Err(error) => return reply(Err(error)),
    };
    let agent = session.agent;
    write(session, reply, DROPPED, move |write| {
        scripts::insert_timing(write, agent, &timing)?;
        scripts::prune_timings(write, agent, SCRIPT_TIMINGS)?;
        Ok(WorkspaceAgentScriptCompletedResponse {})
    });
}

fn timing(report: Report) -> Result<Timing, Error> {
    let invalid = |what: &str| Error::new(Fault::Invalid, format!("The script timing has {what}."));
    let instant = |at: Option<_>| at.map(super::timestamp).filter(|at| *at > Timestamp::GO_ZERO);
    let script_id = ScriptId::from_slice(&report.script_id).ok_or_else(|| invalid("no script id of 16 bytes"))?;
    let started_at = instant(report.start).ok_or_else(|| invalid("no start"))?;
    let ended_at = instant(report.end).ok_or_else(|| invalid("no end"))?;
    if started_at > ended_at {
        return Err(invalid("an end before its start"));
    }
    let stage = match timing::Stage::try_from(report.stage) {
        Ok(timing::Stage::Start) => Stage::Start,
        Ok(timing::Stage::Stop) => Stage::Stop,
        Ok(timing::Stage::Cron) => Stage::Cron,
        Err(_) => return Err(invalid("an unknown stage")),
    };
    let status = match timing::Status::try_from(report.status) {
        Ok(timing::Status::Ok) => TimingStatus::Ok,
        Ok(timing::Status::ExitFailure) => TimingStatus::ExitFailure,
        Ok(timing::Status::TimedOut) => TimingStatus::TimedOut,
        Ok(timing::Status::PipesLeftOpen) => TimingStatus::PipesLeftOpen,
        Err(_) => return Err(invalid("an unknown status")),
    };
    Ok(Timing { script_id, started_at, ended_at, exit_code: report.exit_code, stage, status })
}
