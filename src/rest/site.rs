//! What concerns the server as a whole: version, health, the relay map.

use serde::Serialize;
use uuid::Uuid;

use super::reply::Reply;
use super::request::Call;
use super::{VERSION, websocket};
use crate::domain::Error;
use crate::streams;

/// Newest minor of the agent API that is spoken.
const AGENT_API_VERSION: &str = "2.6";

/// `GET /api/v2`: health checks of proxies ask for it.
pub(super) fn root(_: &Call<'_>) -> Result<Reply, Error> {
    Reply::message(200, "👋")
}

#[derive(Serialize)]
struct BuildInfo<'a> {
    external_url: &'static str,
    version: &'static str,
    dashboard_url: &'a str,
    telemetry: bool,
    workspace_proxy: bool,
    agent_api_version: &'static str,
    provisioner_api_version: &'static str,
    upgrade_message: &'static str,
    deployment_id: Uuid,
}

/// `GET /api/v2/buildinfo`.
pub(super) fn build_info(call: &Call<'_>) -> Result<Reply, Error> {
    let app = &call.service.app;
    Reply::json(
        200,
        &BuildInfo {
            external_url: env!("CARGO_PKG_REPOSITORY"),
            version: VERSION,
            dashboard_url: &app.access_url,
            telemetry: false,
            workspace_proxy: false,
            agent_api_version: AGENT_API_VERSION,
            provisioner_api_version: "",
            // Without one the CLI suggests to download and run the vendor's script (v2.24.0 cli/root.go).
            upgrade_message: "This Moorline server speaks the API of Coder v2.24; install that version of the coder command line.",
            deployment_id: app.deployment_id,
        },
    )
}

/// `GET /api/v2/derp-map`: the map as a stream; no client of v2.24.0 calls it.
pub(super) fn derp_map(call: &Call<'_>) -> Result<Reply, Error> {
    Ok(websocket::upgrade(call, || streams::derp_map::watch(call.service.app.clone())))
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
