//! UpdateLifecycle: what the agent says about its own life. Each state is sent once, so each is kept.

use super::{Reply, Session, decode, write};
use crate::domain::{Error, Fault};
use crate::model::Timestamp;
use crate::ops::hub::Topic;
use crate::store::agents::{self, Lifecycle};
use crate::wire::proto::agent::{UpdateLifecycleRequest, lifecycle::State};
use crate::wire::proto::google;

/// Stores the state and sends the report back. No order is enforced: a new process starts over.
pub(super) fn update(session: &Session, body: &[u8], reply: Reply) {
    let request: UpdateLifecycleRequest = match decode(body) {
        Ok(request) => request,
        Err(error) => return reply(Err(error)),
    };
    let mut report = request.lifecycle.unwrap_or_default();
    let state = match State::try_from(report.state) {
        Ok(State::Unspecified) => {
            return reply(Err(Error::new(Fault::Invalid, "The lifecycle report names no state.")));
        }
        Ok(state) => state,
        // A newer agent's state: an error would make that agent send it for ever.
        Err(_) => {
            log::warn!(agent = session.agent.to_string(); "unknown lifecycle state {} dropped", report.state);
            return reply(Ok(prost::Message::encode_to_vec(&report)));
        }
    };
    // Go's zero time stands for "now"; agents always send the field.
    let at = report.changed_at.map(super::timestamp).filter(|at| *at > Timestamp::GO_ZERO);
    let at = at.unwrap_or_else(|| {
        let now = Timestamp::now();
        let (seconds, nanos) = now.to_parts();
        report.changed_at = Some(google::Timestamp { seconds, nanos });
        now
    });
    let (id, workspace) = (session.agent, session.workspace);
    write(session, reply, None, move |write| {
        if let Some(agent) = agents::by_id(write, id)? {
            let (started_at, ready_at) = instants(state, at, agent.started_at, agent.ready_at);
            agents::set_lifecycle(write, id, word(state), started_at, ready_at, Timestamp::now())?;
            write.publish(Topic::Agent(id));
            write.publish(Topic::Workspace(workspace));
        }
        Ok(report)
    });
}

/// `started_at` and `ready_at` after `state` was reached at `at`.
fn instants(
    state: State,
    at: Timestamp,
    started_at: Option<Timestamp>,
    ready_at: Option<Timestamp>,
) -> (Option<Timestamp>, Option<Timestamp>) {
    match state {
        State::Starting => (Some(at), None),
        State::Ready | State::StartTimeout | State::StartError => (started_at.or(Some(at)), Some(at)),
        _ => (started_at, ready_at),
    }
}

fn word(state: State) -> Lifecycle {
    match state {
        State::Unspecified | State::Created => Lifecycle::Created,
        State::Starting => Lifecycle::Starting,
        State::StartTimeout => Lifecycle::StartTimeout,
        State::StartError => Lifecycle::StartError,
        State::Ready => Lifecycle::Ready,
        State::ShuttingDown => Lifecycle::ShuttingDown,
        State::ShutdownTimeout => Lifecycle::ShutdownTimeout,
        State::ShutdownError => Lifecycle::ShutdownError,
        State::Off => Lifecycle::Off,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_the_instants_as_each_state_says() {
        let (t1, t2, t9) = (Some(Timestamp(1)), Some(Timestamp(2)), Timestamp(9));
        let now = Some(t9);
        for (state, before, after) in [
            (State::Created, (t1, t2), (t1, t2)),
            (State::Starting, (t1, t2), (now, None)),
            (State::StartTimeout, (t1, None), (t1, now)),
            (State::StartError, (None, None), (now, now)),
            (State::Ready, (t1, t2), (t1, now)),
            (State::Ready, (None, None), (now, now)),
            (State::ShuttingDown, (t1, t2), (t1, t2)),
            (State::ShutdownTimeout, (t1, t2), (t1, t2)),
            (State::ShutdownError, (t1, t2), (t1, t2)),
            (State::Off, (None, None), (None, None)),
        ] {
            assert_eq!(instants(state, t9, before.0, before.1), after, "{state:?}");
        }
    }
}
