//! People, their tokens and sessions, and what administrators do over REST.

use super::*;

const PASSWORD: &str = "correct horse battery";
const ME: &str = "/api/v2/users/me";

fn row(action: &str, actor: &str, target: &str, result: &str) -> (String, String, String, String, String) {
    (action.into(), actor.into(), target.into(), result.into(), "127.0.0.1".into())
}

fn names(list: &Value) -> Vec<&str> {
    list["users"].as_array().unwrap().iter().map(|user| user["username"].as_str().unwrap()).collect()
}

#[test]
fn lists_people_to_administrators_and_oneself_to_others() {
    let mut house = House::new();
    let (_, all) = house.get("/api/v2/users", ROOT);
    assert_eq!((names(&all), &all["count"]), (vec!["alice", "bob", "root"], &json!(3)));
    let (_, own) = house.get("/api/v2/users", ALICE);
    assert_eq!((names(&own), &own["count"]), (vec!["alice"], &json!(1)));
    let (_, page) = house.get("/api/v2/users?limit=1&offset=1", ROOT);
    assert_eq!((names(&page), &page["count"]), (vec!["bob"], &json!(3)));
    let alice = house.alice.id;
    let (_, rest) = house.get(&format!("/api/v2/users?after_id={alice}"), ROOT);
    assert_eq!(names(&rest), ["bob", "root"]);
    for (query, found) in [
        ("ALI", vec!["alice"]),
        ("role:owner", vec!["root"]),
        ("status:active,suspended+bob", vec!["bob"]),
        ("status:dormant", vec![]),
        ("login_type:github", vec![]),
        ("github_com_user_id:5", vec![]),
        ("created_after:2020-01-01T00:00:00Z+root", vec!["root"]),
        ("created_before:2020-01-01T00:00:00Z", vec![]),
        ("last_seen_after:\"2020-01-01T00:00:00Z\"+bob", vec![]),
    ] {
        let path = format!("/api/v2/users?q={query}");
        assert_eq!(names(&house.get(&path, ROOT).1), found, "{query}");
        assert!(names(&house.get(&path, ALICE).1).iter().all(|name| *name == "alice"), "{query}");
    }
    for bad in
        ["q=colour:red", "q=status:", "limit=-1", "limit=x", "offset=1e3", "after_id=alice", "q=created_after:now"]
    {
        let (status, body) = house.get(&format!("/api/v2/users?{bad}"), ROOT);
        assert_eq!((status, body["validations"].as_array().map(Vec::len)), (400, Some(1)), "{bad}");
    }
}

#[test]
fn lets_administrators_add_change_and_remove_people() {
    let mut house = House::new();
    let new = json!({
        "username": "carol", "email": "carol@example.test", "name": "Carol C.", "password": "long enough",
        "login_type": "password", "organization_ids": [house.rig.app.organization_id()], "something": "newer",
    });
    assert_eq!(house.send("POST", "/api/v2/users", ALICE, &new).0, 403);
    let (status, carol) = house.send("POST", "/api/v2/users", ROOT, &new);
    assert_eq!((status, &carol["name"], &carol["roles"]), (201, &json!("Carol C."), &json!([])));
    assert_eq!(house.last_audit(), row("user.create", "root", "carol", "ok"));
    assert_eq!(house.send("POST", "/api/v2/users", ROOT, &new).0, 409);
    let (status, session) = house.sign_in("carol@example.test", "long enough");
    assert_eq!(status, 201);
    let token = session["session_token"].as_str().unwrap().to_owned();

    for (field, value) in [
        ("username", json!("not good!")),
        ("email", json!("nonsense")),
        ("name", json!("x".repeat(129))),
        ("password", json!("short")),
        ("login_type", json!("github")),
        ("login_type", json!("none")),
        ("user_status", json!("suspended")),
        ("organization_ids", json!(["deadbeef-0000-4000-8000-000000000000"])),
    ] {
        let mut body = new.clone();
        body["username"] = json!("dora");
        body["email"] = json!("dora@example.test");
        body[field] = value;
        let (status, refused) = house.send("POST", "/api/v2/users", ROOT, &body);
        let wrong = if body["login_type"] == "none" { "password" } else { field };
        assert_eq!((status, &refused["validations"][0]["field"]), (400, &json!(wrong)), "{refused}");
    }

    let (status, admin) = house.send("PUT", "/api/v2/users/carol/roles", ROOT, &json!({"roles": ["owner"]}));
    assert_eq!((status, &admin["roles"][0]["name"]), (200, &json!("owner")));
    assert_eq!(house.get("/api/v2/users/carol/roles", ROOT).1["roles"], json!(["owner"]));
    assert_eq!(house.send("PUT", "/api/v2/users/carol/roles", ROOT, &json!({"roles": ["auditor"]})).0, 400);
    assert_eq!(house.send("PUT", "/api/v2/users/me/roles", ROOT, &json!({"roles": []})).0, 400);
    assert_eq!(house.send("PUT", "/api/v2/users/me/roles", ALICE, &json!({"roles": ["owner"]})).0, 403);
    let by_id = format!("/api/v2/users/{}", carol["id"].as_str().unwrap());
    assert_eq!(house.send("PUT", &format!("{by_id}/roles"), ROOT, &json!({"roles": []})).1["roles"], json!([]));

    assert_eq!(house.send("PUT", &format!("{by_id}/status/suspend"), ROOT, &json!({})).1["status"], "suspended");
    assert_eq!(house.get(ME, &token).0, 401);
    assert_eq!(house.sign_in("carol@example.test", "long enough").0, 401);
    assert_eq!(house.send("PUT", &format!("{by_id}/status/activate"), ROOT, &json!({})).1["status"], "active");
    assert_eq!(house.get(ME, &token).0, 200);

    assert_eq!(house.send("DELETE", "/api/v2/users/alice", ROOT, &json!({})).0, 409, "she owns a workspace");
    assert_eq!(house.send("DELETE", &by_id, ALICE, &json!({})).0, 400, "unknown and forbidden look the same");
    assert_eq!(house.send("DELETE", &by_id, ROOT, &json!({})).0, 200);
    assert_eq!(house.last_audit(), row("user.remove", "root", "carol", "ok"));
    assert_eq!(house.get(ME, &token).0, 401);
}

#[test]
fn keeps_people_from_locking_themselves_and_everybody_out() {
    let mut house = House::new();
    for (method, path, status) in [
        ("DELETE", "/api/v2/users/me", 403),
        ("PUT", "/api/v2/users/me/status/suspend", 400),
        ("PUT", "/api/v2/users/root/status/suspend", 400),
    ] {
        assert_eq!(house.send(method, path, ROOT, &json!({})).0, status, "{method} {path}");
    }
    for (path, status) in [("/api/v2/users/me/status/activate", 403), ("/api/v2/users/bob/status/suspend", 400)] {
        assert_eq!(house.send("PUT", path, ALICE, &json!({})).0, status, "{path}");
    }
    // Another administrator, who can do it to root, but not when only root is left.
    house.send("PUT", "/api/v2/users/bob/roles", ROOT, &json!({"roles": ["owner"]}));
    assert_eq!(house.send("PUT", "/api/v2/users/root/roles", BOB, &json!({"roles": []})).0, 200);
    assert_eq!(house.get("/api/v2/audit", ROOT).0, 403, "rights end with the role");
    let operator = house.rig.app.clone();
    let by = store::audit::By::from(&store::audit::Actor::Operator("test".into()));
    let refused = moorline::domain::users::set_admin(&operator.store, &by, "bob", false).unwrap_err();
    assert!(refused.message.contains("last active administrator"), "{refused}");
}

#[test]
fn changes_passwords_and_ends_every_session_with_them() {
    let mut house = House::new();
    let path = "/api/v2/users/me/password";
    for (body, field) in [
        (json!({"password": "a new password"}), "old_password"),
        (json!({"old_password": "wrong", "password": "a new password"}), "old_password"),
        (json!({"old_password": PASSWORD, "password": "short"}), "password"),
        (json!({"old_password": PASSWORD, "password": PASSWORD}), "password"),
    ] {
        let (status, refused) = house.send("PUT", path, ALICE, &body);
        assert_eq!((status, &refused["validations"][0]["field"]), (400, &json!(field)), "{refused}");
    }
    assert!(house.audit().contains(&("user.password".into(), "user".into(), "alice".into(), "refused".into())));
    let good = json!({"old_password": PASSWORD, "password": "a new password"});
    assert_eq!(house.send("PUT", path, ALICE, &good), (204, Value::Null));
    assert_eq!(house.last_audit(), row("user.password", "alice", "alice", "ok"));
    assert_eq!(house.get(ME, ALICE).0, 401);
    assert_eq!(house.sign_in("alice@example.test", PASSWORD).0, 401);
    assert_eq!(house.sign_in("alice@example.test", "a new password").0, 201);

    // Administrators need no old password; others may not at all.
    let set = json!({"password": "set by an administrator"});
    assert_eq!(house.send("PUT", "/api/v2/users/alice/password", BOB, &set).0, 400);
    assert_eq!(house.send("PUT", "/api/v2/users/alice/password", ROOT, &set).0, 204);
    assert_eq!(house.sign_in("alice@example.test", "set by an administrator").0, 201);
}

#[test]
fn counts_guesses_at_the_old_password_as_sign_ins() {
    let mut house = House::new();
    let guess = Ask::new("PUT", "/api/v2/users/me/password").token(ALICE).json(&json!({}));
    for _ in 0..limits::SIGN_INS_PER_MINUTE {
        assert_eq!(house.status(&guess), 400);
    }
    assert_eq!(house.status(&guess), 429);
    assert_eq!(house.status(&Ask::new("POST", "/api/v2/users/login")), 429, "one count for all of them");
}

#[test]
fn signs_nobody_in_from_pages_of_other_sites() {
    let mut house = House::new();
    let body = json!({"email": "alice@example.test", "password": PASSWORD});
    let login = |origin: &str| Ask::new("POST", "/api/v2/users/login").header("Origin", origin).json(&body);
    for origin in ["https://else.example.test", "null", "http://moor.example.test.evil.test", "moor.example.test"] {
        let got = house.rig.ask(&login(origin));
        assert_eq!(
            (got.status, got.header("Content-Type")),
            (403, Some("application/json; charset=utf-8")),
            "{origin}"
        );
    }
    for origin in ["http://moor.example.test", "http://MOOR.example.test", "http://127.0.0.1:13000"] {
        assert_eq!(house.status(&login(origin)), 201, "{origin}");
    }
}

#[test]
fn lets_people_change_their_full_name_and_administrators_the_user_name() {
    let mut house = House::new();
    let put = |name: &str, full: &str| json!({"username": name, "name": full});
    let path = "/api/v2/users/me/profile";
    assert_eq!(house.send("PUT", path, ALICE, &put("alice", "Alice A.")).1["name"], "Alice A.");
    assert_eq!(house.last_audit(), row("user.update", "alice", "alice", "ok"));
    assert_eq!(house.send("PUT", path, ALICE, &put("alicia", "")).0, 403);
    assert_eq!(house.send("PUT", path, ALICE, &put("", "x")).0, 400);
    assert_eq!(house.send("PUT", path, ALICE, &put("alice", "a\nb")).1["validations"][0]["field"], "name");
    let path = "/api/v2/users/alice/profile";
    assert_eq!(house.send("PUT", path, ROOT, &put("bob", "")).0, 409);
    assert_eq!(house.send("PUT", path, ROOT, &put("new", "")).0, 400);
    assert_eq!(house.send("PUT", path, ROOT, &put("alicia", "")).1["username"], "alicia");
    assert_eq!(house.get(ME, ALICE).1["username"], "alicia", "sessions go on");
}

#[test]
fn lets_people_find_and_revoke_their_sessions() {
    let mut house = House::new();
    let (_, made) = house.send("POST", "/api/v2/users/me/keys", ALICE, &Value::Null);
    let session = made["key"].as_str().unwrap().to_owned();
    let id = session.split('-').next().unwrap().to_owned();
    house.send("POST", "/api/v2/users/me/keys/tokens", ALICE, &json!({"token_name": "laptop"}));
    let (_, keys) = house.get("/api/v2/users/me/keys", ALICE);
    let kinds: Vec<&str> = keys.as_array().unwrap().iter().map(|key| key["login_type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["token", "password", "password"], "newest first");
    assert_eq!((&keys[1]["id"], &keys[1]["username"]), (&json!(id), &json!("alice")));
    assert_eq!(keys[1]["lifetime_seconds"], 7 * 24 * 3_600);
    assert_eq!(house.get("/api/v2/users/alice/keys", BOB).0, 400);
    assert_eq!(house.get("/api/v2/users/alice/keys", ROOT).1.as_array().unwrap().len(), 3);
    assert_eq!(house.send("DELETE", &format!("/api/v2/users/me/keys/{id}"), ALICE, &Value::Null).0, 204);
    assert_eq!(house.last_audit(), row("token.revoke", "alice", "alice", "ok"));
    let (status, refused) = house.get(ME, &session);
    assert_eq!(status, 401);
    assert!(refused["detail"].as_str().unwrap().contains("API key expired"), "JetBrains looks for these words");
}

#[test]
fn bounds_lifetimes_by_the_settings() {
    let mut house = House::changed(&[("max_token_lifetime", "2h"), ("session_lifetime", "1h")]);
    let hour = 3_600_000_000_000_i64;
    let (_, config) = house.get("/api/v2/users/me/keys/tokens/tokenconfig", ALICE);
    assert_eq!(config["max_token_lifetime"], 2 * hour);
    let mut create = |lifetime: i64| {
        let (status, made) = house.send("POST", "/api/v2/users/me/keys/tokens", ALICE, &json!({"lifetime": lifetime}));
        (status, made["key"].as_str().and_then(|token| house.key(token)).map(|key| key.lifetime_seconds))
    };
    assert_eq!(create(2 * hour), (201, Some(7_200)));
    assert_eq!(create(0), (201, Some(7_200)), "the default is no way around the limit");
    assert_eq!(create(2 * hour + 1), (400, None));
    let (_, session) = house.sign_in("alice@example.test", PASSWORD);
    assert_eq!(house.key(session["session_token"].as_str().unwrap()).unwrap().lifetime_seconds, 3_600);
    let (_, session) = house.send("POST", "/api/v2/users/me/keys", ALICE, &Value::Null);
    assert_eq!(house.key(session["key"].as_str().unwrap()).unwrap().lifetime_seconds, 3_600);
}

#[test]
fn agrees_with_newer_command_lines_on_the_version() {
    let mut house = House::new();
    let newer = "coder-cli/v2.31.4 (linux/amd64; coder list)";
    for (agent, begins) in [(newer, "v2.31.0+moorline."), ("Go-http-client/1.1", "v2.24.0+moorline.")] {
        let got = house.rig.ask(&Ask::new("GET", "/api/v2/buildinfo").header("User-Agent", agent));
        let (said, header) = (got.json(), got.header("X-Coder-Build-Version").unwrap().to_owned());
        assert!(header.starts_with(begins), "{header}");
        assert_eq!(said["version"], header);
        assert!(!said["upgrade_message"].as_str().unwrap().is_empty());
        let refused = house.rig.ask(&Ask::new("GET", "/api/v2/nosuch").header("User-Agent", agent));
        assert_eq!(refused.header("X-Coder-Build-Version"), Some(header.as_str()));
    }
}

#[test]
fn offers_nobody_on_the_network_to_make_the_first_user() {
    let mut house = House::new();
    assert_eq!(house.get("/api/v2/users/first", "").0, 200);
    let body = json!({"email": "x@example.test", "username": "x", "password": "Moorline-rig-9"});
    assert_eq!(house.send("POST", "/api/v2/users/first", "", &body).0, 409);
    assert_eq!(house.get("/api/v2/users", ROOT).1["count"], 3);
}
