//! The full DRPC name of every RPC, and how its messages flow.

/// How the messages of an RPC flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// One request, one reply.
    Unary,
    /// One request, any number of replies.
    ServerStream,
    /// Any number of messages both ways.
    Bidirectional,
}

/// Since protocol 2.0.
pub const GET_MANIFEST: &str = "/coder.agent.v2.Agent/GetManifest";
/// Since protocol 2.0.
pub const GET_SERVICE_BANNER: &str = "/coder.agent.v2.Agent/GetServiceBanner";
/// Since protocol 2.0.
pub const UPDATE_STATS: &str = "/coder.agent.v2.Agent/UpdateStats";
/// Since protocol 2.0.
pub const UPDATE_LIFECYCLE: &str = "/coder.agent.v2.Agent/UpdateLifecycle";
/// Since protocol 2.0.
pub const BATCH_UPDATE_APP_HEALTHS: &str = "/coder.agent.v2.Agent/BatchUpdateAppHealths";
/// Since protocol 2.0.
pub const UPDATE_STARTUP: &str = "/coder.agent.v2.Agent/UpdateStartup";
/// Since protocol 2.0.
pub const BATCH_UPDATE_METADATA: &str = "/coder.agent.v2.Agent/BatchUpdateMetadata";
/// Since protocol 2.0.
pub const BATCH_CREATE_LOGS: &str = "/coder.agent.v2.Agent/BatchCreateLogs";
/// Since protocol 2.1.
pub const GET_ANNOUNCEMENT_BANNERS: &str = "/coder.agent.v2.Agent/GetAnnouncementBanners";
/// Since protocol 2.3.
pub const SCRIPT_COMPLETED: &str = "/coder.agent.v2.Agent/ScriptCompleted";
/// Since protocol 2.4.
pub const GET_RESOURCES_MONITORING_CONFIGURATION: &str = "/coder.agent.v2.Agent/GetResourcesMonitoringConfiguration";
/// Since protocol 2.4.
pub const PUSH_RESOURCES_MONITORING_USAGE: &str = "/coder.agent.v2.Agent/PushResourcesMonitoringUsage";
/// Since protocol 2.4.
pub const REPORT_CONNECTION: &str = "/coder.agent.v2.Agent/ReportConnection";
/// Since protocol 2.6.
pub const CREATE_SUB_AGENT: &str = "/coder.agent.v2.Agent/CreateSubAgent";
/// Since protocol 2.6.
pub const DELETE_SUB_AGENT: &str = "/coder.agent.v2.Agent/DeleteSubAgent";
/// Since protocol 2.6.
pub const LIST_SUB_AGENTS: &str = "/coder.agent.v2.Agent/ListSubAgents";
/// Since protocol 2.7.
pub const REPORT_BOUNDARY_LOGS: &str = "/coder.agent.v2.Agent/ReportBoundaryLogs";
/// Since protocol 2.8.
pub const UPDATE_APP_STATUS: &str = "/coder.agent.v2.Agent/UpdateAppStatus";
/// Since protocol 2.10.
pub const PUSH_CONTEXT_STATE: &str = "/coder.agent.v2.Agent/PushContextState";
/// Since protocol 2.0.
pub const COORDINATE: &str = "/coder.tailnet.v2.Tailnet/Coordinate";
/// Since protocol 2.0.
pub const STREAM_DERP_MAPS: &str = "/coder.tailnet.v2.Tailnet/StreamDERPMaps";
/// Since protocol 2.2.
pub const POST_TELEMETRY: &str = "/coder.tailnet.v2.Tailnet/PostTelemetry";
/// Since protocol 2.3.
pub const REFRESH_RESUME_TOKEN: &str = "/coder.tailnet.v2.Tailnet/RefreshResumeToken";
/// Since protocol 2.3.
pub const WORKSPACE_UPDATES: &str = "/coder.tailnet.v2.Tailnet/WorkspaceUpdates";

/// Every RPC of both services.
pub const METHODS: &[(&str, Kind)] = &[
    (GET_MANIFEST, Kind::Unary),
    (GET_SERVICE_BANNER, Kind::Unary),
    (UPDATE_STATS, Kind::Unary),
    (UPDATE_LIFECYCLE, Kind::Unary),
    (BATCH_UPDATE_APP_HEALTHS, Kind::Unary),
    (UPDATE_STARTUP, Kind::Unary),
    (BATCH_UPDATE_METADATA, Kind::Unary),
    (BATCH_CREATE_LOGS, Kind::Unary),
    (GET_ANNOUNCEMENT_BANNERS, Kind::Unary),
    (SCRIPT_COMPLETED, Kind::Unary),
    (GET_RESOURCES_MONITORING_CONFIGURATION, Kind::Unary),
    (PUSH_RESOURCES_MONITORING_USAGE, Kind::Unary),
    (REPORT_CONNECTION, Kind::Unary),
    (CREATE_SUB_AGENT, Kind::Unary),
    (DELETE_SUB_AGENT, Kind::Unary),
    (LIST_SUB_AGENTS, Kind::Unary),
    (REPORT_BOUNDARY_LOGS, Kind::Unary),
    (UPDATE_APP_STATUS, Kind::Unary),
    (PUSH_CONTEXT_STATE, Kind::Unary),
    (COORDINATE, Kind::Bidirectional),
    (STREAM_DERP_MAPS, Kind::ServerStream),
    (POST_TELEMETRY, Kind::Unary),
    (REFRESH_RESUME_TOKEN, Kind::Unary),
    (WORKSPACE_UPDATES, Kind::ServerStream),
];

/// How the messages of the RPC with this full name flow; `None` if there is no such RPC.
pub fn kind(name: &str) -> Option<Kind> {
    METHODS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}
