//! Signing a machine in: the plugin in its process, against the same code in this one.

use std::time::{Duration, Instant};

use moorline::domain::{App, identity};
use moorline::model::{AgentId, Timestamp, UserId, WorkspaceId};
use moorline::ops::jobs::Jobs;
use moorline::store::agents::Agent;
use moorline::store::instances::{self, Cloud};
use moorline::store::users::{Status, User};
use moorline::store::workspaces::Workspace;
use moorline::store::{self, agents, users, workspaces};
use moorline_aws_identity::Aws;
use moorline_plugin::schema::{Setup, VerifyRequest};
use moorline_plugin::testing::Replay;
use moorline_plugin::{Host, Identity};
use serde_json::Value;

use crate::{harness, process};

const ROUNDS: usize = 2_000;
const DOCUMENT: &str = include_str!("../../plugins/aws-identity/src/sample.json");
const SIGNATURE: &str = "M7rX9w1s5zK1V7hK0dsE4hTDXHHaaDuKQ9iIz/W8ZNaA2lJ/usz5YuX+ORt3luJwswl/+B7cYOkJ\n\
                         bXRMx/pEQ6vT+niLGZDC9ZZ1h9Ox4h4e4m4IisQSCUrVIzyLj+MB27/Wyy0NhXcpoZVjNEmioxF2\n\
                         HNpOR4aCwUxxOm81y98=";
const MACHINE: &str = "i-076e9b91f7c420782";

fn fields() -> std::collections::BTreeMap<String, String> {
    [("document".to_owned(), DOCUMENT.to_owned()), ("signature".to_owned(), SIGNATURE.to_owned())].into()
}

/// A server whose only agent is the machine of the document.
fn site() -> (App, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = harness::app::settings(dir.path(), &[]);
    settings.providers = vec![harness::plugins::identity("aws", Value::Null)];
    let (jobs, _workers) = Jobs::start("rpc", 1, 16).unwrap();
    let app = harness::app::app(settings, "http://127.0.0.1:1", jobs);
    let now = Timestamp::now();
    let user = User {
        id: UserId::random(),
        username: "alice".into(),
        email: "alice@example.test".into(),
        full_name: String::new(),
        password_hash: None,
        is_admin: false,
        status: Status::Active,
        created_at: now,
        updated_at: now,
        last_seen_at: None,
    };
    let workspace = Workspace {
        id: WorkspaceId::random(),
        owner_id: user.id,
        owner_name: user.username.clone(),
        name: "dev".into(),
        created_at: now,
        updated_at: now,
        last_used_at: now,
    };
    let id = AgentId::random();
    let token = moorline::domain::tokens::mint_agent_token(app.store.sealer(), id).unwrap();
    let agent = Agent::blank(id, workspace.id, "main".into(), (token.hash, token.sealed), now);
    app.store
        .write(move |write| {
            users::insert(write, &user)?;
            workspaces::insert(write, &workspace)?;
            agents::insert(write, &agent)?;
            instances::bind(write, id, Cloud::Aws, MACHINE, now)?;
            Ok::<_, store::Error>(())
        })
        .unwrap();
    (app, dir)
}

/// The median of many rounds.
fn median(mut round: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            round();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2]
}

pub fn run() {
    let (app, _dir) = site();
    let provider = identity::provider(&app, Cloud::Aws).unwrap();
    let sign_in = || identity::sign_in(&app, &provider, Cloud::Aws, fields(), "192.0.2.1").unwrap();
    let begun = Instant::now();
    sign_in();
    let first = begun.elapsed();
    let apart = median(|| {
        sign_in();
    });
    let alone = Aws::create(Setup::default(), Host::new(Replay::new(0))).unwrap();
    let look_up = || {
        let (agent, _) = app
            .store
            .read(|conn| instances::bound(conn, Cloud::Aws, MACHINE).map_err(store::Error::from))
            .unwrap()
            .remove(0);
        moorline::domain::tokens::open_agent_token(app.store.sealer(), agent.id, &agent.token_sealed).unwrap()
    };
    let within = median(|| {
        alone.verify(VerifyRequest { fields: fields() }).unwrap();
        look_up();
    });
    println!(
        "identity  in this process {within:?}, through the plugin's {apart:?} (+{:?}, {:.1} x); first, with its start, {first:?}",
        apart.saturating_sub(within),
        apart.as_secs_f64() / within.as_secs_f64()
    );
    app.plugins.stop();
}

/// What an idle plugin costs beside the server whose program it runs.
pub fn idle() {
    let folder = harness::plugins::library("moorline-aws-identity");
    let server = harness::Server::start_with(&["--plugin-dir", folder.parent().unwrap().to_str().unwrap()]);
    assert!(process::children(server.pid()).is_empty(), "none is started until it is used");
    let body = serde_json::json!({"document": DOCUMENT, "signature": SIGNATURE});
    let mut client = harness::http::Client::connect(&server.address).unwrap();
    let got = client.request("POST", "/api/v2/workspaceagents/aws-instance-identity", Some(&body)).unwrap();
    assert_eq!(got.status, 404, "proved, but not bound");
    let children = process::children(server.pid());
    for pid in &children {
        println!("identity  an idle plugin: {} KiB PSS, {} threads", process::pss_kib(*pid), process::threads(*pid));
    }
    assert_eq!(children.len(), 1);
}
