//! The same with a whole server: killed, stopped, and tried out by its operator.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::http::{Answer, Client};
use crate::harness::link::{self, token};
use crate::harness::provider::{Fake, Says};
use crate::harness::{Server, until};

const PATH: &str = "/api/v2/workspaceagents/me/external-auth?id=gh&match=";

/// A server with a provider, and a person with a workspace and a link whose token has ended.
struct Site {
    fake: Fake,
    server: Server,
    agent: String,
}

fn site() -> Site {
    let fake = Fake::start();
    fake.know().refresh_token = "refresh-0".into();
    let (server, agent) = link::linked_server(&fake, &token("token-0", "refresh-0", Some(-5)));
    Site { fake, server, agent }
}

impl Site {
    fn get(&self, path: &str) -> std::thread::JoinHandle<std::io::Result<Answer>> {
        let mut client = Client::connect(&self.server.address).unwrap().with_token(&self.agent);
        let path = path.to_owned();
        std::thread::spawn(move || client.get(&path))
    }

    fn refresh_is_sent(&self) {
        until("the refresh token is sent", || (!self.fake.know().token_requests.is_empty()).then_some(()));
    }

    fn link(&self) -> Value {
        self.server.verb(&["external-auth", "list"])["links"][0].clone()
    }

    fn test(&self, more: &[&str]) -> (bool, Value) {
        let output = self.server.verb_output(&[&["external-auth", "test", "gh"], more].concat(), None);
        let value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.success(), value)
    }
}

#[test]
fn a_server_that_is_killed_while_a_refresh_token_is_away_deletes_nothing() {
    let mut site = site();
    site.fake.know().delay = Duration::from_secs(3);
    let cut = site.get(PATH);
    site.refresh_is_sent();
    site.server.kill();
    assert!(cut.join().unwrap().is_err());
    site.server.restart();
    let link = site.link();
    assert_eq!((&link["state"], &link["refreshable"]), (&json!("doubt"), &json!(true)));
    // The provider has used it up: it is tried once, and then the person is asked, but nothing is thrown away.
    site.fake.know().delay = Duration::ZERO;
    for _ in 0..2 {
        let answer = site.get(PATH).join().unwrap().unwrap();
        assert!(answer.json()["url"].as_str().unwrap().ends_with("/external-auth/gh"));
    }
    let link = site.link();
    assert_eq!((&link["state"], &link["refreshable"]), (&json!("dead"), &json!(true)));
    assert_eq!(site.fake.know().token_requests.len(), 2);
    assert!(!site.server.log().contains("refresh-0") && !site.server.log().contains("Cl1entS3cret"));
}

#[test]
fn a_server_that_stops_lets_refreshes_come_home_and_sends_clients_away() {
    let mut site = site();
    site.fake.know().delay = Duration::from_millis(1_500);
    let parked = site.get(PATH);
    let listening = site.get(&format!("{PATH}&listen=true"));
    site.refresh_is_sent();
    let (code, took) = site.server.terminate();
    assert!(code == Some(0) && took < Duration::from_secs(8), "{code:?} after {took:?}");
    for waiting in [parked, listening] {
        let answer = waiting.join().unwrap().unwrap();
        assert_eq!((answer.status, answer.header("Connection")), (503, Some("close")));
    }
    site.server.restart();
    let answer = site.get(PATH).join().unwrap().unwrap();
    assert_eq!(answer.json()["access_token"], json!("token-1"), "{answer:?}");
    assert_eq!(site.fake.know().token_requests.len(), 1);
}

#[test]
fn an_operator_sees_which_step_of_a_sign_in_fails() {
    let site = site();
    let names = |value: &Value| -> Vec<(String, bool)> {
        let steps = value["steps"].as_array().unwrap();
        steps.iter().map(|step| (step["step"].as_str().unwrap().to_owned(), step["ok"] == true)).collect()
    };
    let (good, value) = site.test(&[]);
    assert!(good, "{value}");
    assert!(value["next"].as_str().unwrap().contains("moorline external-auth test gh --code CODE"));
    let walked = ["configuration", "library", "settings", "authorize address", "token address"];
    assert_eq!(names(&value), walked.map(|step| (step.to_owned(), true)));
    site.fake.know().tokens = [Says::json(401, &json!({"error": "invalid_client"}))].into();
    let (good, value) = site.test(&[]);
    assert!(!good && names(&value).last() == Some(&("token address".to_owned(), false)), "{value}");
    assert!(value["steps"][4]["said"].as_str().unwrap().contains("client_id or its secret"), "{value}");
    site.fake.know().code = Some("c0de".into());
    let (good, value) = site.test(&["--code", "c0de"]);
    assert!(good, "{value}");
    let walked: Vec<String> = names(&value).into_iter().skip(4).map(|(step, _)| step).collect();
    assert_eq!(walked, ["exchange", "validate", "refresh", "validate again", "revoke"]);
    assert_eq!(site.fake.know().revoked.len(), 1);
    assert!(!value.to_string().contains("token-") && !value.to_string().contains("refresh-"), "{value}");
}
