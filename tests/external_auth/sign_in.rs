//! Signing in: in the browser, and by device.

use serde_json::json;

use super::{ALICE, BOB, by_id, house, house_with, is_sign_in, is_token, tells_no_secrets};
use crate::golden::rig::{Ask, Got};
use crate::harness::link;

fn cookie(got: &Got, name: &str) -> String {
    let start = format!("{name}=");
    let line = got.headers.iter().find(|(key, value)| key == "Set-Cookie" && value.starts_with(&start));
    let (_, line) = line.unwrap_or_else(|| panic!("no cookie {name}: {:?}", got.headers));
    assert!(line.contains("; Path=/; ") && line.contains("; HttpOnly; SameSite=Lax"), "{line}");
    line[start.len()..].split(';').next().unwrap().to_owned()
}

fn parameter(url: &str, name: &str) -> String {
    let query = url.split('?').nth(1).unwrap();
    let value = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
    value.unwrap_or_else(|| panic!("no {name} in {url}")).to_owned()
}

fn browse(path: &str, cookies: &str) -> Ask {
    let cookies = format!("coder_session_token={ALICE}; csrf_token=c5rf; {cookies}");
    Ask::new("GET", path).header("Accept", "text/html").header("Cookie", &cookies)
}

#[test]
fn a_person_signs_in_with_the_browser_once_per_state() {
    let mut house = house();
    let page = house.rig.ask(&browse("/external-auth/gh", ""));
    assert_eq!((page.status, page.header("Location")), (303, Some("/external-auth/gh/callback")));
    let left = house.rig.ask(&browse("/external-auth/gh/callback?redirect=/%40alice/dev", ""));
    assert_eq!(left.status, 307);
    let url = left.header("Location").unwrap().to_owned();
    assert!(url.starts_with("https://github.com/login/oauth/authorize?"), "{url}");
    assert_eq!(parameter(&url, "redirect_uri"), "http%3A%2F%2F127.0.0.1%3A13000%2Fexternal-auth%2Fgh%2Fcallback");
    let state = parameter(&url, "state");
    assert_eq!(state, cookie(&left, "oauth_state"));
    let challenge = parameter(&url, "code_challenge");
    let cookies = format!("oauth_state={state}; oauth_redirect={}", cookie(&left, "oauth_redirect"));
    // Nobody else can use the state, nor can it be used elsewhere.
    let back = format!("/external-auth/gh/callback?code=c0de&state={state}");
    let mut stranger = Ask::new("GET", &back).header("Cookie", &format!("coder_session_token={BOB}; {cookies}"));
    stranger = stranger.header("Accept", "text/html");
    assert_eq!(house.rig.ask(&stranger).status, 401);
    assert_eq!(house.rig.ask(&browse(&back, "")).status, 401);
    house.fake.know().code = Some("c0de".into());
    let done = house.rig.ask(&browse(&back, &cookies));
    assert_eq!((done.status, done.header("Location")), (307, Some("/@alice/dev")), "{}", done.text());
    let sent = house.fake.know().token_requests[0].clone();
    let verifier = sent.split('&').find_map(|pair| pair.strip_prefix("code_verifier=")).unwrap();
    assert!(verifier.len() >= 43 && verifier != challenge);
    assert_eq!(link::audited(&house.rig.app, "external_auth.link").unwrap().0, "ok");
    // Reloading sends nothing.
    assert_eq!(house.rig.ask(&browse(&back, &cookies)).status, 401);
    assert_eq!(house.fake.know().token_requests.len(), 1);
    is_token(&house.rig.ask(&by_id()), "token-1");
    let page = house.rig.ask(&browse("/external-auth/gh?redirected=true", ""));
    assert!(page.status == 200 && page.text().contains("You are signed in at GitHub as ada"), "{}", page.text());
    tells_no_secrets(&house);
    // And out again.
    let form = Ask::new("POST", "/external-auth/gh")
        .header("Cookie", &format!("coder_session_token={ALICE}; csrf_token=c5rf"))
        .header("Content-Type", "application/x-www-form-urlencoded");
    let mut forged = form.clone();
    forged.body = b"csrf=other&action=unlink".to_vec();
    assert_eq!(house.rig.ask(&forged).status, 403);
    let mut out = form;
    out.body = b"csrf=c5rf&action=unlink".to_vec();
    let page = house.rig.ask(&out);
    assert!(page.text().contains("The provider has revoked the token"), "{}", page.text());
    assert_eq!(house.fake.know().revoked.len(), 1);
    is_sign_in(&house.rig.ask(&by_id()));
}

#[test]
fn a_callback_that_brings_no_good_code_says_so_and_changes_nothing() {
    let mut house = house();
    let denied = "/external-auth/gh/callback?error=access_denied&error_description=The+user+has+denied";
    let page = house.rig.ask(&browse(denied, ""));
    assert!(page.status == 400 && page.text().contains("access_denied") && page.text().contains("Try again"));
    assert_eq!(house.rig.ask(&browse("/external-auth/gh/callback?code=x", "oauth_state=y")).status, 400);
    assert_eq!(house.rig.ask(&browse("/external-auth/gh/callback?code=x&state=y", "oauth_state=y")).status, 401);
    let left = house.rig.ask(&browse("/external-auth/gh/callback?redirect=//evil.example", ""));
    let state = cookie(&left, "oauth_state");
    let cookies = format!("oauth_state={state}; oauth_redirect=%2F%2Fevil.example");
    let page = house.rig.ask(&browse(&format!("/external-auth/gh/callback?code=wrong&state={state}"), &cookies));
    assert!(page.status == 502 && page.text().contains("Not signed in at GitHub"), "{}", page.text());
    assert!(link::find(&house.rig.app, "gh", house.alice).is_none());
    // Signed out: first sign in here, then come back with all that was sent.
    let got =
        house.rig.ask(&Ask::new("GET", "/external-auth/gh/callback?code=a%26b&state=y").header("Accept", "text/html"));
    assert_eq!(
        got.header("Location"),
        Some("/login?redirect=%2Fexternal-auth%2Fgh%2Fcallback%3Fcode%3Da%2526b%26state%3Dy")
    );
    assert_eq!(house.rig.ask(&browse("/external-auth/nosuch", "")).status, 404);
    // The old address of the callback is the same one.
    let left = house.rig.ask(&browse("/gitauth/gh/callback", ""));
    let state = cookie(&left, "oauth_state");
    house.fake.know().code = Some("c0de".into());
    let cookies = format!("oauth_state={state}; oauth_redirect=%2F%2Fevil.example");
    let done = house.rig.ask(&browse(&format!("/gitauth/gh/callback?code=c0de&state={state}"), &cookies));
    assert_eq!(done.header("Location"), Some("/external-auth/gh?redirected=true"));
}

#[test]
fn a_person_signs_in_by_device_without_a_script() {
    let mut house = house_with(&json!({"device_flow": true}));
    house.fake.know().pending = 2;
    let page = house.rig.ask(&browse("/external-auth/gh", ""));
    assert!(page.status == 200 && page.text().contains("ABCD-1234"), "{}", page.text());
    assert!(page.text().contains("https://github.com/login/device"));
    let mut check = Ask::new("POST", "/external-auth/gh")
        .header("Cookie", &format!("coder_session_token={ALICE}; csrf_token=c5rf"))
        .header("Content-Type", "application/x-www-form-urlencoded");
    check.body = b"csrf=c5rf&action=check".to_vec();
    let page = house.rig.ask(&check);
    assert!(page.text().contains("has not got the code") && page.text().contains("ABCD-1234"), "{}", page.text());
    // The same by program.
    let device = house.rig.ask(&Ask::new("GET", "/api/v2/external-auth/gh/device").token(ALICE)).json();
    assert_eq!((&device["user_code"], &device["interval"]), (&json!("ABCD-1234"), &json!(1)));
    let poll = Ask::new("POST", "/api/v2/external-auth/gh/device").token(ALICE).json(&json!({"device_code": "d3v1ce"}));
    let got = house.rig.ask(&poll);
    assert_eq!((got.status, &got.json()["detail"]), (400, &json!("authorization_pending")));
    let done = house.rig.ask(&check);
    assert_eq!(
        (done.status, done.header("Location")),
        (303, Some("/external-auth/gh?redirected=true")),
        "{}",
        done.text()
    );
    is_token(&house.rig.ask(&by_id()), "token-1");
    let got = house
        .rig
        .ask(&Ask::new("POST", "/api/v2/external-auth/gh/device").token(BOB).json(&json!({"device_code": "d3v1ce"})));
    assert_eq!((got.status, got.body.len()), (204, 0));
    assert_eq!(house.rig.ask(&browse("/external-auth/gh/callback", "")).header("Location"), Some("/external-auth/gh"));
}
