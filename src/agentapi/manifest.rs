//! GetManifest: what an agent is to be. Read once per connection; there is no push.

use prost::Message;

use super::{Session, decode};
use crate::domain::{Error, Fault, external_auth};
use crate::store::apps::{App, Health};
use crate::store::metadata::Metadata;
use crate::store::scripts::Script;
use crate::store::{agents, apps, metadata, scripts, workspaces};
use crate::wire::proto::agent::{
    GetManifestRequest, Manifest, WorkspaceAgentScript, WorkspaceApp, workspace_agent_metadata, workspace_app,
};
use crate::wire::proto::google::Duration;

/// The manifest of the session's agent.
///
/// Four things crash an agent or make it ask for ever (codersdk/agentsdk/convert.go, tailnet/convert.go,
/// v2.24.0): no `derp_map` or none with `home_params`; an app without `healthcheck` or with a zero enum;
/// an id that is not 16 bytes; a `parent_id` that is present but empty.
pub(super) fn get(session: &Session, body: &[u8]) -> Result<Vec<u8>, Error> {
    decode::<GetManifestRequest>(body)?;
    let (id, app) = (session.agent, &session.app);
    let (agent, workspace, scripts, apps, metadata) = app.store.read(|conn| {
        let gone = || Error::new(Fault::NotFound, "The agent or its workspace was removed.");
        let agent = agents::by_id(conn, id)?.ok_or_else(gone)?;
        let workspace = workspaces::by_id(conn, agent.workspace_id)?.ok_or_else(gone)?;
        let parts = (scripts::of_agent(conn, id)?, apps::of_agent(conn, id)?, metadata::of_agent(conn, id)?);
        Ok::<_, Error>((agent, workspace, parts.0, parts.1, parts.2))
    })?;
    let place = [agent.name.as_str(), workspace.name.as_str(), workspace.owner_name.as_str()].join("--");
    let manifest = Manifest {
        agent_id: agent.id.as_bytes().to_vec(),
        agent_name: agent.name,
        owner_username: workspace.owner_name,
        workspace_id: workspace.id.as_bytes().to_vec(),
        workspace_name: workspace.name,
        environment_variables: agent.environment,
        directory: agent.directory,
        motd_path: agent.motd_file,
        disable_direct_connections: app.settings.disable_direct_connections,
        derp_force_websockets: app.settings.derp_force_websockets,
        derp_map: Some(app.derp_map.now().proto()),
        scripts: scripts.into_iter().map(script).collect(),
        apps: apps.into_iter().map(|one| self::app(one, &place)).collect(),
        metadata: metadata.into_iter().map(description).collect(),
        parent_id: agent.parent_id.map(|parent| parent.as_bytes().to_vec()),
        git_auth_configs: u32::try_from(external_auth::git_providers(app)).unwrap_or(u32::MAX),
        // No wildcard host, no dev containers and no secrets are declared yet.
        vs_code_port_proxy_uri: String::new(),
        devcontainers: Vec::new(),
        secrets: Vec::new(),
    };
    Ok(manifest.encode_to_vec())
}

fn script(script: Script) -> WorkspaceAgentScript {
    WorkspaceAgentScript {
        log_source_id: script.log_source_id.as_bytes().to_vec(),
        log_path: script.log_path,
        script: script.script,
        cron: script.cron,
        run_on_start: script.run_on_start,
        run_on_stop: script.run_on_stop,
        start_blocks_login: script.start_blocks_login,
        timeout: Some(seconds(script.timeout_seconds)),
        display_name: script.display_name,
        id: script.id.as_bytes().to_vec(),
    }
}

fn app(app: App, place: &str) -> WorkspaceApp {
    let sharing_level = match app.sharing_level.as_str() {
        "authenticated" => workspace_app::SharingLevel::Authenticated,
        "organization" => workspace_app::SharingLevel::Organization,
        "public" => workspace_app::SharingLevel::Public,
        _ => workspace_app::SharingLevel::Owner,
    };
    let health = match app.health {
        Health::Disabled => workspace_app::Health::Disabled,
        Health::Initializing => workspace_app::Health::Initializing,
        Health::Healthy => workspace_app::Health::Healthy,
        Health::Unhealthy => workspace_app::Health::Unhealthy,
    };
    WorkspaceApp {
        id: app.id.as_bytes().to_vec(),
        url: app.url,
        external: app.external,
        subdomain_name: if app.subdomain { format!("{}--{place}", app.slug) } else { String::new() },
        slug: app.slug,
        display_name: app.display_name,
        command: app.command,
        icon: app.icon,
        subdomain: app.subdomain,
        sharing_level: sharing_level.into(),
        healthcheck: Some(workspace_app::Healthcheck {
            url: app.healthcheck_url,
            interval: Some(seconds(app.healthcheck_interval.into())),
            threshold: app.healthcheck_threshold,
        }),
        health: health.into(),
        hidden: app.hidden,
    }
}

fn description(metadata: Metadata) -> workspace_agent_metadata::Description {
    workspace_agent_metadata::Description {
        display_name: metadata.display_name,
        key: metadata.key,
        script: metadata.script,
        interval: Some(seconds_as_nanoseconds(metadata.interval_seconds)),
        timeout: Some(seconds_as_nanoseconds(metadata.timeout_seconds)),
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}

/// Agents read the nanoseconds of these durations as seconds (agent/agent.go reportMetadata with
/// codersdk/agentsdk/convert.go MetadataDescriptionFromProto, v2.24.0).
fn seconds_as_nanoseconds(seconds: i64) -> Duration {
    const BILLION: i64 = 1_000_000_000;
    Duration { seconds: seconds / BILLION, nanos: i32::try_from(seconds % BILLION).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_ten_seconds_as_ten_nanoseconds() {
        assert_eq!(seconds_as_nanoseconds(10), Duration { seconds: 0, nanos: 10 });
        assert_eq!(seconds_as_nanoseconds(2_000_000_001), Duration { seconds: 2, nanos: 1 });
    }
}
