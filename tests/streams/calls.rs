//! What agents are answered: every call, and every trap by name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use moorline::model::{AppId, Timestamp};
use moorline::store::agents::Lifecycle;
use moorline::store::apps::{self, Health};
use moorline::store::{logs, metadata, scripts};
use moorline::wire::drpc::Packet;
use moorline::wire::proto::agent::*;
use moorline::wire::proto::google::{self, Duration, Empty};
use moorline::wire::proto::methods::{self, Kind, METHODS};
use moorline::wire::proto::tailnet::{DerpMap, WorkspaceUpdate};
use prost::Message;

use super::agent::{Agent, Reply};
use super::driver::Server;

fn at(seconds: i64) -> Option<google::Timestamp> {
    Some(google::Timestamp { seconds, nanos: 0 })
}

/// Calls that an empty request may fail without harm to the agent, and the code they fail with.
const MAY_FAIL: &[(&str, u64)] = &[
    (methods::SCRIPT_COMPLETED, 0),      // logged only
    (methods::CREATE_SUB_AGENT, 0),      // logged only
    (methods::DELETE_SUB_AGENT, 0),      // logged only
    (methods::UPDATE_APP_STATUS, 0),     // told to the caller in the machine
    (methods::UPDATE_LIFECYCLE, 0),      // agents never send an empty one
    (methods::PUSH_CONTEXT_STATE, 12),   // stops quietly
    (methods::REFRESH_RESUME_TOKEN, 12), // agents do not call it
];

#[test]
fn every_method_answers_and_none_breaks_the_connection() {
    let server = Server::start();
    let mut agent = server.connect();
    for (method, kind) in METHODS {
        if *kind != Kind::Unary {
            continue;
        }
        for request in [&[][..], &[0xff, 0xff][..]] {
            let reply = agent.call_raw(method, request);
            let expected = MAY_FAIL.iter().find(|(name, _)| name == method).map(|(_, code)| *code);
            match (reply, request.is_empty()) {
                (Reply::Message(_), _) => assert!(expected.is_none() || !request.is_empty(), "{method}"),
                (Reply::Error(code, text), true) => assert_eq!(Some(code), expected, "{method}: {text}"),
                (Reply::Error(..), false) => {}
            }
        }
    }
    assert_eq!(agent.closed, None);
    agent.call::<UpdateStatsResponse>(methods::UPDATE_STATS, &UpdateStatsRequest::default());
}

#[test]
fn unknown_methods_are_code_12() {
    let server = Server::start();
    let mut agent = server.connect();
    for name in ["/coder.agent.v2.Agent/Nope", "", "/coder.agent.v2.Agent/getmanifest"] {
        let reply = agent.call_raw(name, &[]);
        assert_eq!(reply, Reply::Error(12, format!("Unimplemented: unknown rpc: {name:?}")));
    }
}

fn manifest(agent: &mut Agent) -> Manifest {
    agent.call(methods::GET_MANIFEST, &GetManifestRequest {})
}

#[test]
fn the_manifest_has_what_agents_crash_without() {
    let server = Server::start();
    let script = server.declare_script();
    server.declare_metadata(&[("load", 0)]);
    let app = apps::App {
        id: AppId::random(),
        slug: "code".into(),
        display_name: "Code".into(),
        icon: String::new(),
        url: "http://localhost:8080".into(),
        command: String::new(),
        display_order: 0,
        display_group: String::new(),
        external: false,
        hidden: false,
        subdomain: true,
        sharing_level: "organization".into(),
        open_in: "tab".into(),
        healthcheck_url: String::new(),
        healthcheck_interval: 0,
        healthcheck_threshold: 0,
        health: Health::Disabled,
        created_at: Timestamp(1),
    };
    let id = server.agent;
    server.write(move |write| apps::insert(write, id, &app));
    let manifest = manifest(&mut server.connect());
    assert_eq!(manifest.agent_id, server.agent.as_bytes());
    assert_eq!(manifest.workspace_id, server.workspace.as_bytes());
    assert_eq!(
        (manifest.owner_username.as_str(), manifest.workspace_name.as_str(), manifest.agent_name.as_str()),
        ("alice", "dev", "main")
    );
    assert_eq!(manifest.environment_variables["GREETING"], "hello");
    let map = manifest.derp_map.as_ref().expect("a manifest without a map crashes the agent");
    assert!(map.home_params.is_some(), "a map without home_params crashes the agent");
    let app = &manifest.apps[0];
    assert!(app.healthcheck.is_some(), "an app without a health check crashes the agent");
    assert_eq!((app.sharing_level, app.health), (4, 1), "zero makes the agent ask for ever");
    assert_eq!(app.subdomain_name, "code--main--dev--alice");
    assert_eq!(manifest.scripts[0].id, script.id.as_bytes());
    assert_eq!(manifest.scripts[0].log_source_id, script.log_source_id.as_bytes());
    assert_eq!(manifest.scripts[0].timeout, Some(Duration { seconds: 60, nanos: 0 }), "a true duration");
    let described = &manifest.metadata[0];
    assert_eq!(described.interval, Some(Duration { seconds: 0, nanos: 10 }), "seconds travel as nanoseconds");
    assert_eq!(described.timeout, Some(Duration { seconds: 0, nanos: 5 }));
    assert_eq!(manifest.parent_id, None, "present but empty is refused by the agent");
}

#[test]
fn the_minimal_manifest_is_as_recorded() {
    let server = Server::start();
    let manifest = manifest(&mut server.connect());
    let map = manifest.derp_map.unwrap().encode_to_vec();
    assert_eq!(map.len(), 0x57);
    assert!(manifest.disable_direct_connections);
}

#[test]
fn resource_configuration_is_always_set() {
    let server = Server::start();
    let config: GetResourcesMonitoringConfigurationResponse = server
        .connect()
        .call(methods::GET_RESOURCES_MONITORING_CONFIGURATION, &GetResourcesMonitoringConfigurationRequest {});
    assert!(config.config.unwrap().collection_interval_seconds > 0, "zero crashes the agent");
    assert_eq!(config.memory, None);
}

#[test]
fn stats_always_name_an_interval_and_idle_ones_are_not_stored() {
    let server = Server::start();
    let mut agent = server.connect();
    let idle = Stats { connection_median_latency_ms: -0.001, ..Stats::default() };
    let busy = Stats { connection_count: 2, rx_bytes: 10, ..idle.clone() };
    let before = server.count("SELECT last_used_at FROM workspaces");
    for (stats, rows) in [(None, 0), (Some(idle), 0), (Some(busy.clone()), 1), (Some(busy), 1)] {
        let reply: UpdateStatsResponse = agent.call(methods::UPDATE_STATS, &UpdateStatsRequest { stats });
        assert_eq!(reply.report_interval, Some(Duration { seconds: 300, nanos: 0 }));
        // A test that runs over the full hour finds two rows.
        let found = server.count("SELECT count(*) FROM agent_stats");
        assert!(found == rows || (rows == 1 && found == 2), "{found}");
    }
    assert_eq!(server.count("SELECT sum(rx_bytes) FROM agent_stats"), 20);
    assert!(server.count("SELECT last_used_at FROM workspaces") > before);
}

#[test]
fn startup_takes_bad_versions_and_unknown_subsystems() {
    let server = Server::start();
    let startup = Startup {
        version: "not a version".into(),
        expanded_directory: "/home/alice".into(),
        subsystems: vec![3, 1, 1, 0, 77],
    };
    let mut agent = server.connect();
    let reply: Startup = agent.call(methods::UPDATE_STARTUP, &UpdateStartupRequest { startup: Some(startup.clone()) });
    assert_eq!(reply, startup);
    let row = server.row();
    assert_eq!((row.version.as_str(), row.api_version.as_str()), ("not a version", "2.6"));
    assert_eq!(row.subsystems, ["envbox", "exectrace"]);
    let updated = row.updated_at;
    agent.call::<Startup>(methods::UPDATE_STARTUP, &UpdateStartupRequest { startup: Some(startup) });
    assert_eq!(server.row().updated_at, updated, "the same report is not written again");
}

#[test]
fn lifecycle_starts_over_and_unknown_states_do_not_loop() {
    let server = Server::start();
    let mut agent = server.connect();
    let mut report = |state: i32, seconds: i64| {
        let lifecycle = Some(Lifecycle_ { state, changed_at: at(seconds) });
        agent.call_raw(methods::UPDATE_LIFECYCLE, &UpdateLifecycleRequest { lifecycle }.encode_to_vec())
    };
    for (state, seconds, expected, started, ready) in [
        (2, 100, Lifecycle::Starting, Some(100), None),
        (5, 110, Lifecycle::Ready, Some(100), Some(110)),
        (6, 120, Lifecycle::ShuttingDown, Some(100), Some(110)),
        (9, 130, Lifecycle::Off, Some(100), Some(110)),
        (2, 140, Lifecycle::Starting, Some(140), None),
        (4, 150, Lifecycle::StartError, Some(140), Some(150)),
    ] {
        assert!(matches!(report(state, seconds), Reply::Message(_)));
        let row = server.row();
        let seconds = |at: Option<Timestamp>| at.map(|at| at.to_parts().0);
        assert_eq!((row.lifecycle_state, seconds(row.started_at), seconds(row.ready_at)), (expected, started, ready));
    }
    assert!(matches!(report(99, 160), Reply::Message(_)), "an error would be repeated for ever");
    assert!(matches!(report(0, 160), Reply::Error(0, _)));
    assert_eq!(server.row().lifecycle_state, Lifecycle::StartError);
    // Go's zero time means now.
    assert!(matches!(report(5, -62_135_596_800), Reply::Message(_)));
    assert!(server.row().ready_at.unwrap() > Timestamp(1_000_000_000_000_000));
}
use moorline::wire::proto::agent::Lifecycle as Lifecycle_;

fn values(values: &[(&str, &str)]) -> BatchUpdateMetadataRequest {
    let metadata = values
        .iter()
        .map(|(key, value)| Metadata {
            key: (*key).into(),
            result: Some(workspace_agent_metadata::Result { value: (*value).into(), ..Default::default() }),
        })
        .collect();
    BatchUpdateMetadataRequest { metadata }
}

#[test]
fn metadata_beyond_the_key_limit_is_dropped_without_an_error() {
    let server = Server::start();
    server.declare_metadata(&[("load", 0), ("late", 1)]);
    let long = "k".repeat(6_140);
    let request = values(&[("load", "1"), ("unknown", "x"), (&long, "2"), ("late", "3")]);
    let mut agent = server.connect();
    agent.call::<BatchUpdateMetadataResponse>(methods::BATCH_UPDATE_METADATA, &request);
    let rows = server.read(|conn| metadata::of_agent(conn, server.agent));
    let found: Vec<_> = rows.iter().map(|row| (row.value.as_str(), row.collected_at.is_some())).collect();
    assert_eq!(found, [("1", true), ("", false)]);
}

#[test]
fn repeated_metadata_costs_no_write_and_keeps_its_instant() {
    let server = Server::start();
    server.declare_metadata(&[("load", 0)]);
    let mut agent = server.connect();
    server.until("connected", |server| server.row().first_connected_at);
    let request = values(&[("load", "0.42")]);
    agent.call::<BatchUpdateMetadataResponse>(methods::BATCH_UPDATE_METADATA, &request);
    let written = server.read(|conn| metadata::of_agent(conn, server.agent))[0].collected_at.unwrap();
    let size = server.written();
    for _ in 0..5 {
        agent.call::<BatchUpdateMetadataResponse>(methods::BATCH_UPDATE_METADATA, &request);
    }
    assert_eq!(server.written(), size, "nothing was written");
    let seen = server.app.presence.last_collected(server.agent, "load").unwrap();
    assert!(seen >= written);
    // The end of the connection writes it.
    agent.line.close();
    server.until("disconnected", |server| server.row().disconnected_at);
    assert_eq!(server.read(|conn| metadata::of_agent(conn, server.agent))[0].collected_at, Some(seen));
    assert_eq!(server.app.presence.last_collected(server.agent, "load"), None);
}

#[test]
fn a_value_is_written_again_when_its_row_was_declared_anew() {
    let server = Server::start();
    server.declare_metadata(&[("load", 0)]);
    let mut agent = server.connect();
    let request = values(&[("load", "1")]);
    agent.call::<BatchUpdateMetadataResponse>(methods::BATCH_UPDATE_METADATA, &request);
    agent.call::<BatchUpdateMetadataResponse>(methods::BATCH_UPDATE_METADATA, &request);
    server.declare_metadata(&[]);
    server.declare_metadata(&[("load", 0)]);
    agent.call::<BatchUpdateMetadataResponse>(methods::BATCH_UPDATE_METADATA, &request);
    assert_eq!(server.read(|conn| metadata::of_agent(conn, server.agent))[0].value, "1");
}

fn lines(source: Vec<u8>, outputs: &[&str]) -> BatchCreateLogsRequest {
    let line = |output: &&str| Log { created_at: at(5), output: (**output).into(), level: 0 };
    BatchCreateLogsRequest { log_source_id: source, logs: outputs.iter().map(line).collect() }
}

#[test]
fn logs_are_stored_and_overflow_is_told_not_failed() {
    let server = Server::start();
    let mut agent = server.connect();
    let mut send = |request: &BatchCreateLogsRequest| {
        agent.call::<BatchCreateLogsResponse>(methods::BATCH_CREATE_LOGS, request).log_limit_exceeded
    };
    assert!(!send(&lines(vec![7; 16], &[])));
    assert!(!send(&lines(vec![7; 16], &["one", "two"])));
    assert!(!send(&lines(vec![0; 16], &["four\0"])));
    let stored = server.read(|conn| logs::lines(conn, server.agent, 0, i64::MAX, 100));
    let found: Vec<_> = stored.iter().map(|line| line.output.as_str()).collect();
    assert_eq!(found, ["one", "two", "four\u{274c}"]);
    assert!(stored[0].created_at > Timestamp(1_000_000_000_000_000), "the server's time, not the agent's");
    let big = "x".repeat(1_048_576);
    assert!(send(&lines(vec![7; 16], &[&big])));
    assert!(server.row().logs_overflowed);
    assert!(send(&lines(vec![7; 16], &["small"])), "for ever");
    assert_eq!(server.count("SELECT count(*) FROM agent_logs"), 3);
}

#[test]
fn connection_reports_never_fail() {
    let server = Server::start();
    let mut agent = server.connect();
    let report = |id: Vec<u8>, action: i32, kind: i32| {
        let connection = Connection { id, action, r#type: kind, ip: "localhost".into(), ..Default::default() };
        ReportConnectionRequest { connection: Some(connection) }.encode_to_vec()
    };
    for request in [
        Vec::new(),
        vec![0xff],
        report(vec![1; 3], 1, 1),
        report(vec![1; 16], 0, 1),
        report(vec![1; 16], 9, 1),
        report(vec![1; 16], 1, 99),
        report(vec![1; 16], 1, 1),
        report(vec![2; 16], 2, 1),
        report(vec![1; 16], 2, 1),
    ] {
        assert_eq!(agent.call_raw(methods::REPORT_CONNECTION, &request), Reply::Message(Empty {}.encode_to_vec()));
    }
    assert_eq!(server.count("SELECT count(*) FROM connections WHERE disconnected_at IS NOT NULL"), 2);
    assert_eq!(server.count("SELECT count(*) FROM connections WHERE ip = '127.0.0.1'"), 1);
}

#[test]
fn app_health_of_unknown_and_unchecked_apps_is_dropped() {
    let server = Server::start();
    let app = |slug: &str, url: &str| apps::App {
        id: AppId::random(),
        slug: slug.into(),
        display_name: String::new(),
        icon: String::new(),
        url: String::new(),
        command: String::new(),
        display_order: 0,
        display_group: String::new(),
        external: false,
        hidden: false,
        subdomain: false,
        sharing_level: "owner".into(),
        open_in: "tab".into(),
        healthcheck_url: url.into(),
        healthcheck_interval: 5,
        healthcheck_threshold: 3,
        health: if url.is_empty() { Health::Disabled } else { Health::Initializing },
        created_at: Timestamp(1),
    };
    let (checked, unchecked, agent_id) = (app("a", "http://localhost"), app("b", ""), server.agent);
    let (first, second) = (checked.id, unchecked.id);
    server.write(move |write| {
        apps::insert(write, agent_id, &checked)?;
        apps::insert(write, agent_id, &unchecked)
    });
    let update = |id: &[u8], health: i32| batch_update_app_health_request::HealthUpdate { id: id.to_vec(), health };
    let updates = vec![
        update(first.as_bytes(), 3),
        update(second.as_bytes(), 4),
        update(&[9; 16], 3),
        update(&[9; 2], 3),
        update(first.as_bytes(), 0),
    ];
    let mut agent = server.connect();
    agent.call::<BatchUpdateAppHealthResponse>(
        methods::BATCH_UPDATE_APP_HEALTHS,
        &BatchUpdateAppHealthRequest { updates },
    );
    let found: Vec<_> = server.read(|conn| apps::of_agent(conn, agent_id)).iter().map(|app| app.health).collect();
    assert_eq!(found, [Health::Healthy, Health::Disabled]);
    let status = |slug: &str, message: &str| UpdateAppStatusRequest {
        slug: slug.into(),
        state: 0,
        message: message.into(),
        uri: String::new(),
    };
    agent.call::<UpdateAppStatusResponse>(methods::UPDATE_APP_STATUS, &status("a", "at work"));
    for (slug, message) in [("nope", "x"), ("a", &"x".repeat(161))] {
        let reply = agent.call_raw(methods::UPDATE_APP_STATUS, &status(slug, message).encode_to_vec());
        assert!(matches!(reply, Reply::Error(0, _)));
    }
    assert_eq!(server.read(|conn| apps::statuses(conn, &[agent_id]))[0].1.message, "at work");
}

#[test]
fn script_timings_are_stored_with_their_zero_values() {
    let server = Server::start();
    let script = server.declare_script();
    let mut agent = server.connect();
    let timing =
        |start, end| Timing { script_id: script.id.as_bytes().to_vec(), start, end, exit_code: 0, stage: 0, status: 0 };
    let mut send = |timing: Timing| {
        let request = WorkspaceAgentScriptCompletedRequest { timing: Some(timing) };
        agent.call_raw(methods::SCRIPT_COMPLETED, &request.encode_to_vec())
    };
    assert!(matches!(send(timing(at(5), at(7))), Reply::Message(_)));
    assert!(matches!(send(timing(at(7), at(5))), Reply::Error(0, _)));
    assert!(matches!(send(timing(None, at(5))), Reply::Error(0, _)));
    let stored = server.read(|conn| scripts::timings(conn, server.agent));
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].ended_at, Timestamp(7_000_000));
}

#[test]
fn only_the_newest_timings_are_kept() {
    let server = Server::start();
    let agent = server.agent;
    server.write(move |write| {
        for second in 0..20 {
            let timing = scripts::Timing {
                script_id: moorline::model::ScriptId::random(),
                started_at: Timestamp(second),
                ended_at: Timestamp(second),
                exit_code: 0,
                stage: scripts::Stage::Cron,
                status: scripts::TimingStatus::Ok,
            };
            scripts::insert_timing(write, agent, &timing)?;
        }
        scripts::prune_timings(write, agent, 5)
    });
    let kept: Vec<_> = server.read(|conn| scripts::timings(conn, agent)).iter().map(|one| one.started_at.0).collect();
    assert_eq!(kept, [15, 16, 17, 18, 19]);
}

#[test]
fn boundary_logs_are_taken_and_context_is_switched_off() {
    let server = Server::start();
    let mut agent = server.connect();
    let resource = boundary_log::Resource::HttpRequest(boundary_log::HttpRequest {
        method: "GET".into(),
        url: "https://example.com".into(),
        matched_rule: String::new(),
    });
    let log = BoundaryLog { allowed: true, time: None, sequence_number: 1, resource: Some(resource) };
    let request = ReportBoundaryLogsRequest {
        logs: vec![log; 200],
        session_id: "not a uuid".into(),
        confined_process_name: String::new(),
    };
    agent.call::<ReportBoundaryLogsResponse>(methods::REPORT_BOUNDARY_LOGS, &request);
    let reply = agent.call_raw(methods::PUSH_CONTEXT_STATE, &PushContextStateRequest::default().encode_to_vec());
    assert_eq!(reply, Reply::Error(12, "Unimplemented".into()));
}

#[test]
fn the_map_stream_never_ends_and_repeats_nothing() {
    let server = Server::start();
    let mut agent = server.connect();
    let id = agent.begin(methods::STREAM_DERP_MAPS, &[]);
    let Packet::Message(map) = agent.next(id) else { panic!("a map comes first") };
    assert!(DerpMap::decode(map.as_slice()).unwrap().home_params.is_some(), "missing, it crashes the agent");
    for _ in 0..3 {
        server.app.hub.publish(moorline::ops::hub::Topic::DerpMap);
        assert!(agent.line.letter());
    }
    agent.pass(std::time::Duration::from_secs(3_600));
    assert_eq!(agent.packets[&id], [], "the same map is not sent again, and nothing ends it");
    assert_eq!(agent.closed, None);
    // Cancelled by a bare FIN.
    agent.mux.finish(id);
    agent.exchange();
    assert!(agent.finished.contains(&id));
}

#[test]
fn workspace_updates_on_an_agents_connection_are_empty_and_endless() {
    let server = Server::start();
    let mut agent = server.connect();
    let id = agent.begin(methods::WORKSPACE_UPDATES, &[]);
    assert_eq!(agent.next(id), Packet::Message(WorkspaceUpdate::default().encode_to_vec()));
    agent.pass(std::time::Duration::from_secs(600));
    assert_eq!(agent.packets[&id], []);
}
