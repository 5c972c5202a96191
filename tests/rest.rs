//! Plain requests, against a server in this process and without the edge.

mod people;
mod rooms;
mod search;
mod workspaces;

use std::time::Duration;

use moorline::config::limits;
use moorline::model::{MICROS_PER_SECOND, Timestamp};
use moorline::store::keys::Scope;
use moorline::store::users::{Status, User};
use moorline::store::{self, agents, keys, users};
use serde_json::{Value, json};

use crate::golden::rig::{self, Ask, Rig};
use crate::harness::until;

const ALICE: &str = "AliceToken-SecretSecretSecret0001";
const BOB: &str = "BobBobBobB-SecretSecretSecret0002";
const ROOT: &str = "RootRootRo-SecretSecretSecret0003";
const AGENT: &str = "c0000000-0000-4000-8000-000000000001";
const AGENT_ID: u128 = 0xa000_0000_0000_4000_8000_0000_0000_0001;
const AGENT_PATH: &str = "/api/v2/workspaceagents/a0000000-0000-4000-8000-000000000001";
const LOGS: &str = "/api/v2/workspaceagents/me/logs";

/// A server with alice, who owns an agent, bob, who owns nothing, and root, an administrator.
struct House {
    rig: Rig,
    alice: User,
}

impl House {
    fn new() -> House {
        House::changed(&[])
    }

    fn changed(settings: &[(&'static str, &str)]) -> House {
        let rig = Rig::with(settings);
        let alice = rig.person("alice", false, Some("correct horse battery"), Some(ALICE));
        rig.person("bob", false, None, Some(BOB));
        rig.person("root", true, None, Some(ROOT));
        rig.workspace(&alice, "dev", AGENT_ID, AGENT, Duration::from_secs(3_600));
        House { rig, alice }
    }

    fn get(&mut self, path: &str, token: &str) -> (u16, Value) {
        let got = self.rig.ask(&Ask::new("GET", path).token(token));
        (got.status, if got.body.is_empty() { Value::Null } else { got.json() })
    }

    fn status(&mut self, ask: &Ask) -> u16 {
        self.rig.ask(ask).status
    }

    fn append(&mut self, logs: &Value) -> u16 {
        self.status(&Ask::new("PATCH", LOGS).token(AGENT).json(&json!({ "logs": logs })))
    }

    fn lines(&mut self, query: &str) -> Vec<Value> {
        let (status, lines) = self.get(&format!("{AGENT_PATH}/logs{query}"), ALICE);
        assert_eq!(status, 200);
        lines.as_array().unwrap().clone()
    }

    fn audit(&self) -> Vec<(String, String, String, String)> {
        let read = |conn: &rusqlite::Connection| {
            conn.prepare("SELECT action, actor_kind, target, result FROM audit_log ORDER BY id")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        self.rig.app.store.read(|conn| read(conn).map_err(store::Error::from)).unwrap()
    }

    fn send(&mut self, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let got = self.rig.ask(&Ask::new(method, path).token(token).json(body));
        (got.status, if got.body.is_empty() { Value::Null } else { got.json() })
    }

    fn sign_in(&mut self, email: &str, password: &str) -> (u16, Value) {
        let got =
            self.rig.ask(&Ask::new("POST", "/api/v2/users/login").json(&json!({"email": email, "password": password})));
        (got.status, got.json())
    }

    fn last_audit(&self) -> (String, String, String, String, String) {
        let read = |conn: &rusqlite::Connection| {
            conn.query_row(
                "SELECT action, actor_name, target, result, ip FROM audit_log ORDER BY id DESC LIMIT 1",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
            )
        };
        self.rig.app.store.read(|conn| read(conn).map_err(store::Error::from)).unwrap()
    }

    fn key(&self, token: &str) -> Option<keys::ApiKey> {
        let id = token.split('-').next().unwrap();
        self.rig.app.store.read(|conn| keys::by_id(conn, id).map_err(store::Error::from)).unwrap()
    }
}

#[test]
fn refuses_whoever_is_not_the_edge() {
    let house = House::new();
    let got = house.rig.ask_as_stranger(&Ask::new("GET", "/healthz"));
    assert_eq!((got.status, got.body.len()), (403, 0));
}

#[test]
fn puts_the_common_headers_on_every_answer() {
    let mut house = House::new();
    for path in ["/healthz", "/nosuch", "/api/v2/nosuch", "/api/v2/users/me", "/api/v2/buildinfo"] {
        let got = house.rig.ask(&Ask::new("GET", path));
        assert!(got.header("X-Coder-Build-Version").unwrap().starts_with("v2.24.0+moorline."), "{path}");
        assert_eq!(got.header("X-Coder-Request-Id"), Some(got.id.to_string().as_str()));
        assert_eq!(got.header("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(got.header("Vary"), Some("Origin, Cookie"));
        assert!(got.header("Set-Cookie").unwrap().starts_with("csrf_token="), "{path}");
    }
    let known = house.rig.ask(&Ask::new("GET", "/healthz").header("Cookie", "csrf_token=known"));
    assert_eq!(known.header("Set-Cookie"), None);
}

#[test]
fn finds_tokens_in_every_place_in_order() {
    let mut house = House::new();
    let me = "/api/v2/users/me";
    let name = |house: &mut House, ask: Ask| house.rig.ask(&ask).json()["username"].as_str().map(str::to_owned);
    let cookie = |token: &str| format!("other=1; coder_session_token={token}");
    assert_eq!(name(&mut house, Ask::new("GET", me).header("Cookie", &cookie(ALICE))).as_deref(), Some("alice"));
    let query = format!("{me}?coder_session_token={BOB}");
    assert_eq!(name(&mut house, Ask::new("GET", &query).token(ALICE)).as_deref(), Some("bob"));
    let both = Ask::new("GET", &query).header("Cookie", &cookie(ROOT));
    assert_eq!(name(&mut house, both).as_deref(), Some("root"));
    let bearer = Ask::new("GET", me).header("Authorization", &format!("bearer {ALICE}")).token("");
    assert_eq!(name(&mut house, bearer).as_deref(), Some("alice"));
    let last = format!("{me}?access_token={BOB}");
    assert_eq!(name(&mut house, Ask::new("GET", &last)).as_deref(), Some("bob"));
}

#[test]
fn shows_agents_to_their_owner_and_to_administrators_only() {
    let mut house = House::new();
    for path in [String::new(), "/connection".into(), "/logs".into()] {
        let path = format!("{AGENT_PATH}{path}");
        assert_eq!(house.get(&path, ALICE).0, 200);
        assert_eq!(house.get(&path, ROOT).0, 200);
        let forbidden = house.get(&path, BOB);
        let unknown = house.get(&path.replace("a0000000", "a0000001"), BOB);
        assert_eq!(forbidden.0, 404);
        assert_eq!(forbidden, unknown, "unknown and forbidden look the same");
    }
}

#[test]
fn takes_uuids_in_every_form() {
    let mut house = House::new();
    for id in ["%7Ba0000000-0000-4000-8000-000000000001%7D", "a0000000000040008000000000000001"] {
        assert_eq!(house.get(&format!("/api/v2/workspaceagents/{id}"), ALICE).0, 200, "{id}");
    }
    for token in ["urn:uuid:c0000000-0000-4000-8000-000000000001", "C0000000000040008000000000000001"] {
        assert_eq!(house.get("/api/v2/workspaceagents/me/gitsshkey", token).0, 200, "{token}");
    }
}

#[test]
fn refuses_tokens_that_are_not_good_any_more() {
    let mut house = House::new();
    let me = "/api/v2/users/me";
    let wrong = "AliceToken-SecretSecretSecret9999";
    for token in ["", "nonsense", wrong, "AliceToke-SecretSecretSecret00011", AGENT] {
        assert_eq!(house.get(me, token).0, 401, "{token:?}");
    }
    let short = "ShortShort-SecretSecretSecret0009";
    house.rig.key(&house.alice, short, "", Duration::ZERO + Duration::from_secs(1));
    until("the token expires", || (house.get(me, short).0 == 401).then_some(()));

    let mut suspended = house.alice.clone();
    suspended.status = Status::Suspended;
    let suspend = move |write: &store::Write<'_>| users::update(write, &suspended).map_err(store::Error::from);
    house.rig.app.store.write(suspend).unwrap();
    assert_eq!(house.get(me, ALICE).0, 401);
    assert_eq!(house.get(AGENT_PATH, ALICE).0, 401);
    // Her agents go on.
    assert_eq!(house.get("/api/v2/workspaceagents/me/gitsshkey", AGENT).0, 200);
}

#[test]
fn lets_tokens_for_apps_do_nothing_else() {
    let mut house = House::new();
    let body = json!({"scope": "application_connect", "token_name": "apps"});
    let made = house.rig.ask(&Ask::new("POST", "/api/v2/users/me/keys/tokens").token(ALICE).json(&body));
    let token = made.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(house.key(&token).unwrap().scope, Scope::ApplicationConnect);
    assert_eq!(house.get("/api/v2/users/me", &token).0, 403);
    assert_eq!(house.get(AGENT_PATH, &token).0, 403);
}

#[test]
fn forgets_the_old_token_of_an_agent_at_once() {
    let mut house = House::new();
    let rotate = |write: &store::Write<'_>| {
        let id = moorline::model::AgentId(uuid::Uuid::from_u128(AGENT_ID));
        agents::set_token(write, id, &[9; 32], &[], Timestamp::now()).map_err(store::Error::from)
    };
    assert_eq!(house.get("/api/v2/workspaceagents/me/gitsshkey", AGENT).0, 200);
    house.rig.app.store.write(rotate).unwrap();
    assert_eq!(house.get("/api/v2/workspaceagents/me/gitsshkey", AGENT).0, 401);
}

#[test]
fn signs_in_by_password_and_writes_both_outcomes_down() {
    let mut house = House::new();
    let login = |email: &str, password: &str| {
        Ask::new("POST", "/api/v2/users/login").json(&json!({"email": email, "password": password}))
    };
    let got = house.rig.ask(&login("Alice@Example.test", "correct horse battery"));
    assert_eq!(got.status, 201);
    let token = got.json()["session_token"].as_str().unwrap().to_owned();
    assert!(got.headers.iter().any(|(name, value)| {
        name == "Set-Cookie"
            && value.starts_with(&format!("coder_session_token={token}; "))
            && value.contains("HttpOnly")
    }));
    assert_eq!(house.get("/api/v2/users/me", &token).1["username"], "alice");
    let wrong = house.rig.ask(&login("alice@example.test", "wrong"));
    let unknown = house.rig.ask(&login("nobody@example.test", "wrong"));
    assert_eq!((wrong.status, wrong.json()), (401, unknown.json()));

    let out = house.rig.ask(&Ask::new("POST", "/api/v2/users/logout").token(&token));
    assert_eq!(out.status, 200);
    assert_eq!(house.get("/api/v2/users/me", &token).0, 401);
    assert_eq!(house.get("/api/v2/users/me", ALICE).0, 200, "other sessions stay");
    let row = |action: &str, kind: &str, target: &str, result: &str| {
        (action.to_owned(), kind.to_owned(), target.to_owned(), result.to_owned())
    };
    assert_eq!(
        house.audit(),
        [
            row("user.login", "user", "alice", "ok"),
            row("user.login", "anonymous", "alice@example.test", "refused"),
            row("user.login", "anonymous", "nobody@example.test", "refused"),
            row("user.logout", "user", "alice", "ok"),
        ]
    );
}

#[test]
fn limits_sign_ins_of_loopback_too_but_not_its_requests() {
    let mut house = House::new();
    for _ in 0..limits::SIGN_INS_PER_MINUTE {
        assert_eq!(house.status(&Ask::new("POST", "/api/v2/users/login")), 400);
    }
    let over = house.rig.ask(&Ask::new("POST", "/api/v2/users/login"));
    assert_eq!((over.status, over.header("Retry-After")), (429, Some("60")));
    assert_eq!(over.header("X-RateLimit-Remaining"), Some("0"));
    for _ in 0..limits::REQUESTS_PER_MINUTE + 10 {
        let got = house.rig.ask(&Ask::new("GET", "/api/v2/buildinfo"));
        assert_eq!((got.status, got.header("X-RateLimit-Limit")), (200, None));
    }
}

#[test]
fn slides_the_expiry_and_notes_the_use_without_being_waited_for() {
    let mut house = House::new();
    let aged = "AgedAgedAg-SecretSecretSecret0004";
    house.rig.key(&house.alice, aged, "", Duration::from_secs(24 * 3_600));
    let hour = 3_600 * MICROS_PER_SECOND;
    let two_hours_ago = Timestamp(Timestamp::now().0 - 2 * hour);
    let expiry = Timestamp(two_hours_ago.0 + 24 * hour);
    let touch = move |write: &store::Write<'_>| keys::touch(write, "AgedAgedAg", "", two_hours_ago, expiry);
    house.rig.app.store.write(move |write| touch(write).map_err(store::Error::from)).unwrap();
    assert_eq!(house.get("/api/v2/users/me", aged).0, 200);
    let key = until("the use is noted", || house.key(aged).filter(|key| key.expires_at > expiry));
    assert!(key.last_used_at > two_hours_ago && key.ip == "127.0.0.1");
    assert_eq!(house.get("/api/v2/users/me", aged).0, 200);
    assert_eq!(house.key(aged).unwrap().expires_at, key.expires_at, "once an hour is enough");
}

#[test]
fn asks_browsers_for_more_than_a_cookie() {
    let mut house = House::new();
    let session = format!("coder_session_token={ALICE}");
    let put = || Ask::new("PUT", "/api/v2/users/me/gitsshkey");
    assert_eq!(house.status(&put().header("Cookie", &session)), 400);
    assert_eq!(house.status(&put().header("Cookie", &session).token(BOB)), 400);
    assert_eq!(house.status(&put().header("Cookie", &session).token(ALICE)), 200);
    let with_proof = format!("{session}; csrf_token=proof");
    assert_eq!(house.status(&put().header("Cookie", &with_proof)), 400);
    assert_eq!(house.status(&put().header("Cookie", &with_proof).header("X-CSRF-TOKEN", "proof")), 200);
    assert_eq!(house.status(&put().token(ALICE)), 200, "a header cannot be forged by a page");
    // Below the agents' path no proof is asked for, as on the real server, but pages of others get nothing done.
    let path = format!("/api/v2/workspaceagents/{}/containers/devcontainers/x/recreate", uuid::Uuid::nil());
    let recreate = || Ask::new("POST", &path).header("Cookie", &session);
    assert_eq!(house.status(&recreate()), 404);
    assert_eq!(house.status(&recreate().header("Origin", "https://else.example")), 403);
    // Agents sign in by cookie and are no browsers.
    let logs = Ask::new("PATCH", LOGS).header("Cookie", &format!("coder_session_token={AGENT}"));
    assert_eq!(house.status(&logs.json(&json!({"logs": [{"output": "x"}]}))), 200);
}

#[test]
fn checks_websocket_handshakes_in_order_and_in_plain_text() {
    let mut house = House::new();
    let path = "/api/v2/workspaceagents/me/rpc?version=2.6";
    let ask = || Ask::new("GET", path).token(AGENT);
    let upgrade = |name: &str, value: &str| ask().header("X-Moorline-Upgrade", "WebSocket").header(name, value);
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    for (ask, status) in [
        (ask(), 426),
        (ask().header("X-Moorline-Upgrade", "derp"), 426),
        (ask().websocket().header("X-Moorline-Http", "1.0"), 426),
        (upgrade("Sec-WebSocket-Key", key), 400),
        (upgrade("Sec-WebSocket-Version", "8").header("Sec-WebSocket-Key", key), 400),
        (upgrade("Sec-WebSocket-Version", "13"), 400),
        (upgrade("Sec-WebSocket-Version", "13").header("Sec-WebSocket-Key", "c2hvcnQ="), 400),
        (ask().websocket().header("Sec-WebSocket-Key", key), 400),
        (ask().websocket().header("Origin", "https://else.example.test"), 403),
        (ask().websocket().header("Origin", "null"), 403),
    ] {
        let got = house.rig.ask(&ask);
        assert_eq!(
            (got.status, got.header("Content-Type")),
            (status, Some("text/plain; charset=utf-8")),
            "{}",
            got.text()
        );
        assert!(house.rig.arrivals.take(got.id).is_none());
    }
    let good = house.rig.ask(&ask().websocket().header("Origin", "http://MOOR.example.test"));
    assert_eq!((good.status, good.header("X-Moorline-Takeover")), (200, Some("websocket")));
    assert_eq!(good.header("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "RFC 6455 section 1.3");
    assert!(house.rig.arrivals.take(good.id).is_some());
}

#[test]
fn checks_the_application_before_the_handshake() {
    let mut house = House::new();
    let rpc = |query: &str| Ask::new("GET", &format!("/api/v2/workspaceagents/me/rpc{query}")).token(AGENT);
    let refused = house.rig.ask(&rpc("?version=3.0"));
    assert_eq!((refused.status, refused.json()["message"].as_str()), (400, Some("Unknown or unsupported API version")));
    assert_eq!(house.status(&Ask::new("GET", "/api/v2/derp-map").websocket()), 401);
    for token in [ALICE, AGENT] {
        let got = house.rig.ask(&Ask::new("GET", "/api/v2/derp-map").token(token).websocket());
        assert_eq!(got.header("X-Moorline-Takeover"), Some("websocket"));
        drop(house.rig.arrivals.take(got.id));
    }
}

#[test]
fn waits_for_ever_with_reinit_unless_the_agent_understands_never() {
    let mut house = House::new();
    let path = "/api/v2/workspaceagents/me/reinit";
    let got = house.rig.ask(&Ask::new("GET", path).header("Cookie", &format!("coder_session_token={AGENT}")));
    assert_eq!((got.status, got.header("X-Moorline-Takeover")), (200, Some("events")));
    assert_eq!(got.header("Content-Type"), Some("text/event-stream"));
    drop(house.rig.arrivals.take(got.id));
    assert_eq!(house.status(&Ask::new("GET", &format!("{path}?wait=true")).token(AGENT)), 409);
}

#[test]
fn keeps_log_lines_by_the_rules() {
    let mut house = House::new();
    assert_eq!(house.lines(""), Vec::<Value>::new());
    let batch = json!([
        {"created_at": "2025-01-02T03:04:05Z", "level": "warn", "output": "one\u{0}two"},
        {"output": "ü".repeat(2_000)},
        {"level": "", "output": ""},
    ]);
    assert_eq!(house.append(&batch), 200);
    let lines = house.lines("");
    assert_eq!(lines[0]["output"], "one\u{274C}two");
    assert_eq!((&lines[0]["level"], &lines[1]["level"]), (&json!("warn"), &json!("info")));
    assert_eq!(lines[1]["output"].as_str().unwrap().chars().count(), 1_024);
    assert_eq!(lines[0]["source_id"], "3b579bf4-1ed8-4b99-87a8-e9a1e3410410");
    assert_eq!(lines[0]["created_at"], lines[2]["created_at"]);
    assert_ne!(lines[0]["created_at"], "2025-01-02T03:04:05Z");
    let (_, agent) = house.get(AGENT_PATH, ALICE);
    let bytes = "one\u{274C}two".len() + 2 * 2_000;
    assert_eq!((&agent["logs_length"], &agent["log_sources"][0]["display_name"]), (&json!(bytes), &json!("External")));

    let id = |index: usize| lines[index]["id"].as_i64().unwrap();
    let ids = |house: &mut House, query: String| -> Vec<i64> {
        house.lines(&query).iter().map(|line| line["id"].as_i64().unwrap()).collect()
    };
    assert_eq!(ids(&mut house, format!("?after={}", id(0))), [id(1), id(2)]);
    assert_eq!(ids(&mut house, format!("?before={}", id(2))), [id(0), id(1)]);
    assert_eq!(ids(&mut house, format!("?after={}&before={}&no_compression", id(0), id(2))), [id(1)]);
    for bad in ["?after=x", "?after=-1", "?before=x", "?before=-1", "?before=9223372036854775808", "?follow&before=x"] {
        let (status, body) = house.get(&format!("{AGENT_PATH}/logs{bad}"), ALICE);
        assert_eq!(status, 400, "{bad}");
        assert!(bad.contains(body["validations"][0]["field"].as_str().unwrap()), "{bad}");
    }
}

#[test]
fn refuses_a_batch_that_is_too_large_whole_and_takes_smaller_ones_after_it() {
    let mut house = House::new();
    assert_eq!(house.append(&json!([{"output": "a"}, {"output": "k".repeat(1_048_576)}])), 413);
    assert_eq!(house.lines("").len(), 0);
    assert_eq!(house.get(AGENT_PATH, ALICE).1["logs_overflowed"], true);
    assert_eq!(house.append(&json!([{"output": "k".repeat(1_048_576)}])), 200, "exactly the limit fits");
    assert_eq!(house.append(&json!([{"output": "x"}])), 413);
    assert_eq!(house.append(&json!([{"output": ""}])), 200);
    assert_eq!(house.get(AGENT_PATH, ALICE).1["logs_length"], 1_048_576);
}

#[test]
fn sends_all_of_a_long_log() {
    let mut house = House::new();
    let batch = vec![json!({"output": "k"}); 3_000];
    for _ in 0..3 {
        assert_eq!(house.append(&json!(batch)), 200);
    }
    assert_eq!(house.lines("").len(), 9_000);
}

#[test]
fn refuses_log_bodies_that_would_block_no_honest_sender() {
    let mut house = House::new();
    for (body, status) in [
        (r#"{"logs":[]}"#, 400),
        (r#"{"logs":[{"level":"shout","output":"x"}]}"#, 400),
        (r#"{"logs":[{"created_at":"yesterday","output":"x"}]}"#, 400),
        (r#"{"log_source_id":"nonsense","logs":[{"output":"x"}]}"#, 400),
        (r#"{"log_source_id":"{5eed0000-0000-4000-8000-000000000001}","logs":[{"output":"x"}]}"#, 200),
        (r#"{"log_source_id":null,"logs":[{"level":null,"output":null}]} trailing"#, 200),
        (r#"{"logs":[{"output":"lone \ud800 half"}]}"#, 200),
    ] {
        let mut ask = Ask::new("PATCH", LOGS).token(AGENT);
        ask.body = body.as_bytes().to_vec();
        assert_eq!(house.status(&ask), status, "{body}");
    }
    let mut ask = Ask::new("PATCH", LOGS).token(AGENT);
    ask.body = b"{\"logs\":[{\"output\":\"\xff\xfe\"}]}".to_vec();
    assert_eq!(house.status(&ask), 200);
    assert_eq!(house.lines("").last().unwrap()["output"], "\u{FFFD}\u{FFFD}");
}

#[test]
fn shows_the_operators_routes_to_the_operator_only() {
    let mut house = House::new();
    for ask in [Ask::new("GET", "/metrics"), Ask::new("POST", "/admin/verb")] {
        assert_eq!(house.status(&ask.clone().token(ROOT)), 404);
        let operator = Ask { operator: Some("root".into()), ..ask };
        assert_ne!(house.status(&operator), 404);
    }
    let long = Ask { body: vec![b' '; 3 * 1024 * 1024], ..Ask::new("POST", "/admin/verb") };
    assert_eq!(house.status(&Ask { operator: Some("root".into()), ..long }), 400, "a long declaration is read");
    let metrics = house.rig.ask(&Ask { operator: Some("root".into()), ..Ask::new("GET", "/metrics") });
    assert!(metrics.header("Content-Type").unwrap().starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(metrics.text().contains("moorline_http_requests_total ") && metrics.text().ends_with("# EOF\n"));
}

#[test]
fn gives_the_key_pair_that_ssh_takes() {
    let mut house = House::new();
    let (_, before) = house.get("/api/v2/workspaceagents/me/gitsshkey", AGENT);
    assert!(before["private_key"].as_str().unwrap().starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"));
    let reset = house.rig.ask(&Ask::new("PUT", "/api/v2/users/me/gitsshkey").token(ALICE));
    assert_eq!(reset.status, 200);
    let (_, after) = house.get("/api/v2/workspaceagents/me/gitsshkey", AGENT);
    assert_ne!(before["public_key"], after["public_key"]);
    assert_eq!(reset.json()["public_key"], after["public_key"]);
    let (_, shown) = house.get("/api/v2/users/alice/gitsshkey", ROOT);
    assert_eq!(shown["public_key"], after["public_key"]);
}

#[test]
fn lets_people_manage_their_own_tokens_and_administrators_everybodys() {
    let mut house = House::new();
    let create = |path: &str, token: &str, name: &str| {
        Ask::new("POST", path).token(token).json(&json!({"token_name": name, "lifetime": 3_600_000_000_000_i64}))
    };
    let made = house.rig.ask(&create("/api/v2/users/me/keys/tokens", ALICE, "laptop"));
    let token = made.json()["key"].as_str().unwrap().to_owned();
    let id = token.split('-').next().unwrap().to_owned();
    assert_eq!(house.get("/api/v2/users/me", &token).0, 200);
    assert_eq!(house.status(&create("/api/v2/users/me/keys/tokens", ALICE, "laptop")), 409);
    assert_eq!(house.status(&create("/api/v2/users/alice/keys/tokens", BOB, "stolen")), 400);
    assert_eq!(house.status(&create("/api/v2/users/bob/keys/tokens", ROOT, "laptop")), 201);
    let (_, mine) = house.get("/api/v2/users/me/keys/tokens?include_all=true", ALICE);
    assert_eq!(mine.as_array().unwrap().len(), 1);
    let (_, all) = house.get("/api/v2/users/me/keys/tokens?include_all=true", ROOT);
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!(house.get(&format!("/api/v2/users/me/keys/{id}"), BOB).0, 404);
    assert_eq!(house.status(&Ask::new("DELETE", &format!("/api/v2/users/me/keys/{id}")).token(BOB)), 404);
    assert_eq!(house.status(&Ask::new("DELETE", &format!("/api/v2/users/me/keys/{id}")).token(ALICE)), 204);
    assert_eq!(house.get("/api/v2/users/me", &token).0, 401);
}

#[test]
fn answers_more_connections_than_it_has_workers() {
    let house = House::new();
    let socket = house.rig.socket();
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let mut connection = rig::connect(&socket);
                for _ in 0..20 {
                    let got = rig::exchange_as_edge(&mut connection, &Ask::new("GET", AGENT_PATH).token(ALICE));
                    assert_eq!(got.status, 200);
                }
            });
        }
    });
}
