//! Live views: of a workspace, and of logs that never had a line.

use rusqlite::Connection;

use super::auth::Seen;
use super::reply::Reply;
use super::request::Call;
use super::{templates, websocket};
use crate::domain::Error;
use crate::domain::access::UserAuth;
use crate::domain::credential::Credential;
use crate::streams::{self, Form, Visitor};

/// `GET …/workspaces/{workspace}/watch`.
pub(super) fn workspace(call: &Call<'_>, _: &Connection, seen: Seen) -> Result<Reply, Error> {
    watched(call, &seen, Form::Events)
}

/// `GET …/workspaces/{workspace}/watch-ws`.
pub(super) fn workspace_ws(call: &Call<'_>, _: &Connection, seen: Seen) -> Result<Reply, Error> {
    watched(call, &seen, Form::WebSocket)
}

fn watched(call: &Call<'_>, seen: &Seen, form: Form) -> Result<Reply, Error> {
    let (app, workspace) = (call.service.app.clone(), seen.workspace.id);
    websocket::one_way(call, form, || {
        let visitor = Visitor::admit(&app, Credential::of(&seen.user), workspace.0)?;
        Ok(streams::workspace::watch(app, workspace, visitor, form))
    })
}

/// `GET …/workspacebuilds/{build}/logs`: nothing was built, so nothing was said.
pub(super) fn build_logs(call: &Call<'_>, _: &Connection, _: Seen) -> Result<Reply, Error> {
    Ok(no_lines(call, Reply::json_body(200, b"[]".to_vec())))
}

/// `GET …/templateversions/{version}/logs`: nor was anything imported.
pub(super) fn version_logs(call: &Call<'_>, user: UserAuth) -> Result<Reply, Error> {
    Ok(no_lines(call, templates::none_of_version(call, user)?))
}

/// The empty log, plain or as a stream.
fn no_lines(call: &Call<'_>, plain: Reply) -> Reply {
    if call.query.get("follow").is_some() { websocket::upgrade(call, streams::ended::at_once) } else { plain }
}
