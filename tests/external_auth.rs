//! Sign-ins at external providers, with the real plugin and a provider that misbehaves as real ones do.

mod listen;
mod process;
mod sign_in;

use std::sync::Arc;
use std::time::{Duration, Instant};

use moorline::config::providers::ProviderConfig;
use moorline::model::UserId;
use moorline::store::external_auth::State;
use serde_json::{Value, json};

use crate::golden::rig::{self, Ask, Got, Rig};
use crate::harness::link::{self, token};
use crate::harness::provider::{Fake, Says};
use crate::harness::until;

const ALICE: &str = "AliceToken-SecretSecretSecret0001";
const BOB: &str = "BobBobBobB-SecretSecretSecret0002";
const AGENT: &str = "c0000000-0000-4000-8000-000000000001";
const BOBS_AGENT: &str = "c0000000-0000-4000-8000-000000000002";
const AGENT_ID: u128 = 0xa000_0000_0000_4000_8000_0000_0000_0001;

/// A server with one provider, two people, and a workspace of each.
struct House {
    rig: Rig,
    fake: Fake,
    alice: UserId,
    bob: UserId,
}

fn house() -> House {
    house_with(&json!({}))
}

fn house_with(changed: &Value) -> House {
    let fake = Fake::start();
    let provider = fake.provider("gh", changed);
    furnish(fake, vec![provider])
}

fn furnish(fake: Fake, providers: Vec<Arc<ProviderConfig>>) -> House {
    let rig = Rig::with_providers(&[], providers);
    let alice = rig.person("alice", true, None, Some(ALICE));
    let bob = rig.person("bob", false, None, Some(BOB));
    rig.workspace(&alice, "dev", AGENT_ID, AGENT, Duration::from_secs(60));
    rig.workspace(&bob, "dev", AGENT_ID + 1, BOBS_AGENT, Duration::from_secs(60));
    House { rig, fake, alice: alice.id, bob: bob.id }
}

fn by_id() -> Ask {
    Ask::new("GET", "/api/v2/workspaceagents/me/external-auth?id=gh&match=").token(AGENT)
}

fn of_bob() -> Ask {
    Ask::new("GET", "/api/v2/workspaceagents/me/external-auth?id=gh&match=").token(BOBS_AGENT)
}

fn fitting(wanted: &str) -> Ask {
    Ask::new("GET", &format!("/api/v2/workspaceagents/me/external-auth?id=&match={wanted}")).token(AGENT)
}

fn is_token(got: &Got, token: &str) {
    assert_eq!(got.status, 200, "{}", got.text());
    let body = got.json();
    assert_eq!((&body["access_token"], &body["username"], &body["url"]), (&json!(token), &json!(token), &json!("")));
}

fn is_sign_in(got: &Got) {
    assert_eq!(got.status, 200, "{}", got.text());
    let url = "http://127.0.0.1:13000/external-auth/gh";
    assert_eq!((&got.json()["access_token"], &got.json()["url"]), (&json!(""), &json!(url)));
}

/// Many at the same time, each over a connection of its own.
fn at_once(house: &House, asks: Vec<Ask>) -> Vec<Got> {
    let threads: Vec<_> = asks
        .into_iter()
        .map(|ask| {
            let (socket, arrivals) = (house.rig.socket(), house.rig.arrivals.clone());
            std::thread::spawn(move || rig::ask_alone(&socket, &arrivals, &ask))
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// Nothing secret is in what the server wrote for people to read.
fn tells_no_secrets(house: &House) {
    let secrets = ["token-1", "refresh-1", "refresh-0", "Cl1entS3cret"];
    let seen: Vec<String> = house
        .rig
        .app
        .store
        .read(|conn| {
            conn.prepare(
                "SELECT action || target || detail FROM audit_log UNION ALL SELECT host || path || fault FROM egress
                 UNION ALL SELECT failure FROM external_auth_links",
            )?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()
            .map_err(moorline::store::Error::from)
        })
        .unwrap();
    for text in &seen {
        assert!(!secrets.iter().any(|secret| text.contains(secret)), "{text}");
    }
}

#[test]
fn ten_callers_share_one_refresh_of_a_token_that_is_good_for_one_use() {
    let house = house();
    house.fake.know().refresh_token = "refresh-0".into();
    house.fake.know().delay = Duration::from_millis(400);
    link::put(&house.rig.app, "gh", house.alice, &token("token-0", "refresh-0", Some(-5)));
    for got in at_once(&house, vec![by_id(); 10]) {
        is_token(&got, "token-1");
    }
    assert_eq!(house.fake.know().token_requests.len(), 1);
    assert_eq!(house.fake.know().validated, ["token-1"]);
    let row = link::find(&house.rig.app, "gh", house.alice).unwrap();
    assert!(row.state == State::Good && row.refresh_sealed.is_some() && row.expires_at.is_some());
    assert_eq!(link::journal(&house.rig.app), ["refreshed"]);
    tells_no_secrets(&house);
}

#[test]
fn a_new_token_is_kept_whatever_comes_of_validating_it() {
    for says in [Says::status(500), Says::status(403), Says::status(429).header("Retry-After", "1")] {
        let mut house = house();
        house.fake.know().refresh_token = "refresh-0".into();
        house.fake.know().validations = std::iter::repeat_n(says, 20).collect();
        link::put(&house.rig.app, "gh", house.alice, &token("token-0", "refresh-0", Some(5)));
        let first = house.rig.ask(&by_id());
        assert_eq!(first.status, 200);
        house.fake.know().validations.clear();
        // What was found out holds for some seconds; a link that is read anew is looked at anew.
        let row = link::find(&house.rig.app, "gh", house.alice).unwrap();
        assert!(row.state == State::Good && row.refresh_sealed.is_some());
        let last = until("the token is good", || {
            let got = house.rig.ask(&by_id());
            (got.json()["access_token"] == "token-1").then_some(got)
        });
        is_token(&last, "token-1");
        assert_eq!(house.fake.know().token_requests.len(), 1);
    }
}

#[test]
fn github_may_refuse_a_new_token_for_a_moment() {
    let mut house = house();
    house.fake.know().refresh_token = "refresh-0".into();
    house.fake.know().validations = [Says::status(401), Says::status(401)].into();
    link::put(&house.rig.app, "gh", house.alice, &token("token-0", "refresh-0", Some(-5)));
    is_token(&house.rig.ask(&by_id()), "token-1");
    assert_eq!(house.fake.know().validated.len(), 3);
}

#[test]
fn a_refresh_ends_well_when_its_caller_is_gone() {
    let mut house = house();
    house.fake.know().refresh_token = "refresh-0".into();
    house.fake.know().delay = Duration::from_millis(300);
    link::put(&house.rig.app, "gh", house.alice, &token("token-0", "refresh-0", Some(-5)));
    let mut ask = by_id();
    ask.patience = Some(Duration::from_millis(20));
    assert_eq!(house.rig.ask(&ask).status, 0);
    until("the token is stored", || (link::journal(&house.rig.app) == ["refreshed"]).then_some(()));
    is_token(&house.rig.ask(&by_id()), "token-1");
    assert_eq!(house.fake.know().token_requests.len(), 1);
}

#[test]
fn a_script_in_a_loop_costs_one_question_in_some_seconds_and_others_nothing() {
    let house = house();
    link::put(&house.rig.app, "gh", house.alice, &token("token-a", "", None));
    link::put(&house.rig.app, "gh", house.bob, &token("token-b", "", None));
    let began = Instant::now();
    for _ in 0..5 {
        for got in at_once(&house, vec![by_id(); 20]) {
            is_token(&got, "token-a");
        }
    }
    is_token(&at_once(&house, vec![of_bob()])[0], "token-b");
    let asked = house.fake.know().validated.clone();
    let fair = 1 + began.elapsed().as_secs() as usize / 5;
    assert!(asked.iter().filter(|token| *token == "token-a").count() <= fair, "{asked:?}");
    assert!(asked.contains(&"token-b".to_owned()));
}

#[test]
fn a_rate_limit_signs_nobody_out_and_is_respected_for_all() {
    let mut house = house();
    link::put(&house.rig.app, "gh", house.alice, &token("token-a", "", None));
    link::put(&house.rig.app, "gh", house.bob, &token("token-b", "", None));
    let limit = Says::status(403).header("X-RateLimit-Remaining", "0").header("Retry-After", "30");
    house.fake.know().validations = [limit].into();
    is_token(&house.rig.ask(&by_id()), "token-a");
    is_token(&house.rig.ask(&of_bob()), "token-b");
    assert_eq!(house.fake.know().validated, ["token-a"]);
    // The same for refreshes, which then fail, but sign nobody out.
    let limit = Says::status(429).header("Retry-After", "30");
    house.fake.know().tokens = [limit].into();
    for user in [house.alice, house.bob] {
        link::put(&house.rig.app, "gh", user, &token("token-0", "refresh-0", Some(-5)));
    }
    for ask in [by_id(), of_bob()] {
        let got = house.rig.ask(&ask);
        assert_eq!(got.status, 502, "{}", got.text());
    }
    assert_eq!(house.fake.know().token_requests.len(), 1);
    for user in [house.alice, house.bob] {
        let row = link::find(&house.rig.app, "gh", user).unwrap();
        assert!(row.refresh_sealed.is_some() && row.state == State::Good);
    }
}

#[test]
fn trouble_at_the_provider_is_tried_again_and_then_told_as_such() {
    let mut house = house();
    house.fake.know().refresh_token = "refresh-0".into();
    house.fake.know().tokens = [Says::status(503), Says::status(502)].into();
    link::put(&house.rig.app, "gh", house.alice, &token("token-0", "refresh-0", Some(-5)));
    is_token(&house.rig.ask(&by_id()), "token-1");
    assert_eq!(link::journal(&house.rig.app), ["failed", "failed", "refreshed"]);
    house.fake.know().tokens = std::iter::repeat_n(Says::json(500, &json!({})), 100).collect();
    link::put(&house.rig.app, "gh", house.alice, &token("token-1", "refresh-1", Some(-5)));
    let began = Instant::now();
    let got = house.rig.ask(&by_id());
    assert_eq!(got.status, 502, "{}", got.text());
    assert!(began.elapsed() > Duration::from_secs(5) && began.elapsed() < Duration::from_secs(20));
    let (result, detail) = link::audited(&house.rig.app, "external_auth.refresh").unwrap();
    assert!(result == "failed" && detail.starts_with("for the moment"), "{detail}");
    // A token that has not ended is given away all the same.
    link::put(&house.rig.app, "gh", house.alice, &token("token-1", "refresh-1", Some(8)));
    house.fake.know().tokens = std::iter::repeat_n(Says::status(429).header("Retry-After", "9"), 9).collect();
    is_token(&house.rig.ask(&by_id()), "token-1");
    house.fake.know().tokens.clear();
    assert!(link::find(&house.rig.app, "gh", house.alice).unwrap().refresh_sealed.is_some());
}

#[test]
fn a_wrong_secret_of_the_operator_signs_nobody_out_and_is_not_tried_again_and_again() {
    let mut house = house();
    house.fake.know().refresh_token = "refresh-0".into();
    let says = json!({"error": "invalid_client", "error_description": "invalid client secret"});
    house.fake.know().tokens = [Says::json(400, &says)].into();
    link::put(&house.rig.app, "gh", house.alice, &token("token-0", "refresh-0", Some(-5)));
    let began = Instant::now();
    let got = house.rig.ask(&by_id());
    assert_eq!(got.status, 502, "{}", got.text());
    assert!(got.text().contains("invalid client secret"), "{}", got.text());
    assert!(began.elapsed() < Duration::from_secs(2), "nobody waits for it to mend itself");
    assert_eq!(link::journal(&house.rig.app), ["failed"]);
    // Once the operator has mended it, all goes on.
    until("the finding is forgotten", || (house.rig.ask(&by_id()).status == 200).then_some(()));
    is_token(&house.rig.ask(&by_id()), "token-1");
    tells_no_secrets(&house);
}

#[test]
fn a_dead_refresh_token_is_wiped_once_and_never_sent_again() {
    let mut house = house();
    house.fake.know().refresh_token = "another".into();
    link::put(&house.rig.app, "gh", house.alice, &token("token-0", "refresh-0", Some(-5)));
    is_sign_in(&house.rig.ask(&by_id()));
    is_sign_in(&house.rig.ask(&by_id()));
    let row = link::find(&house.rig.app, "gh", house.alice).unwrap();
    assert!(row.refresh_sealed.is_none() && row.state == State::Dead && !row.failure.is_empty());
    assert_eq!(house.fake.know().token_requests.len(), 1);
    assert_eq!(link::journal(&house.rig.app), ["dead"]);
    assert_eq!(link::audited(&house.rig.app, "external_auth.refresh").unwrap().0, "failed");
    // The person sees why.
    let listed = house.rig.ask(&Ask::new("GET", "/api/v2/external-auth").token(ALICE)).json();
    assert_eq!(listed["links"][0]["authenticated"], json!(false));
    assert_ne!(listed["links"][0]["validate_error"], json!(""));
    tells_no_secrets(&house);
}

#[test]
fn who_loses_a_race_does_not_wipe_what_the_winner_has_stored() {
    let house = house();
    house.fake.know().tokens =
        [Says::json(200, &json!({"error": "bad_refresh_token"})).after(Duration::from_millis(500))].into();
    link::put(&house.rig.app, "gh", house.alice, &token("token-0", "refresh-0", Some(-5)));
    let (socket, arrivals) = (house.rig.socket(), house.rig.arrivals.clone());
    let loser = std::thread::spawn(move || rig::ask_alone(&socket, &arrivals, &by_id()));
    until("the old token is sent", || (!house.fake.know().token_requests.is_empty()).then_some(()));
    link::put(&house.rig.app, "gh", house.alice, &token("token-new", "refresh-new", Some(3_600)));
    is_token(&loser.join().unwrap(), "token-new");
    let row = link::find(&house.rig.app, "gh", house.alice).unwrap();
    assert!(row.refresh_sealed.is_some() && row.state == State::Good);
    assert_eq!(link::audited(&house.rig.app, "external_auth.refresh"), None);
}

#[test]
fn a_refresh_that_a_crash_cut_off_is_tried_once_and_nothing_is_deleted() {
    let mut house = house();
    link::put(&house.rig.app, "gh", house.alice, &token("token-0", "refresh-0", Some(-5)));
    let row = link::find(&house.rig.app, "gh", house.alice).unwrap();
    let settle = |house: &House| {
        let row = row.clone();
        // As the journal stands when the server is killed between sending the token and hearing of it.
        house
            .rig
            .app
            .store
            .write(move |write| -> Result<usize, moorline::store::Error> {
                moorline::store::external_auth::begin(write, &row, row.updated_at)?;
                Ok(moorline::store::external_auth::settle(write, row.updated_at)?)
            })
            .unwrap()
    };
    assert_eq!(settle(&house), 1);
    let now = link::find(&house.rig.app, "gh", house.alice).unwrap();
    assert!(now.state == State::Doubt && now.refresh_sealed.is_some());
    assert_eq!(link::journal(&house.rig.app), ["unknown"]);
    // The provider had taken it: it was spent.
    house.fake.know().refresh_token = "refresh-1".into();
    is_sign_in(&house.rig.ask(&by_id()));
    is_sign_in(&house.rig.ask(&by_id()));
    let now = link::find(&house.rig.app, "gh", house.alice).unwrap();
    assert!(now.state == State::Dead && now.refresh_sealed.is_some());
    assert_eq!(house.fake.know().token_requests.len(), 1);
    // Or it had not: the one try mends all.
    link::put(&house.rig.app, "gh", house.bob, &token("token-0", "refresh-1", Some(-5)));
    let app = &house.rig.app;
    let row = link::find(app, "gh", house.bob).unwrap();
    app.store
        .write(move |write| -> Result<(), moorline::store::Error> {
            moorline::store::external_auth::begin(write, &row, row.updated_at)?;
            moorline::store::external_auth::settle(write, row.updated_at)?;
            Ok(())
        })
        .unwrap();
    is_token(&house.rig.ask(&of_bob()), "token-1");
    assert_eq!(link::find(&house.rig.app, "gh", house.bob).unwrap().state, State::Good);
}

#[test]
fn a_provider_is_chosen_by_id_by_expression_and_by_host() {
    let fake = Fake::start();
    let usual = fake.provider("gh", &json!({}));
    let own = fake.provider("own", &json!({"auth_url": "https://git.example.com:8443/login/oauth/authorize"}));
    let monorepo = fake.provider("mono", &json!({"regex": "github\\.com/big/"}));
    let mut house = furnish(fake, vec![usual, own, monorepo]);
    for (wanted, id) in [
        ("https://github.com", Some("gh")),
        ("https://GitHub.com/a/b.git", Some("gh")),
        ("github.com", Some("gh")),
        ("https://github.com/big/repo", Some("mono")),
        ("https://git.example.com:8443/x", Some("own")),
        ("https://git.example.com/x", None),
        ("https://github.com.evil.example", None),
        ("https://evil.example/github.com", None),
    ] {
        let got = house.rig.ask(&fitting(wanted));
        match id {
            Some(id) => {
                assert!(got.json()["url"].as_str().unwrap().ends_with(&format!("/{id}")), "{wanted}: {}", got.text())
            }
            None => {
                assert_eq!(got.status, 404, "{wanted}");
                assert!(got.json()["message"].as_str().unwrap().contains(wanted));
                assert!(
                    got.json()["detail"].as_str().unwrap().contains("own (git.example.com:8443)"),
                    "{}",
                    got.text()
                );
            }
        }
    }
}

#[test]
fn a_provider_that_does_not_start_is_an_error_and_no_other_one_minds() {
    let fake = Fake::start();
    let good = fake.provider("gh", &json!({}));
    let mut broken = (*fake.provider("bad", &json!({}))).clone();
    broken.library = "/nowhere/lib.so".into();
    let mut house = furnish(fake, vec![good, Arc::new(broken)]);
    link::put(&house.rig.app, "bad", house.alice, &token("token-0", "", None));
    link::put(&house.rig.app, "gh", house.alice, &token("token-a", "", None));
    let mut ask = by_id();
    ask.path = ask.path.replace("id=gh", "id=bad");
    assert_eq!(house.rig.ask(&ask).status, 502);
    is_token(&house.rig.ask(&by_id()), "token-a");
    let listed = house.rig.ask(&Ask::new("GET", "/api/v2/external-auth").token(ALICE)).json();
    let links = listed["links"].as_array().unwrap();
    assert_eq!((&links[0]["provider_id"], &links[0]["authenticated"]), (&json!("bad"), &json!(false)));
    assert_eq!((&links[1]["provider_id"], &links[1]["authenticated"]), (&json!("gh"), &json!(true)));
    assert_ne!(links[0]["validate_error"], json!(""));
}

#[test]
fn unlinking_revokes_where_it_can_and_works_without() {
    let mut house = house();
    let unlink = Ask::new("DELETE", "/api/v2/external-auth/gh").token(ALICE);
    assert_eq!(house.rig.ask(&unlink).status, 404);
    link::put(&house.rig.app, "gh", house.alice, &token("token-a", "", None));
    let got = house.rig.ask(&unlink);
    assert_eq!((got.status, got.json()), (200, json!({"token_revoked": true})));
    assert_eq!(link::audited(&house.rig.app, "external_auth.unlink").unwrap().0, "ok");
    assert!(house.fake.know().revoked[0].contains("token-a"));
    // A provider that is not configured any more.
    link::put(&house.rig.app, "old", house.alice, &token("token-a", "", None));
    let got = house.rig.ask(&Ask::new("DELETE", "/api/v2/external-auth/old").token(ALICE));
    assert_eq!((got.status, got.json()), (200, json!({"token_revoked": false})));
    assert_eq!(house.rig.ask(&Ask::new("DELETE", "/api/v2/external-auth/old").token(ALICE)).status, 404);
}

#[test]
fn a_token_that_cannot_be_refreshed_is_good_until_its_end() {
    let mut house = house_with(&json!({"no_refresh": true}));
    link::put(&house.rig.app, "gh", house.alice, &token("token-a", "refresh-0", Some(600)));
    is_token(&house.rig.ask(&by_id()), "token-a");
    link::put(&house.rig.app, "gh", house.alice, &token("token-a", "refresh-0", Some(-1)));
    is_sign_in(&house.rig.ask(&by_id()));
    assert!(house.fake.know().token_requests.is_empty());
    // A provider that cannot say whether a token is good is not one that says it is bad.
    link::put(&house.rig.app, "gh", house.alice, &token("token-a", "", None));
    house.fake.know().validations = [Says::status(500)].into();
    assert_eq!(house.rig.ask(&by_id()).status, 502);
}

#[test]
fn a_person_who_is_removed_leaves_no_tokens() {
    let house = house();
    link::put(&house.rig.app, "gh", house.bob, &token("token-b", "", None));
    let by = moorline::store::audit::By::from(&moorline::store::audit::Actor::Operator("root".into()));
    moorline::domain::users::remove(&house.rig.app.store, &by, "bob", true).unwrap();
    assert!(link::find(&house.rig.app, "gh", house.bob).is_none());
}
