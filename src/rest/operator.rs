//! What only the owner of the admin socket may ask.

use super::reply::Reply;
use super::request::Call;
use crate::domain::admin::{self, Command};
use crate::domain::{Error, Fault};

/// `POST /admin/verb`: what `moorline user add` and its like do on a running server.
pub(super) fn verb(call: &Call<'_>, operator: &str) -> Result<Reply, Error> {
    let command: Command = serde_json::from_slice(&call.body).map_err(|error| {
        Error::new(Fault::Invalid, "The body is not a verb of this version.").detail(error.to_string())
    })?;
    let app = &call.service.app;
    Reply::json(200, &admin::run(&app.store, &app.plugins, operator, command)?)
}

/// `GET /metrics`: OpenMetrics text.
pub(super) fn metrics(call: &Call<'_>, _: &str) -> Result<Reply, Error> {
    let mut reply = Reply::text(200, call.service.app.metrics.encode());
    reply.content_type = Some("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(reply)
}
