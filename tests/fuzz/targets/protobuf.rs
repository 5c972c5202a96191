//! What a client may send as the message of an RPC. The first byte chooses the RPC.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moorline::wire::proto::{agent, tailnet};
use prost::Message;

/// What was understood can be written and understood again.
fn check<M: Message + Default>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        // Bytes and not messages, because NaN differs from itself; maps are ordered.
        let written = message.encode_to_vec();
        let again = M::decode(written.as_slice()).expect("what we write is sound");
        assert_eq!(written, again.encode_to_vec());
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, message)) = input.split_first() else { return };
    match choice % 24 {
        0 => check::<agent::BatchCreateLogsRequest>(message),
        1 => check::<agent::BatchUpdateAppHealthRequest>(message),
        2 => check::<agent::BatchUpdateMetadataRequest>(message),
        3 => check::<agent::CreateSubAgentRequest>(message),
        4 => check::<agent::DeleteSubAgentRequest>(message),
        5 => check::<agent::GetAnnouncementBannersRequest>(message),
        6 => check::<agent::GetManifestRequest>(message),
        7 => check::<agent::GetResourcesMonitoringConfigurationRequest>(message),
        8 => check::<agent::GetServiceBannerRequest>(message),
        9 => check::<agent::ListSubAgentsRequest>(message),
        10 => check::<agent::PushContextStateRequest>(message),
        11 => check::<agent::PushResourcesMonitoringUsageRequest>(message),
        12 => check::<agent::ReportBoundaryLogsRequest>(message),
        13 => check::<agent::ReportConnectionRequest>(message),
        14 => check::<agent::UpdateAppStatusRequest>(message),
        15 => check::<agent::UpdateLifecycleRequest>(message),
        16 => check::<agent::UpdateStartupRequest>(message),
        17 => check::<agent::UpdateStatsRequest>(message),
        18 => check::<agent::WorkspaceAgentScriptCompletedRequest>(message),
        19 => check::<tailnet::CoordinateRequest>(message),
        20 => check::<tailnet::RefreshResumeTokenRequest>(message),
        21 => check::<tailnet::StreamDerpMapsRequest>(message),
        22 => check::<tailnet::TelemetryRequest>(message),
        23 => check::<tailnet::WorkspaceUpdatesRequest>(message),
        _ => {}
    }
});
