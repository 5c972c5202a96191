//! What concerns the server as a whole: version, health, the relay map.

use serde::Serialize;
use uuid::Uuid;

use super::auth::Caller;
use super::reply::Reply;
use super::request::Call;
use super::websocket;
use crate::domain::Error;
use crate::model::version;
use crate::streams::{self, Visitor};

/// Newest minor of the agent API that is spoken.
const AGENT_API_VERSION: &str = "2.6";

/// What a command line of another version tells its user.
const UPGRADE: &str =
    "This Moorline server speaks the API of Coder v2.24; install that version of the coder command line";

/// `GET /api/v2`: health checks of proxies ask for it.
pub(super) fn root(_: &Call<'_>) -> Result<Reply, Error> {
    Reply::message(200, "👋")
}

#[derive(Serialize)]
struct BuildInfo<'a> {
    external_url: &'static str,
    version: &'a str,
    dashboard_url: &'a str,
    telemetry: bool,
    workspace_proxy: bool,
    agent_api_version: &'static str,
    provisioner_api_version: &'static str,
    upgrade_message: &'a str,
    deployment_id: Uuid,
}

/// `GET /api/v2/buildinfo`.
pub(super) fn build_info(call: &Call<'_>) -> Result<Reply, Error> {
    let app = &call.service.app;
    // Without one the CLI suggests to download and run the vendor's script (v2.24.0 cli/root.go).
    let upgrade = match app.programs.are_offered() {
        true => format!("{UPGRADE}: curl -fsSL {}/install.sh | sh", app.access_url),
        false => format!("{UPGRADE}."),
    };
    Reply::json(
        200,
        &BuildInfo {
            external_url: env!("CARGO_PKG_REPOSITORY"),
            version: &version::claimed(call.header("User-Agent")),
            dashboard_url: &app.access_url,
            telemetry: false,
            workspace_proxy: false,
            agent_api_version: AGENT_API_VERSION,
            provisioner_api_version: "",
            upgrade_message: &upgrade,
            deployment_id: app.deployment_id,
        },
    )
}

/// `GET /api/v2/derp-map`: the map as a stream; no client of v2.24.0 calls it.
pub(super) fn derp_map(call: &Call<'_>, caller: Caller) -> Result<Reply, Error> {
    let app = call.service.app.clone();
    websocket::upgrade_if(call, || match caller {
        Caller::Person(credential) => {
            let visitor = Visitor::admit(&app, credential, app.deployment_id)?;
            Ok(streams::derp_map::watch(app, visitor))
        }
        Caller::Agent(agent) => Ok(streams::derp_map::watch_as_agent(app, agent)),
    })
}

/// `GET /healthz`.
pub(super) fn healthz(_: &Call<'_>) -> Result<Reply, Error> {
    Ok(Reply::text(200, "OK"))
}

/// `GET /latency-check`: pages of any origin may time it.
pub(super) fn latency_check(_: &Call<'_>) -> Result<Reply, Error> {
    Ok(Reply::text(200, "OK")
        .header("Access-Control-Allow-Origin", "*")
        .header("Access-Control-Allow-Headers", "*")
        .header("Access-Control-Allow-Credentials", "false")
        .header("Access-Control-Allow-Methods", "*")
        .header("Timing-Allow-Origin", "*"))
}

#[derive(Serialize)]
struct UpdateCheck {
    current: bool,
    version: &'static str,
    url: &'static str,
}

/// `GET /api/v2/updatecheck`: the server never asks anybody whether there is a newer one.
pub(super) fn update_check(_: &Call<'_>) -> Result<Reply, Error> {
    Reply::json(200, &UpdateCheck { current: true, version: version::VERSION, url: env!("CARGO_PKG_REPOSITORY") })
}

/// Longest violation that is written to the log, bytes.
const CSP_REPORT_BYTES: usize = 2_048;

/// `POST /api/v2/csp/reports`: browsers tell what a page was not allowed to do. Anybody can send one, so it only
/// shows with `log_level = "debug"`.
pub(super) fn csp_report(call: &Call<'_>) -> Result<Reply, Error> {
    let report = call.body.get(..CSP_REPORT_BYTES).unwrap_or(&call.body);
    log::debug!("a browser reports a violation of the content security policy: {}", report.escape_ascii());
    Reply::json(200, &"ok")
}
