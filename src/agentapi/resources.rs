//! Resource monitoring: nobody can declare a monitor yet, so agents are told to measure nothing.

use prost::Message;
use serde_json::json;

use super::{DROPPED, Reply, Session, decode, write};
use crate::domain::Error;
use crate::model::Timestamp;
use crate::store::stats::{self, Resources};
use crate::wire::proto::agent::get_resources_monitoring_configuration_response::Config;
use crate::wire::proto::agent::{
    GetResourcesMonitoringConfigurationRequest, GetResourcesMonitoringConfigurationResponse,
    PushResourcesMonitoringUsageRequest, PushResourcesMonitoringUsageResponse,
};

/// Volumes of one datapoint that are stored.
const VOLUMES: usize = 64;

/// `config` is always there with an interval above zero: without it the agent crashes, and an error
/// makes it ask for ever (agent/proto/resourcesmonitor, v2.24.0). One datapoint an hour is the least
/// that an agent can be made to push.
pub(super) fn configuration(body: &[u8]) -> Result<Vec<u8>, Error> {
    decode::<GetResourcesMonitoringConfigurationRequest>(body)?;
    let config = Some(Config { num_datapoints: 1, collection_interval_seconds: 3_600 });
    Ok(GetResourcesMonitoringConfigurationResponse { config, memory: None, volumes: Vec::new() }.encode_to_vec())
}

/// Stores the newest datapoint of the window, if it says anything.
pub(super) fn push(session: &Session, body: &[u8], reply: Reply) {
    let request: PushResourcesMonitoringUsageRequest = match decode(body) {
        Ok(request) => request,
        Err(error) => return reply(Err(error)),
    };
    let newest = request.datapoints.into_iter().rfind(|point| point.memory.is_some() || !point.volumes.is_empty());
    let Some(newest) = newest else { return reply(Ok(Vec::new())) };
    let volumes: Vec<_> = newest
        .volumes
        .iter()
        .take(VOLUMES)
        .map(|volume| json!({"volume": volume.volume, "used": volume.used, "total": volume.total}))
        .collect();
    let usage = Resources {
        collected_at: newest.collected_at.map_or_else(Timestamp::now, super::timestamp),
        memory: newest.memory.map(|memory| (memory.used, memory.total)),
        volumes: serde_json::Value::Array(volumes).to_string(),
    };
    let agent = session.agent;
    write(session, reply, DROPPED, move |write| {
        stats::set_resources(write, agent, &usage)?;
        Ok(PushResourcesMonitoringUsageResponse {})
    });
}
