//! The one organization, what the caller may do, the audit log, and the other side rooms.

use super::*;

const ME: &str = "/api/v2/users/me";

#[test]
fn has_one_organization_with_everybody_in_it() {
    let mut house = House::new();
    let id = house.rig.app.organization_id().to_string();
    let (_, me) = house.get(ME, ALICE);
    assert_eq!(me["organization_ids"], json!([id]));
    for name in ["default", "DEFAULT", &id] {
        let (status, organization) = house.get(&format!("/api/v2/organizations/{name}"), ALICE);
        assert_eq!((status, &organization["id"], &organization["is_default"]), (200, &json!(id), &json!(true)));
    }
    assert_eq!(house.get("/api/v2/organizations/other", ALICE).0, 404);
    assert_eq!(house.get("/api/v2/organizations/default/members", ALICE).1.as_array().unwrap().len(), 1);
    let (_, members) = house.get("/api/v2/organizations/default/paginated-members?limit=2", ROOT);
    assert_eq!((members["members"].as_array().unwrap().len(), &members["count"]), (2, &json!(3)));
    for (method, path) in [("POST", ""), ("DELETE", "/default"), ("POST", "/default/members/alice")] {
        let path = format!("/api/v2/organizations{path}");
        assert_eq!(house.send(method, &path, ROOT, &json!({})).0, 400, "{method} {path}");
    }
}

#[test]
fn says_yes_only_to_what_the_caller_may_do_here() {
    let mut house = House::new();
    let (alice, root) = (house.alice.id.to_string(), house.get(ME, ROOT).1["id"].clone());
    let workspace = moorline::model::WorkspaceId(uuid::Uuid::from_u128(AGENT_ID ^ (1 << 124))).to_string();
    let checks = json!({"checks": {
        "config": {"action": "read", "object": {"resource_type": "deployment_config"}},
        "all": {"action": "read", "object": {"resource_type": "workspace"}},
        "mine": {"action": "ssh", "object": {"resource_type": "workspace", "owner_id": "me"}},
        "alices": {"action": "ssh", "object": {"resource_type": "workspace", "owner_id": alice}},
        "roots": {"action": "read", "object": {"resource_type": "workspace", "owner_id": root}},
        "this": {"action": "read", "object": {"resource_type": "workspace", "resource_id": workspace}},
        "unknown": {"action": "read", "object": {"resource_type": "workspace", "resource_id": alice}},
        "create": {"action": "create", "object": {"resource_type": "workspace", "owner_id": "me"}},
        "templates": {"action": "create", "object": {"resource_type": "template", "any_org": true}},
        "users": {"action": "create", "object": {"resource_type": "user"}},
        "nonsense": {"action": "fly", "object": {"resource_type": "nosuch"}},
    }});
    let mut may = |token: &str| {
        let (status, answer) = house.send("POST", "/api/v2/authcheck", token, &checks);
        assert_eq!(status, 200, "{answer}");
        let answer = answer.as_object().unwrap().clone();
        assert_eq!(answer.len(), 11);
        answer.into_iter().filter(|(_, yes)| *yes == json!(true)).map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(may(ALICE), ["alices", "mine", "this"]);
    assert_eq!(may(BOB), ["mine"]);
    assert_eq!(may(ROOT), ["alices", "all", "config", "mine", "roots", "this", "users"]);
    for object in [
        json!({}),
        json!({"resource_type": "workspace", "resource_id": "x"}),
        json!({"resource_type": "group", "resource_id": alice}),
    ] {
        let body = json!({"checks": {"x": {"action": "read", "object": object}}});
        assert_eq!(house.send("POST", "/api/v2/authcheck", ALICE, &body).0, 400, "{body}");
    }
}

#[test]
fn shows_the_audit_log_to_administrators_newest_first() {
    let mut house = House::new();
    house.sign_in("alice@example.test", "wrong");
    house.send("PUT", "/api/v2/users/bob/status/suspend", ROOT, &json!({}));
    house.send("POST", "/api/v2/users/me/keys", ALICE, &Value::Null);
    assert_eq!(house.get("/api/v2/audit", ALICE).0, 403);
    let (_, all) = house.get("/api/v2/audit", ROOT);
    assert_eq!(all["count"], 3);
    let row = &all["audit_logs"][0];
    assert_eq!(
        (&row["resource_type"], &row["action"], &row["user"]["username"]),
        (&json!("api_key"), &json!("create"), &json!("alice"))
    );
    assert_eq!((&row["ip"], &row["status_code"]), (&json!("127.0.0.1"), &json!(200)));
    let refused = &all["audit_logs"][2];
    assert_eq!(
        (&refused["action"], &refused["user"], &refused["status_code"]),
        (&json!("login"), &Value::Null, &json!(403))
    );
    let (_, again) = house.get("/api/v2/audit?limit=1&offset=2", ROOT);
    assert_eq!((&again["audit_logs"][0]["id"], &again["count"]), (&refused["id"], &json!(3)));
    for (query, count) in [
        ("resource_type:user", 1),
        ("api_key+action:login", 1),
        ("username:root", 1),
        ("username:me", 1),
        ("email:alice@example.test", 1),
        ("resource_target:bob", 1),
        ("date_from:2020-01-01+date_to:2100-01-01", 3),
        ("date_to:2020-01-01", 0),
        ("organization:default", 3),
        ("build_reason:autostart", 0),
    ] {
        assert_eq!(house.get(&format!("/api/v2/audit?q={query}"), ROOT).1["count"], count, "{query}");
    }
    for bad in ["colour:red", "date_from:yesterday"] {
        assert_eq!(house.get(&format!("/api/v2/audit?q={bad}"), ROOT).0, 400, "{bad}");
    }
}

#[test]
fn keeps_the_side_rooms_for_those_who_may_enter() {
    let mut house = House::new();
    for path in [
        "audit",
        "debug/coordinator",
        "debug/health",
        "debug/tailnet",
        "debug/ws",
        "deployment/config",
        "insights/daus",
    ] {
        let path = format!("/api/v2/{path}");
        assert_eq!(house.get(&path, "").0, 401, "{path}");
        assert_eq!(house.get(&path, ALICE).0, 403, "{path}");
    }
    for path in
        ["experiments", "regions", "deployment/ssh", "deployment/stats", "notifications/inbox", "applications/host"]
    {
        let path = format!("/api/v2/{path}");
        assert_eq!((house.get(&path, "").0, house.get(&path, ALICE).0), (401, 200), "{path}");
    }
    let (_, stats) = house.get("/api/v2/deployment/stats", ALICE);
    assert_eq!(stats["workspaces"]["running"], 1);
    let page = house.rig.ask(&Ask::new("GET", "/api/v2/debug/coordinator").token(ROOT));
    assert!(page.text().contains("Agents connected: 0.") && page.header("Content-Security-Policy").is_some());
    let upload = house.rig.ask(&Ask::new("POST", "/api/v2/files").token(ALICE));
    assert_eq!(upload.status, 400);
    let echo = house.rig.ask(&Ask::new("GET", "/api/v2/debug/ws").token(ROOT).websocket());
    assert_eq!(echo.header("X-Moorline-Takeover"), Some("websocket"));
    assert!(house.rig.arrivals.take(echo.id).is_some());
}
