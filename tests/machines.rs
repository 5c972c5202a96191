//! Machines that sign in by their cloud's word, with the plugins in their processes.

pub mod material;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use moorline::config::limits;
use moorline::domain::{Fault, admin};
use moorline::store::users::User;
use moorline::store::{self, instances};
use serde_json::{Value, json};

use crate::golden::rig::{Ask, Rig};
use crate::harness;
use material::Azure;

const REAL_DOCUMENT: &str = include_str!("../plugins/aws-identity/src/sample.json");
const REAL_SIGNATURE: &str = "M7rX9w1s5zK1V7hK0dsE4hTDXHHaaDuKQ9iIz/W8ZNaA2lJ/usz5YuX+ORt3luJwswl/+B7cYOkJ\n\
                              bXRMx/pEQ6vT+niLGZDC9ZZ1h9Ox4h4e4m4IisQSCUrVIzyLj+MB27/Wyy0NhXcpoZVjNEmioxF2\n\
                              HNpOR4aCwUxxOm81y98=";
const REAL: &str = "i-076e9b91f7c420782";
const OURS: &str = "i-0123456789abcdef0";
const VM: &str = "02aab8a4-74ef-476e-8182-f6d2ba4166a6";
const TOKENS: [&str; 2] = ["c0000000-0000-4000-8000-000000000001", "c0000000-0000-4000-8000-000000000002"];

/// A server with two agents, `alice/dev.main` and `alice/new.main`, and all clouds.
struct Site {
    rig: Rig,
    _alice: User,
}

impl Site {
    fn new() -> Site {
        Site::with(harness::plugins::identities())
    }

    fn with(providers: Vec<std::sync::Arc<moorline::config::providers::ProviderConfig>>) -> Site {
        let rig = Rig::with_providers(&[], providers);
        let alice = rig.person("alice", false, None, None);
        for (number, name) in [(1, "dev"), (2, "new")] {
            let id = 0xa000_0000_0000_4000_8000_0000_0000_0000 | number;
            rig.workspace(&alice, name, id, TOKENS[number as usize - 1], Duration::from_secs(3_600));
        }
        Site { rig, _alice: alice }
    }

    fn verb(&self, command: Value) -> Result<Value, moorline::domain::Error> {
        let command = serde_json::from_value(command).unwrap();
        admin::run(&self.rig.app.store, &self.rig.app.plugins, "tester", command)
    }

    fn bind(&self, workspace: &str, cloud: &str, id: &str) -> Value {
        let workspace = json!({"owner": "alice", "workspace": workspace});
        let instance = json!({"cloud": cloud, "id": id});
        self.verb(json!({"verb": "workspace-bind", "workspace": workspace, "instance": instance})).unwrap()
    }

    fn unbind(&self, workspace: &str) {
        let workspace = json!({"owner": "alice", "workspace": workspace});
        self.verb(json!({"verb": "workspace-unbind", "workspace": workspace})).unwrap();
    }

    fn import(&self, content: &str, name: &str, role: Option<&str>) -> Result<Value, moorline::domain::Error> {
        let content = STANDARD.encode(content);
        self.verb(json!({"verb": "trust-import", "content": content, "name": name, "role": role}))
    }

    fn show(&self, workspace: &str) -> Value {
        let workspace = json!({"owner": "alice", "workspace": workspace});
        self.verb(json!({"verb": "workspace-show", "workspace": workspace})).unwrap()["agents"][0].clone()
    }

    fn sign_in_from(&mut self, cloud: &str, body: &Value, peer: &str) -> (u16, Value) {
        let mut ask = Ask::new("POST", &format!("/api/v2/workspaceagents/{cloud}-instance-identity")).json(body);
        ask.peer = Some(peer.to_owned());
        let got = self.rig.ask(&ask);
        (got.status, got.json())
    }

    fn sign_in(&mut self, cloud: &str, body: &Value) -> (u16, Value) {
        self.sign_in_from(cloud, body, "127.0.0.1")
    }

    /// The refusal's status and its words.
    fn refusal(&mut self, cloud: &str, body: &Value) -> (u16, String) {
        let (status, said) = self.sign_in(cloud, body);
        (status, format!("{} {}", said["message"].as_str().unwrap(), said["detail"].as_str().unwrap_or_default()))
    }

    /// The audit rows of an action: result, target, detail.
    fn audit(&self, action: &str) -> Vec<(String, String, String)> {
        let read = |conn: &rusqlite::Connection| {
            conn.prepare("SELECT result, target, detail FROM audit_log WHERE action = ? ORDER BY id")?
                .query_map([action], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        self.rig.app.store.read(|conn| read(conn).map_err(store::Error::from)).unwrap()
    }
}

fn token(answer: (u16, Value)) -> String {
    assert_eq!(answer.0, 200, "{}", answer.1);
    answer.1["session_token"].as_str().unwrap().to_owned()
}

#[test]
fn a_real_amazon_document_signs_its_machine_in_again_and_again() {
    let mut site = Site::new();
    let body = json!({"document": REAL_DOCUMENT, "signature": REAL_SIGNATURE});
    let (status, said) = site.refusal("aws", &body);
    assert_eq!(status, 404);
    assert!(said.contains(REAL) && said.contains("moorline workspace bind"), "{said}");
    let bound = site.bind("dev", "aws", REAL);
    assert_eq!(bound["instance"]["agent_auth"], "aws-instance-identity");
    for _ in 0..3 {
        assert_eq!(token(site.sign_in("aws", &body)), TOKENS[0]);
    }
    let keys = site.rig.ask(&Ask::new("GET", "/api/v2/workspaceagents/me/gitsshkey").token(TOKENS[0]));
    assert_eq!(keys.status, 200);
    let rows = site.audit("agent.sign_in");
    assert_eq!(rows.len(), 2, "one row an hour and outcome: {rows:?}");
    assert_eq!((rows[0].0.as_str(), rows[0].1.as_str()), ("refused", format!("aws:{REAL}").as_str()));
    assert_eq!((rows[1].0.as_str(), rows[1].1.as_str()), ("ok", "alice/dev.main"));
    assert!(rows[1].2.contains("us-east-1"), "{}", rows[1].2);
    // A stale token in the request does not matter.
    let ask = Ask::new("POST", "/api/v2/workspaceagents/aws-instance-identity").token(TOKENS[1]).json(&body);
    assert_eq!(site.rig.ask(&ask).json()["session_token"], TOKENS[0]);
}

#[test]
fn the_newest_living_binding_counts() {
    let mut site = Site::new();
    site.import(&material::aws_certificate(), "other", Some("aws")).unwrap();
    let body = material::aws(OURS, "us-east-1");
    site.bind("new", "aws", OURS);
    assert_eq!(token(site.sign_in("aws", &body)), TOKENS[1]);
    let bound = site.bind("dev", "aws", OURS);
    assert_eq!(bound["instance"]["also_bound"], json!(["alice/new.main"]));
    assert_eq!(token(site.sign_in("aws", &body)), TOKENS[0]);
    assert_eq!(site.show("dev")["instance"]["counts"], true);
    assert_eq!(site.show("new")["instance"]["counts"], false);
    site.unbind("dev");
    assert_eq!(token(site.sign_in("aws", &body)), TOKENS[1]);
    site.bind("new", "aws", REAL);
    assert_eq!(site.sign_in("aws", &body).0, 404);
    site.bind("dev", "aws", OURS);
    assert_eq!(token(site.sign_in("aws", &body)), TOKENS[0]);
    site.verb(json!({"verb": "workspace-remove", "workspace": {"owner": "alice", "workspace": "dev"}})).unwrap();
    assert_eq!(site.sign_in("aws", &body).0, 404);
}

#[test]
fn ids_of_one_cloud_are_not_those_of_another() {
    let site = Site::new();
    let app = &site.rig.app;
    app.store
        .write(|write| {
            let all = store::workspaces::list(write, None)?;
            for (workspace, cloud) in all.iter().zip([instances::Cloud::Google, instances::Cloud::Azure]) {
                let agent = &store::agents::of_workspace(write, workspace.id)?[0];
                instances::bind(write, agent.id, cloud, "1", moorline::model::Timestamp::now())?;
            }
            Ok::<_, store::Error>(())
        })
        .unwrap();
    let bound = |cloud| app.store.read(|conn| instances::bound(conn, cloud, "1").map_err(store::Error::from)).unwrap();
    assert_eq!(bound(instances::Cloud::Google).len(), 1);
    assert_eq!(bound(instances::Cloud::Azure).len(), 1);
    assert_eq!(bound(instances::Cloud::Aws).len(), 0);
    let workspace = json!({"owner": "alice", "workspace": "dev"});
    for (cloud, id) in [("aws", "1"), ("azure", OURS), ("google", VM)] {
        let instance = json!({"cloud": cloud, "id": id});
        let refused = site.verb(json!({"verb": "workspace-bind", "workspace": workspace, "instance": instance}));
        assert_eq!(refused.unwrap_err().fault, Fault::Invalid, "{cloud} {id}");
    }
}

#[test]
fn amazon_documents_that_are_not_good_are_refused_with_a_reason() {
    let mut site = Site::new();
    site.bind("dev", "aws", OURS);
    for (body, reason) in [
        (material::aws(OURS, "us-east-1"), "of region us-east-1"),
        (material::aws(OURS, "mars-north-1"), "of region mars-north-1"),
        (material::aws(OURS, "me-south-1"), "signature"),
        (json!({"document": "<html>", "signature": "x"}), "error page"),
        (json!({"document": REAL_DOCUMENT, "signature": "%"}), "not base64"),
    ] {
        let (status, said) = site.refusal("aws", &body);
        assert_eq!(status, 401, "{said}");
        assert!(said.starts_with("The AWS identity was not accepted.") && said.contains(reason), "{said}");
    }
    let rows = site.audit("agent.sign_in");
    assert!(rows.iter().all(|(result, target, _)| result == "refused" && target.is_empty()), "{rows:?}");
}

#[test]
fn azure_machines_sign_in_below_an_imported_root() {
    let mut site = Site::new();
    let cloud = Azure::new(2_090);
    // Tools print the id in either case.
    site.bind("dev", "azure", &VM.to_uppercase());
    let (status, said) = site.refusal("azure", &cloud.document(VM, 0));
    assert_eq!(status, 401);
    assert!(said.contains("does not lead to a trusted root"), "{said}");
    site.import(&cloud.root, "test", Some("azure-root")).unwrap();
    assert_eq!(token(site.sign_in("azure", &cloud.document(VM, 0))), TOKENS[0]);
    assert_eq!(site.sign_in("azure", &cloud.document(VM.replace('0', "1").as_str(), 0)).0, 404);
    for (made, reason) in [(-7 * 3_600, "ended"), (3_600, "clock of this server")] {
        let (status, said) = site.refusal("azure", &cloud.document(VM, made));
        assert_eq!(status, 401);
        assert!(said.contains(reason), "{said}");
    }
    let (status, _) = site.refusal("azure", &Azure::new(2_090).document(VM, 0));
    assert_eq!(status, 401, "another root");
}

#[test]
fn google_machines_sign_in_with_imported_keys_and_without_google() {
    let mut site = Site::new();
    let id = json!("4520031799277581759");
    site.bind("dev", "google", id.as_str().unwrap());
    let refused = |site: &mut Site, body: &Value, expected: u16, reason: &str| {
        let (status, said) = site.refusal("google", body);
        assert_eq!(status, expected, "{said}");
        assert!(said.contains(reason), "{said}");
    };
    refused(&mut site, &material::google(&id, "k1", 0), 401, "key");
    site.import(&material::google_keys("k1"), "keys", None).unwrap();
    assert_eq!(token(site.sign_in("google", &material::google(&id, "k1", 0))), TOKENS[0]);
    refused(&mut site, &material::google(&id, "k2", 0), 401, "known ones");
    refused(&mut site, &material::google(&id, "k1", -3_700), 401, "seconds ago");
    refused(&mut site, &material::google(&id, "k1", 600), 401, "clock of this server");
    refused(&mut site, &material::google(&json!(7), "k1", 0), 400, "text of digits");
    refused(&mut site, &material::google(&json!("8"), "k1", 0), 404, "No agent is bound");
    refused(&mut site, &material::google(&Value::Null, "k1", 0), 400, "text of digits");
    site.verb(json!({"verb": "trust-remove", "name": "google/keys"})).unwrap();
    refused(&mut site, &material::google(&id, "k1", 0), 401, "key");
}

#[test]
fn two_machines_with_one_identity_are_reported_once() {
    let mut site = Site::new();
    site.import(&material::aws_certificate(), "other", Some("aws")).unwrap();
    site.bind("dev", "aws", OURS);
    let body = material::aws(OURS, "us-east-1");
    for peer in ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2", "192.0.2.1"] {
        assert_eq!(token(site.sign_in_from("aws", &body, peer)), TOKENS[0], "both are let in");
    }
    harness::until("the clones are noted", || (!site.audit("agent.clone").is_empty()).then_some(()));
    let rows = site.audit("agent.clone");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0].1, "alice/dev.main");
    assert!(rows[0].2.contains("192.0.2.1") && rows[0].2.contains("192.0.2.2"), "{}", rows[0].2);
    assert_eq!(site.show("dev")["clones"]["addresses"], json!(["192.0.2.2", "192.0.2.1"]));
    let listed = site.verb(json!({"verb": "workspace-list"})).unwrap();
    assert_eq!(listed["workspaces"][0]["agents"][0]["clones"]["addresses"], json!(["192.0.2.2", "192.0.2.1"]));
    site.bind("dev", "aws", OURS);
    assert_eq!(site.show("dev")["clones"], Value::Null, "the operator has decided");
}

#[test]
fn without_a_plugin_the_machine_is_told_to_wait_and_the_operator_why() {
    let mut site = Site::with(Vec::new());
    let body = json!({"document": REAL_DOCUMENT, "signature": REAL_SIGNATURE});
    let (status, said) = site.refusal("aws", &body);
    assert_eq!(status, 502);
    assert!(said.contains("No identity provider of type aws is configured"), "{said}");
    let mut config = (*harness::plugins::identity("aws", Value::Null)).clone();
    config.library = "/nonexistent/plugin.so".into();
    let mut site = Site::with(vec![std::sync::Arc::new(config)]);
    let (status, said) = site.refusal("aws", &body);
    assert_eq!(status, 502);
    assert!(said.contains("at present") && !said.contains("nonexistent"), "{said}");
    let rows = site.audit("agent.sign_in");
    assert!(rows[0].0 == "failed" && rows[0].2.contains("No such file"), "{rows:?}");
    let refused = site.import(&material::aws_certificate(), "other", Some("aws")).unwrap_err();
    assert!(refused.to_string().contains("does not take it"), "{refused}");
}

#[test]
fn attempts_of_one_address_are_limited() {
    let mut site = Site::with(Vec::new());
    let body = json!({});
    for _ in 0..limits::IDENTITIES_PER_MINUTE {
        assert_eq!(site.sign_in_from("aws", &body, "192.0.2.1").0, 400);
    }
    assert_eq!(site.sign_in_from("azure", &body, "192.0.2.1").0, 429);
    assert_eq!(site.sign_in_from("azure", &body, "192.0.2.2").0, 400);
}

#[test]
fn trust_is_listed_checked_and_taken_back() {
    let site = Site::new();
    let names = |value: &Value, list: &str| -> Vec<String> {
        value[list].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    let list = || site.verb(json!({"verb": "trust-list"})).unwrap();
    let check = |days: u32| site.verb(json!({"verb": "trust-check", "within_days": days})).unwrap();
    let shipped = names(&list(), "anchors");
    assert!(shipped.contains(&"aws/other".to_owned()) && shipped.iter().any(|name| name.starts_with("azure/root/")));
    assert_eq!(check(180)["ending"], json!([]), "what is shipped lasts");
    let soon = Azure::new(time::OffsetDateTime::now_utc().year() + 1);
    site.import(&soon.root, "azure/root/soon", Some("azure-root")).unwrap();
    assert_eq!(names(&check(400), "ending"), ["azure/root/soon"]);
    let imported = list();
    let soon = imported["anchors"].as_array().unwrap().iter().find(|one| one["name"] == "azure/root/soon").unwrap();
    assert_eq!((&soon["origin"], &soon["end_counts"]), (&json!("imported"), &json!(true)));
    // One of a shipped name stands in its place; Amazon's ends do not count.
    site.import(&material::aws_certificate(), "other", Some("aws")).unwrap();
    assert_eq!(names(&list(), "anchors").len(), shipped.len() + 1);
    for (content, name, role, reason) in [
        ("-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----", "bad", Some("aws"), "not a certificate"),
        (
            "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----",
            "bad",
            Some("azure-root"),
            "no certificate",
        ),
        (r#"{"keys": [7]}"#, "bad", None, "not a key set"),
        ("hello", "bad", None, "ROLE NAME BASE64"),
    ] {
        let refused = site.import(content, name, role).unwrap_err().to_string();
        assert!(refused.starts_with("Nothing was imported.") && refused.contains(reason), "{refused}");
    }
    site.verb(json!({"verb": "trust-remove", "name": "azure/root/soon"})).unwrap();
    assert_eq!(names(&list(), "anchors"), shipped);
    assert!(site.verb(json!({"verb": "trust-remove", "name": "aws/china"})).is_err());
    let rows = site.audit("trust.import");
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(site.audit("trust.remove").len(), 1);
}
