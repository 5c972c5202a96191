//! App health and app status.

use std::collections::HashSet;

use super::{DROPPED, Reply, Session, cut, decode, write};
use crate::config::limits::{APP_STATUSES, REPORTED_TEXT_BYTES};
use crate::domain::{Error, Fault};
use crate::model::{AppId, Timestamp};
use crate::ops::hub::Topic;
use crate::store::apps::{self, Health, StatusState};
use crate::wire::proto::agent::{
    AppHealth, BatchUpdateAppHealthRequest, BatchUpdateAppHealthResponse, UpdateAppStatusRequest,
    UpdateAppStatusResponse, update_app_status_request::AppStatusState,
};

/// Bytes of a status message, as over REST.
const MESSAGE_BYTES: usize = 160;

/// Stores the healths of apps that are checked. Anything else in the batch is dropped: the agent would
/// only send the same again.
pub(super) fn update_healths(session: &Session, body: &[u8], reply: Reply) {
    let request: BatchUpdateAppHealthRequest = match decode(body) {
        Ok(request) => request,
        Err(error) => return reply(Err(error)),
    };
    let updates: Vec<(AppId, Health)> =
        request.updates.iter().filter_map(|update| AppId::from_slice(&update.id).zip(health(update.health))).collect();
    let (id, workspace) = (session.agent, session.workspace);
    write(session, reply, DROPPED, move |write| {
        let checked: HashSet<AppId> = apps::of_agent(write, id)?
            .into_iter()
            .filter(|app| !app.healthcheck_url.is_empty())
            .map(|app| app.id)
            .collect();
        let mut changed = false;
        for (app, health) in updates {
            changed |= checked.contains(&app) && apps::set_health(write, id, app, health)?;
        }
        if changed {
            write.publish(Topic::Agent(id));
            write.publish(Topic::Workspace(workspace));
        }
        Ok(BatchUpdateAppHealthResponse {})
    });
}

fn health(reported: i32) -> Option<Health> {
    match AppHealth::try_from(reported) {
        Ok(AppHealth::Disabled) => Some(Health::Disabled),
        Ok(AppHealth::Initializing) => Some(Health::Initializing),
        Ok(AppHealth::Healthy) => Some(Health::Healthy),
        Ok(AppHealth::Unhealthy) => Some(Health::Unhealthy),
        Ok(AppHealth::Unspecified) | Err(_) => None,
    }
}

/// Stores what an app says it is doing. Errors go to the helper in the machine that asked; the
/// connection goes on.
pub(super) fn update_status(session: &Session, body: &[u8], reply: Reply) {
    let request: UpdateAppStatusRequest = match decode(body) {
        Ok(request) => request,
        Err(error) => return reply(Err(error)),
    };
    if request.message.len() > MESSAGE_BYTES {
        return reply(Err(Error::new(Fault::Invalid, "The message of an app status has 160 bytes at most.")));
    }
    let state = match AppStatusState::try_from(request.state) {
        Ok(AppStatusState::Working) => StatusState::Working,
        Ok(AppStatusState::Idle) => StatusState::Idle,
        Ok(AppStatusState::Complete) => StatusState::Complete,
        Ok(AppStatusState::Failure) => StatusState::Failure,
        Err(_) => return reply(Err(Error::new(Fault::Invalid, "The app status names no known state."))),
    };
    let (id, workspace) = (session.agent, session.workspace);
    write(session, reply, None, move |write| {
        let uri = cut(request.uri, REPORTED_TEXT_BYTES);
        let status = (state, request.message.as_str(), uri.as_str());
        if !apps::insert_status(write, id, &request.slug, status, Timestamp::now(), APP_STATUSES)? {
            return Err(Error::new(Fault::NotFound, format!("The agent has no app with the slug {:?}.", request.slug)));
        }
        write.publish(Topic::Agent(id));
        write.publish(Topic::Workspace(workspace));
        Ok(UpdateAppStatusResponse {})
    });
}
