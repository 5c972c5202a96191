//! ReportConnection: sessions inside the machine.

use uuid::Uuid;

use super::{DROPPED, EMPTY, Reply, Session, cut, decode, write};
use crate::model::Timestamp;
use crate::store::connections::{self, Kind};
use crate::wire::proto::agent::{ReportConnectionRequest, connection::Action, connection::Type};

/// Bytes of an address or an app's name.
const NAME_BYTES: usize = 256;
/// Bytes of a reason.
const REASON_BYTES: usize = 1_024;

/// Stores the report. Never an error: an agent of 2.24 ends its session and then sends the same
/// report again, for ever (agent/agent.go reportConnectionsLoop). What makes no sense is dropped.
pub(super) fn report(session: &Session, body: &[u8], reply: Reply) {
    let connection = match decode::<ReportConnectionRequest>(body) {
        Ok(request) => request.connection.unwrap_or_default(),
        Err(error) => {
            log::warn!(agent = session.agent.to_string(); "a connection report was dropped: {error}");
            return reply(Ok(Vec::new()));
        }
    };
    let id = Uuid::from_slice(&connection.id).ok();
    let action = Action::try_from(connection.action).ok().filter(|action| *action != Action::Unspecified);
    let (Some(id), Some(action)) = (id, action) else {
        log::warn!(agent = session.agent.to_string(); "a connection report without id or action was dropped");
        return reply(Ok(Vec::new()));
    };
    let kind = match Type::try_from(connection.r#type) {
        Ok(Type::Ssh) => Kind::Ssh,
        Ok(Type::Vscode) => Kind::Vscode,
        Ok(Type::Jetbrains) => Kind::Jetbrains,
        Ok(Type::ReconnectingPty) => Kind::ReconnectingPty,
        Ok(Type::Unspecified) | Err(_) => Kind::Unknown,
    };
    let at = connection.timestamp.map(super::timestamp).filter(|at| *at > Timestamp::GO_ZERO);
    let at = at.unwrap_or_else(Timestamp::now);
    // Newer agents report sessions from the machine itself by name.
    let ip = if connection.ip == "localhost" { "127.0.0.1".to_owned() } else { cut(connection.ip, NAME_BYTES) };
    // Everybody's terminals come from the server's own address, so that time alone tells whose one is; and that
    // is the server's, since clocks of machines may be wrong.
    let is_own = action == Action::Connect && ip == session.app.peer.address().to_string();
    let at = if is_own { Timestamp::now() } else { at };
    let app_name = cut(connection.app_name, NAME_BYTES);
    let end = (connection.status_code, connection.reason.map(|reason| cut(reason, REASON_BYTES)));
    let agent = session.agent;
    write(session, reply, DROPPED, move |write| {
        match action {
            Action::Disconnect => connections::end(write, agent, id, kind, (end.0, end.1.as_deref()), at)?,
            Action::Connect | Action::Unspecified => {
                connections::begin(write, agent, id, kind, &app_name, &ip, at)?;
            }
        }
        Ok(EMPTY)
    });
}
