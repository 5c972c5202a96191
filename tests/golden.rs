//! What the real server answered, replayed.
//!
//! `golden/served.json` holds, for each recording of coderd v2.24.0 whose route is served, what was
//! asked and the status and shape of the answer: keys in their order, types, closed sets of values,
//! null or empty list. `differs` says why an answer is another one on purpose. `golden/not-served.json`
//! lists the others by reason.

pub mod rig;
mod shape;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::harness::link;
use crate::harness::provider::Fake;
use moorline::model::{AppId, LogSourceId, ScriptId, Timestamp, WorkspaceId};
use moorline::ops::mail::{Address, ConnId, Mailbox};
use moorline::store::Error as StoreError;
use moorline::store::apps::{App, Health};
use moorline::store::logs::Source;
use moorline::store::metadata::Metadata;
use moorline::store::scripts::Script;
use moorline::store::users;
use moorline::store::{agents, apps, logs, metadata, scripts};
use moorline::tailnet::Who;
use moorline::wire::proto::tailnet::Node;
use rig::{Ask, Got, Rig};
use serde::Deserialize;
use serde_json::{Value, json};

/// Recordings there are.
const RECORDINGS: usize = 460;
/// Recordings whose routes are not served yet. It may only become smaller.
const NOT_SERVED: usize = 1;

const ADMIN: &str = "AdminToken-SecretSecretSecret0001";

#[derive(Deserialize)]
struct Recording {
    name: String,
    method: String,
    path: String,
    #[serde(default)]
    query: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Body: JSON, text, or a log line of so many bytes for a source.
    json: Option<Value>,
    text: Option<String>,
    fill: Option<(String, usize)>,
    /// Client address.
    peer: Option<String>,
    /// Ask so many times; the last answer counts.
    times: Option<u32>,
    status: u16,
    #[serde(rename = "type")]
    kind: String,
    shape: Option<Value>,
    allow: Option<String>,
    /// The token that the recorded answer made.
    captures: Option<String>,
    differs: Option<String>,
    recorded: Option<u16>,
}

fn served() -> Vec<Recording> {
    serde_json::from_str(include_str!("golden/served.json")).unwrap()
}

fn not_served() -> BTreeMap<String, Vec<String>> {
    serde_json::from_str(include_str!("golden/not-served.json")).unwrap()
}

#[test]
fn answers_as_the_real_server_did() {
    let fake = Fake::start();
    let mut providers = crate::harness::plugins::identities();
    providers.push(fake.provider("gh", &json!({})));
    let mut rig = Rig::with_providers(&[], providers);
    let mut renamed = seed(&rig);
    renamed.extend(synthetic(&rig));
    let mut wrong = Vec::new();
    for recording in served() {
        prepare(&rig, &fake, &recording.name);
        let got = replay(&mut rig, &recording, &renamed);
        if let Err(why) = compare(&recording, &got) {
            wrong.push(format!("{}: {why}\n    {}", recording.name, got.text()));
            continue;
        }
        if let Some(recorded) = &recording.captures {
            let made = got.json();
            let made = made.get("key").or(made.get("session_token")).and_then(Value::as_str).unwrap().to_owned();
            let id = |token: &str| token.split('-').next().unwrap().to_owned();
            renamed.push((recorded.clone(), made.clone()));
            renamed.push((id(recorded), id(&made)));
        }
    }
    assert!(wrong.is_empty(), "{} of the recordings are answered differently:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn accounts_for_every_recording_and_lets_the_rest_only_shrink() {
    let served = served();
    let rest = not_served();
    let missing: usize = rest.values().map(Vec::len).sum();
    assert_eq!(missing, NOT_SERVED, "set NOT_SERVED to the new total, if it is smaller");
    let names: HashSet<&str> =
        served.iter().map(|one| one.name.as_str()).chain(rest.values().flatten().map(String::as_str)).collect();
    assert_eq!(names.len(), RECORDINGS, "each recording stands in exactly one of the two files");
    assert_eq!(served.len() + missing, RECORDINGS);
    for one in &served {
        assert_eq!(one.differs.is_some(), one.recorded.is_some(), "{}", one.name);
    }
}

/// What is derived here was stored there: the template, its version, and the build of workspace `dev`.
fn synthetic(rig: &Rig) -> Vec<(String, String)> {
    let ids = rig.app.ids();
    let dev = WorkspaceId("b0000000-0000-4000-8000-000000000001".parse().unwrap());
    [
        ("00000000-0000-4000-8000-000000000300", ids.organization.to_string()),
        ("00000000-0000-4000-8000-000000000370", ids.template.to_string()),
        ("00000000-0000-4000-8000-000000000371", ids.template_version.to_string()),
        ("00000000-0000-4000-8000-000000000376", ids.build(dev).to_string()),
        ("00000000-0000-4000-8000-000000000352", dev.0.to_string()),
        ("/templates/plain", "/templates/declared".to_owned()),
    ]
    .map(|(recorded, ours)| (recorded.to_owned(), ours))
    .into()
}

/// What was done at the provider or with the link before some of the recordings.
fn prepare(rig: &Rig, fake: &Fake, name: &str) {
    let admin = rig.app.store.read(|conn| users::by_username(conn, "admin").map_err(StoreError::from)).unwrap();
    let (app, user) = (Arc::clone(&rig.app), admin.unwrap().id);
    match &name[..3] {
        "040" => {
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(200));
                link::put(&app, "gh", user, &link::token("token-fresh", "", Some(3_600)));
            });
        }
        "046" => {
            fake.know().good = vec!["another".into()];
            link::put(&app, "gh", user, &link::token("token-fresh", "", Some(3_600)));
        }
        "047" => link::remove(&app, "gh", user),
        _ => {}
    }
}

fn replay(rig: &mut Rig, recording: &Recording, renamed: &[(String, String)]) -> Got {
    let rename = |text: &str| renamed.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    let path = match recording.query.as_str() {
        "" => recording.path.clone(),
        query => format!("{}?{query}", recording.path),
    };
    let mut ask = Ask::new(&recording.method, &rename(&path));
    ask.peer = recording.peer.clone();
    // Status 0: there was no answer as long as somebody waited.
    ask.patience = (recording.status == 0).then_some(Duration::from_millis(300));
    for (name, value) in &recording.headers {
        ask = match (name.as_str(), value.as_str()) {
            ("Upgrade", "websocket") => ask.websocket(),
            ("Upgrade", other) => ask.header("X-Moorline-Upgrade", other),
            _ => ask.header(name, &rename(value)),
        };
    }
    for _ in 1..recording.times.unwrap_or(1) {
        // Refused for its body, so that it costs no password hash, but counted.
        let mut burnt = ask.clone();
        burnt.body = b"{}".to_vec();
        rig.ask(&burnt);
    }
    ask.body = match (&recording.json, &recording.text, &recording.fill) {
        (Some(json), ..) => rename(&json.to_string()).into_bytes(),
        (_, Some(text), _) => text.clone().into_bytes(),
        (.., Some((source, bytes))) => {
            json!({"log_source_id": source, "logs": [{"output": "k".repeat(*bytes), "level": "info"}]})
                .to_string()
                .into_bytes()
        }
        _ => Vec::new(),
    };
    rig.ask(&ask)
}

fn compare(recording: &Recording, got: &Got) -> Result<(), String> {
    let takeover = got.header("X-Moorline-Takeover");
    let upgrades = takeover == Some("websocket") || got.header("Upgrade") == Some("DERP");
    let status = if upgrades { 101 } else { got.status };
    if status != recording.status {
        return Err(format!("status {status}, not {}", recording.status));
    }
    if status == 0 {
        return Ok(());
    }
    if takeover.is_some() && (recording.kind == "events") != (takeover == Some("events")) {
        return Err(format!("handed over as {takeover:?}"));
    }
    let content_type = match recording.kind.as_str() {
        "json" => Some("application/json; charset=utf-8"),
        "text" => Some("text/plain; charset=utf-8"),
        "html" => Some("text/html; charset=utf-8"),
        "page" => Some("text/html; charset=utf-8"),
        "bytes" => Some("application/octet-stream"),
        "events" => Some("text/event-stream"),
        _ => None,
    };
    if got.header("Content-Type") != content_type {
        return Err(format!("content type {:?}", got.header("Content-Type")));
    }
    if recording.kind == "none" && !got.body.is_empty() {
        return Err("a body where none is due".into());
    }
    if let Some(shape) = &recording.shape {
        if !got.body.ends_with(b"\n") {
            return Err("no newline at the end".into());
        }
        shape::check(shape, &got.json(), "")?;
    }
    let allow = got.headers.iter().filter(|(name, _)| name == "Allow").map(|(_, value)| value.as_str());
    let allow: Vec<&str> = allow.collect();
    if recording.allow.is_some() && recording.allow.as_deref() != Some(allow.join(", ").as_str()) {
        return Err(format!("Allow {allow:?}"));
    }
    if !got.header("X-Coder-Build-Version").is_some_and(|version| version.starts_with("v2.24.0+moorline.")) {
        return Err("no version".into());
    }
    if got.header("X-Coder-Request-Id") != Some(got.id.to_string().as_str()) {
        return Err("no request id".into());
    }
    Ok(())
}

/// The people, workspaces and agents of the recordings; gives recorded ids and what they are here.
fn seed(rig: &Rig) -> Vec<(String, String)> {
    let hour = Duration::from_secs(3_600);
    let admin = rig.person("admin", true, Some("Moorline-rig-1"), Some(ADMIN));
    rig.key(&admin, "Token00013-SecretSecretSecret0013", "", hour * 24);
    rig.key(&admin, "Token00014-SecretSecretSecret0014", "rigtok", hour * 24);
    let other = rig.person("other", false, None, Some("OtherToken-SecretSecretSecret0002"));
    rig.key(&other, "Token00012-SecretSecretSecret0012", "", hour * 24);
    let third = rig.person("third", false, None, None);

    let agent = |number: u128| 0xa000_0000_0000_4000_8000_0000_0000_0000_u128 | number;
    let names = ["dev", "plainbox", "never", "logs", "logs2", "bench", "off"];
    for (number, name) in (1..).zip(names) {
        let token = format!("c0000000-0000-4000-8000-{number:012}");
        let agent = rig.workspace(&admin, name, agent(number), &token, hour);
        match name {
            "dev" => furnish(rig, agent),
            "logs2" => add_source(rig, &agent),
            _ => {}
        }
    }
    rig.workspace(&other, "theirs", agent(8), "c0000000-0000-4000-8000-000000000008", hour);

    let recorded = |number: u16| format!("00000000-0000-4000-8000-000000000{number}");
    vec![(recorded(305), other.id.to_string()), (recorded(504), third.id.to_string())]
}

fn add_source(rig: &Rig, agent: &agents::Agent) {
    let id = agent.id;
    let source = Source {
        id: LogSourceId("5eed0000-0000-4000-8000-000000000002".parse().unwrap()),
        display_name: "Rig".into(),
        icon: String::new(),
        created_at: Timestamp::now(),
    };
    let add = move |write: &moorline::store::Write<'_>| logs::ensure_source(write, id, &source);
    rig.app.store.write(move |write| add(write).map_err(moorline::store::Error::from)).unwrap();
}

/// The agent that has one of everything, is connected and ready.
fn furnish(rig: &Rig, mut agent: agents::Agent) {
    let now = Timestamp::now();
    let minute = Duration::from_secs(60);
    agent.environment = [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "two words".to_owned())].into();
    agent.troubleshooting_url = "http://127.0.0.1:18999/trouble".into();
    let app = |slug: &str| App {
        id: AppId::random(),
        slug: slug.into(),
        display_name: slug.to_uppercase(),
        icon: String::new(),
        url: String::new(),
        command: String::new(),
        display_order: 0,
        display_group: String::new(),
        external: false,
        hidden: false,
        subdomain: false,
        sharing_level: "owner".into(),
        open_in: "slim-window".into(),
        healthcheck_url: String::new(),
        healthcheck_interval: 0,
        healthcheck_threshold: 0,
        health: Health::Disabled,
        created_at: now,
    };
    let term = App { command: "top".into(), ..app("term") };
    let web = App {
        url: "http://127.0.0.1:18999".into(),
        healthcheck_url: "http://127.0.0.1:18999/h".into(),
        healthcheck_interval: 5,
        healthcheck_threshold: 3,
        health: Health::Initializing,
        ..app("web")
    };
    let script = |name: &str, on_start: bool| Script {
        id: ScriptId::random(),
        log_source_id: LogSourceId::random(),
        display_name: name.into(),
        icon: String::new(),
        script: format!("echo {name}"),
        cron: String::new(),
        log_path: format!("{name}.log"),
        run_on_start: on_start,
        run_on_stop: !on_start,
        start_blocks_login: on_start,
        timeout_seconds: 30,
        created_at: now,
    };
    let declared = [script("boot", true), script("bye", false)];
    let load = Metadata {
        key: "load".into(),
        display_order: 0,
        display_name: "Load".into(),
        script: "echo 0.42".into(),
        interval_seconds: 10,
        timeout_seconds: 5,
        value: String::new(),
        error: String::new(),
        collected_at: None,
    };
    let id = agent.id;
    rig.app
        .store
        .write(move |write| -> Result<(), moorline::store::Error> {
            agents::update_declaration(write, &agent)?;
            apps::insert(write, id, &term)?;
            apps::insert(write, id, &web)?;
            scripts::replace(write, id, &declared)?;
            for script in &declared {
                let source = Source {
                    id: script.log_source_id,
                    display_name: script.display_name.clone(),
                    icon: "/icon/code.svg".into(),
                    created_at: now,
                };
                logs::declare_source(write, id, &source)?;
            }
            metadata::replace(write, id, &[load])?;
            agents::connected(write, id, now.minus(minute))?;
            agents::set_startup(write, id, "v2.24.0", "2.6", "/home/dev", &[], now)?;
            agents::set_lifecycle(write, id, agents::Lifecycle::Ready, Some(now.minus(minute)), Some(now), now)?;
            let run = scripts::Timing {
                script_id: declared[0].id,
                started_at: now.minus(minute),
                ended_at: now,
                exit_code: 0,
                stage: scripts::Stage::Start,
                status: scripts::TimingStatus::Ok,
            };
            scripts::insert_timing(write, id, &run)?;
            let line = (logs::Level::Info, "booting".to_owned());
            logs::insert(write, id, declared[0].log_source_id, now, &[line], 7)?;
            Ok(())
        })
        .unwrap();
    // Far ahead, so that a slow machine does not lose the agent while it replays.
    rig.app.presence.joined(id, now.plus(minute * 60));
    let node = Node {
        key: [b"np".as_slice(), &[7; 32]].concat(),
        disco: format!("discokey:{}", "7".repeat(64)),
        preferred_derp: 999,
        derp_latency: [("999-v4".to_owned(), 0.000_363)].into(),
        ..Node::default()
    };
    let seat = rig.app.tailnet.join(id.0, Who::Agent(id), nowhere(), 0);
    rig.app.tailnet.update(&seat, node).unwrap();
}

/// An address of no loop.
fn nowhere() -> Address {
    let poll = mio::Poll::new().unwrap();
    let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
    let (sender, _) = std::sync::mpsc::sync_channel(1);
    Address { mailbox: Mailbox::new(sender, Arc::new(waker)), conn: ConnId { slot: 0, generation: 0 } }
}
