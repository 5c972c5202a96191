//! One's own account.

use std::time::Duration;

use moorline::store;
use moorline::store::keys;
use serde_json::json;

use super::office::{Office, said, secret, wrong};
use crate::golden::rig::Ask;
use crate::harness::link;
use crate::harness::provider::Fake;

fn tokens(office: &Office) -> Vec<keys::ApiKey> {
    let owner = office.alice.id;
    office.rig.app.store.read(|conn| keys::list(conn, Some(owner)).map_err(store::Error::from)).unwrap()
}

#[test]
fn makes_a_named_token_and_revokes_it_after_a_question() {
    let mut office = Office::new();
    office.be_alice();
    let form = office.get("/sessions/new").text();
    assert!(form.contains("<option value=\"604800\" selected>7 days without use</option>"), "{form}");
    let got = office.post("/sessions/new", "token_name=backup+%3Cscript%3E&lifetime=86400");
    assert_eq!((got.status, got.header("Cache-Control")), (200, Some("no-store")), "{}", got.text());
    let token = secret(&got.text(), "Token");
    assert!(got.text().contains("backup &lt;script&gt;") && got.text().contains("1 day without use"));
    let me = office.rig.ask(&Ask::new("GET", "/api/v2/users/me").token(&token));
    assert_eq!(me.json()["username"], "alice");
    let key = tokens(&office).remove(0);
    assert_eq!((key.token_name.as_str(), key.lifetime_seconds), ("backup <script>", 86_400));
    let list = office.get("/sessions").text();
    assert!(!list.contains(&token) && list.contains(&format!("href=\"/sessions/{}\"", key.id)), "{list}");

    let question = office.get(&format!("/sessions/{}", key.id)).text();
    assert!(question.contains("Revoke backup &lt;script&gt;?") && question.contains("href=\"/sessions\">Cancel"));
    assert_eq!(tokens(&office).len(), 2, "a link revokes nothing");
    let said = office.done("/sessions", &format!("action=revoke&id={}", key.id), "/sessions");
    assert_eq!(said, "backup &lt;script&gt; was revoked.");
    assert_eq!(office.rig.ask(&Ask::new("GET", "/api/v2/users/me").token(&token)).status, 401);
    let said = office.done("/sessions", &format!("id={}", key.id), "/sessions");
    assert_eq!(said, "That token is gone already.");
    let actions: Vec<String> = office.audit(2).into_iter().map(|row| format!("{} {}", row.0, row.1)).collect();
    assert_eq!(actions, ["alice token.revoke", "alice token.create"]);
}

#[test]
fn keeps_what_was_typed_for_a_token_that_cannot_be_made() {
    let mut office = Office::with(&[("max_token_lifetime", "48h")], Vec::new());
    office.be_alice();
    let form = office.get("/sessions/new").text();
    assert!(form.contains(">2 days without use<") && !form.contains(">7 days"), "{form}");
    let long = "x".repeat(129);
    for (fields, status, field) in [
        (format!("token_name={long}&lifetime=86400"), 400, "token_name"),
        ("token_name=mine&lifetime=x".into(), 400, "lifetime"),
        ("token_name=mine&lifetime=-5".into(), 400, "lifetime"),
        ("token_name=mine".into(), 400, "lifetime"),
    ] {
        let got = office.post("/sessions/new", &fields);
        assert_eq!(got.status, status, "{fields}");
        assert!(!wrong(&got.text(), field).is_empty());
        let typed = fields.split(['=', '&']).nth(1).unwrap();
        assert!(got.text().contains(&format!("value=\"{typed}\"")), "{}", got.text());
    }
    let over = office.post("/sessions/new", "token_name=mine&lifetime=172801");
    assert!(over.status == 400 && over.text().contains("at most 48 hours"), "{}", over.text());
    assert_eq!(office.post("/sessions/new", "token_name=mine&lifetime=86400").status, 200);
    let twice = office.post("/sessions/new", "token_name=mine&lifetime=86400");
    assert_eq!(twice.status, 409);
    assert_eq!(wrong(&twice.text(), "token_name"), "It is in use and must be unique.");
    assert_eq!(tokens(&office).len(), 2);
}

#[test]
fn asks_about_nobody_elses_tokens() {
    let mut office = Office::new();
    office.rig.key(&office.root, "RootsOther-SecretSecretSecret0009", "roots", Duration::from_secs(60));
    office.be_alice();
    for id in ["RootsOther", "nosuch"] {
        assert_eq!(office.get(&format!("/sessions/{id}")).header("Location"), Some("/sessions"), "{id}");
    }
    office.post("/sessions", "id=RootsOther");
    let found = office.rig.ask(&Ask::new("GET", "/api/v2/users/me").token("RootsOther-SecretSecretSecret0009"));
    assert_eq!(found.status, 200);
}

#[test]
fn shows_the_ssh_key_and_replaces_it_after_a_question() {
    let mut office = Office::new();
    office.be_alice();
    let old = secret(&office.get("/settings/ssh-keys").text(), "Public key");
    assert!(old.starts_with("ssh-ed25519 AAAA") && !old.contains('\n'), "{old}");
    let question = office.get("/settings/ssh-keys/new").text();
    assert!(question.contains("cannot be got back") && question.contains("action=\"/settings/ssh-keys\""));
    assert_eq!(secret(&office.get("/settings/ssh-keys").text(), "Public key"), old, "a link replaces nothing");
    office.done("/settings/ssh-keys", "action=renew", "/settings/ssh-keys");
    let new = secret(&office.get("/settings/ssh-keys").text(), "Public key");
    assert_ne!(new, old);
    let api = office.rig.ask(&Ask::new("GET", "/api/v2/users/me/gitsshkey").token("AliceAlice-SecretSecretSecret0002"));
    assert_eq!(api.json()["public_key"].as_str().unwrap().trim_end(), new);
    assert_eq!(office.audit(1)[0].1, "user.gitsshkey");
}

#[test]
fn changes_the_password_and_stays_signed_in_alone() {
    let mut office = Office::new();
    let mut alice = office.alice.clone();
    alice.password_hash = Some(moorline::domain::passwords::hash("correct horse battery").unwrap());
    office.rig.app.store.write(move |write| store::users::update(write, &alice).map_err(store::Error::from)).unwrap();
    office.be_alice();
    office.rig.key(&office.alice, "LaptopLapt-SecretSecretSecret0003", "laptop", Duration::from_secs(3_600));
    let path = "/settings/security";
    for (fields, field) in [
        ("old_password=wrong&password=a+better+secret&again=a+better+secret", "old_password"),
        ("old_password=correct+horse+battery&password=short&again=short", "password"),
        ("old_password=correct+horse+battery&password=a+better+secret&again=another+secret", "again"),
    ] {
        let got = office.post(path, fields);
        assert_eq!(got.status, 400, "{}", got.text());
        assert!(!wrong(&got.text(), field).is_empty());
        assert!(!got.text().contains("secret\"") && !got.text().contains("battery"), "passwords are not shown");
    }
    let fields = "old_password=correct+horse+battery&password=a+better+secret&again=a+better+secret";
    let said = office.done(path, fields, path);
    assert!(said.starts_with("Your password was changed."), "{said}");
    let now = tokens(&office);
    assert_eq!(now.len(), 1, "only this browser is signed in");
    assert!(office.cookies["coder_session_token"].starts_with(&now[0].id));
    let actions: Vec<String> = office.audit(3).into_iter().map(|row| row.1).collect();
    assert_eq!(actions, ["user.login", "user.password", "user.password"]);
}

#[test]
fn says_nothing_that_a_link_or_another_session_puts_there() {
    let mut office = Office::new();
    office.be_alice();
    office.post("/settings/ssh-keys", "");
    let real = office.cookies["moorline_said"].clone();
    let (text, proof) = real.split_once('.').unwrap();
    for forged in
        ["SGVsbG8".into(), format!("SGVsbG8.{proof}"), format!("{text}."), format!("{text}.AAAA"), "..".into()]
    {
        office.cookies.insert("moorline_said".into(), forged.clone());
        assert_eq!(said(&office.get("/settings/ssh-keys?said=Hello").text()), None, "{forged}");
    }
    office.cookies.insert("moorline_said".into(), real.clone());
    let mut other = Office::new();
    other.cookies.insert("moorline_said".into(), real.clone());
    assert_eq!(said(&other.get("/sessions").text()), None, "of another server");
    let own = office.cookies.insert("coder_session_token".into(), "RootRootRo-SecretSecretSecret0001".into());
    assert_eq!(said(&office.get("/sessions").text()), None, "of another session");
    office.cookies.insert("coder_session_token".into(), own.unwrap());
    assert!(said(&office.get("/sessions").text()).unwrap().starts_with("You have a new key."));
    assert!(!office.cookies.contains_key("moorline_said"));
}

#[test]
fn links_and_unlinks_accounts_elsewhere() {
    let fake = Fake::start();
    let mut office = Office::with(&[], vec![fake.provider("gh", &json!({}))]);
    office.be_alice();
    let page = office.get("/settings/external-auth").text();
    assert!(page.contains("not linked") && page.contains("href=\"/external-auth/gh\">Link</a>"), "{page}");
    assert_eq!(office.get("/settings/external-auth/gh").header("Location"), Some("/settings/external-auth"));
    link::put(&office.rig.app, "gh", office.alice.id, &link::token("at", "", None));
    let page = office.get("/settings/external-auth").text();
    assert!(page.contains("state good\">linked") && page.contains("href=\"/settings/external-auth/gh\""), "{page}");
    let question = office.get("/settings/external-auth/gh").text();
    assert!(question.contains("<h1>Unlink gh?</h1>"), "{question}");
    let said = office.done("/settings/external-auth/gh", "action=unlink", "/settings/external-auth");
    assert!(said.starts_with("gh is not linked any more."), "{said}");
    assert!(office.get("/settings/external-auth").text().contains("not linked"));
    office.done("/settings/external-auth/gh", "action=unlink", "/settings/external-auth");
    assert_eq!(office.audit(1)[0].1, "external_auth.unlink");
}

#[test]
fn takes_no_form_of_another_page_and_none_of_nobody() {
    let mut office = Office::new();
    office.be_alice();
    let paths = ["/sessions/new", "/settings/ssh-keys", "/settings/security", "/settings/external-auth/gh"];
    let (key, count) = (secret(&office.get("/settings/ssh-keys").text(), "Public key"), tokens(&office).len());
    for path in paths {
        assert_eq!(office.send(path, "csrf=other&token_name=x&lifetime=86400").status, 403, "{path}");
        let bare = Ask::new("POST", path).header("Cookie", "coder_session_token=AliceAlice-SecretSecretSecret0002");
        assert!(office.rig.ask(&bare).status >= 400, "{path}");
    }
    assert_eq!(secret(&office.get("/settings/ssh-keys").text(), "Public key"), key);
    assert_eq!(tokens(&office).len(), count);
    office.be_nobody();
    for path in paths {
        let got = office.post(path, "");
        let to = got.header("Location").unwrap_or_default().to_owned();
        assert!(got.status == 303 && to.starts_with("/login?redirect="), "{path}: {to}");
    }
    let got = office.get("/settings/ssh-keys");
    assert_eq!(got.header("Location"), Some("/login?redirect=%2Fsettings%2Fssh-keys"));
}

#[test]
fn lets_nobody_guess_the_present_password() {
    let mut office = Office::new();
    let ask = || Ask { peer: Some("192.0.2.9".into()), ..Ask::new("POST", "/settings/security") };
    for _ in 0..moorline::config::limits::SIGN_INS_PER_MINUTE {
        assert_ne!(office.rig.ask(&ask()).status, 429);
    }
    assert_eq!(office.rig.ask(&ask()).status, 429);
}
