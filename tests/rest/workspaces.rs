//! Workspaces, their build and the template, as people and their programs ask for them.

use moorline::model::{AgentId, UserId, WorkspaceId};
use moorline::store::workspaces;
use uuid::Uuid;

use super::*;

const WORKSPACES: &str = "/api/v2/workspaces";
const DEV: &str = "/api/v2/workspaces/b0000000-0000-4000-8000-000000000001";
const UNKNOWN: &str = "/api/v2/workspaces/deadbeef-0000-4000-8000-000000000000";

fn names(list: &Value) -> Vec<String> {
    list["workspaces"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

/// A house where bob has two workspaces.
fn neighbours() -> House {
    let house = House::new();
    let bob = house.rig.app.store.read(|conn| users::by_username(conn, "bob").map_err(store::Error::from));
    let bob = bob.unwrap().unwrap();
    house.rig.workspace(&bob, "zoo", AGENT_ID + 1, "c0000000-0000-4000-8000-000000000002", Duration::from_secs(60));
    house.rig.workspace(&bob, "Ark", AGENT_ID + 2, "c0000000-0000-4000-8000-000000000003", Duration::from_secs(60));
    house
}

#[test]
fn people_see_their_own_and_administrators_all() {
    let mut house = neighbours();
    for (token, all, mine) in [
        (ALICE, vec!["dev"], vec!["dev"]),
        (BOB, vec!["Ark", "zoo"], vec!["Ark", "zoo"]),
        (ROOT, vec!["dev", "Ark", "zoo"], vec![]),
    ] {
        let (status, list) = house.get(WORKSPACES, token);
        assert_eq!((status, names(&list)), (200, all.iter().map(ToString::to_string).collect()));
        assert_eq!(list["count"], all.len());
        let (_, list) = house.get(&format!("{WORKSPACES}?q=owner%3Ame"), token);
        assert_eq!(names(&list), mine);
    }
    assert_eq!(names(&house.get(&format!("{WORKSPACES}?q=owner:alice"), BOB).1), Vec::<String>::new());
    assert_eq!(house.get(WORKSPACES, "").0, 401);
}

#[test]
fn forbidden_looks_like_unknown_on_every_route() {
    let mut house = neighbours();
    let build = house.get(DEV, ALICE).1["latest_build"]["id"].as_str().unwrap().to_owned();
    let ask = |house: &mut House, method: &str, path: &str| {
        let got = house.rig.ask(&Ask::new(method, path).token(BOB).json(&json!({"transition": "stop"})));
        (got.status, got.text())
    };
    let leaves = [
        ("GET", ""),
        ("PATCH", ""),
        ("PUT", "/autostart"),
        ("GET", "/builds"),
        ("POST", "/builds"),
        ("PUT", "/favorite"),
        ("GET", "/port-share"),
        ("GET", "/resolve-autostart"),
        ("GET", "/timings"),
        ("POST", "/usage"),
        ("GET", "/nosuch"),
    ];
    for (method, leaf) in leaves {
        let forbidden = ask(&mut house, method, &format!("{DEV}{leaf}"));
        assert_eq!(forbidden.0, 404, "{method} {leaf}");
        assert_eq!(forbidden, ask(&mut house, method, &format!("{UNKNOWN}{leaf}")), "{method} {leaf}");
    }
    for leaf in ["", "/logs", "/parameters", "/resources", "/state", "/timings"] {
        let path = format!("/api/v2/workspacebuilds/{build}{leaf}");
        assert_eq!(house.get(&path, ALICE).0, 200, "{leaf}");
        let forbidden = house.get(&path, BOB);
        assert_eq!(forbidden.0, 404);
        assert_eq!(forbidden, house.get(&path.replace(&build, "deadbeef-0000-4000-8000-000000000000"), BOB));
    }
    // Of an owner and a name, too; only administrators learn who exists.
    let named = |owner: &str| format!("/api/v2/users/{owner}/workspace/dev");
    let forbidden = house.get(&named("alice"), BOB);
    assert_eq!(forbidden.0, 404);
    for other in ["nosuch", "me", "root", "deadbeef-0000-4000-8000-000000000000"] {
        assert_eq!(house.get(&named(other), BOB), forbidden, "{other}");
    }
    assert_eq!(house.get(&named("nosuch"), ROOT).0, 400);
    assert_eq!(house.get(&named("bob"), ROOT).0, 404);
    assert_eq!(house.get(&named("alice"), ROOT).0, 200);
}

#[test]
fn one_workspace_is_the_same_wherever_it_is_shown() {
    let mut house = House::new();
    let (_, dev) = house.get(DEV, ALICE);
    let alice = house.alice.id;
    for path in [
        "/api/v2/users/me/workspace/dev",
        "/api/v2/users/ALICE/workspace/DEV",
        &format!("/api/v2/users/{alice}/workspace/dev"),
    ] {
        assert_eq!(house.get(path, ALICE), (200, dev.clone()), "{path}");
    }
    assert_eq!(house.get(WORKSPACES, ALICE).1["workspaces"][0], dev);
    let build = &dev["latest_build"];
    let id = build["id"].as_str().unwrap();
    for (path, shown) in [
        (format!("{DEV}/builds"), &json!([build])),
        ("/api/v2/users/me/workspace/dev/builds/1".to_owned(), build),
        (format!("/api/v2/workspacebuilds/{id}"), build),
        (format!("/api/v2/workspacebuilds/{id}/resources"), &build["resources"]),
        (AGENT_PATH.to_owned(), &build["resources"][0]["agents"][0]),
    ] {
        assert_eq!(house.get(&path, ALICE), (200, shown.clone()), "{path}");
    }
    let version = build["template_version_id"].as_str().unwrap();
    assert_eq!(house.get(&format!("/api/v2/templateversions/{version}"), ALICE).0, 200);
    let (_, template) = house.get(&format!("/api/v2/templates/{}", dev["template_id"].as_str().unwrap()), ALICE);
    assert_eq!((&template["active_version_id"], &template["active_user_count"]), (&json!(version), &json!(1)));
    assert_eq!(template["name"], dev["template_name"]);
    // What sets the build machinery of clients going.
    assert_eq!((&build["transition"], &build["status"]), (&json!("start"), &json!("running")));
    assert_eq!(build["job"]["status"], "succeeded");
    assert!(build["job"]["completed_at"].is_string() && dev["outdated"] == false);
    assert_eq!(house.get("/api/v2/users/me/workspace/dev/builds/2", ALICE).0, 404);
    assert_eq!(house.get("/api/v2/users/me/workspace/dev/builds/x", ALICE).0, 400);
}

#[test]
fn no_list_is_null_anywhere() {
    fn walk(value: &Value, at: &str) {
        const LISTS: [&str; 10] = [
            "resources",
            "agents",
            "apps",
            "scripts",
            "log_sources",
            "subsystems",
            "display_apps",
            "failing_agents",
            "statuses",
            "workspaces",
        ];
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| {
                assert!(!LISTS.contains(&key.as_str()) || value.is_array(), "{at}.{key}");
                walk(value, &format!("{at}.{key}"));
            }),
            Value::Array(list) => list.iter().for_each(|value| walk(value, at)),
            _ => {}
        }
    }
    let mut house = House::new();
    let remove = |write: &store::Write<'_>| agents::remove(write, AgentId(Uuid::from_u128(AGENT_ID)), Timestamp::now());
    walk(&house.get(WORKSPACES, ALICE).1, "");
    house.rig.app.store.write(move |write| remove(write).map_err(store::Error::from)).unwrap();
    let (_, list) = house.get(WORKSPACES, ALICE);
    walk(&list, "");
    assert_eq!(list["workspaces"][0]["latest_build"]["resources"][0]["agents"], json!([]));
    assert_eq!(list["workspaces"][0]["health"], json!({"healthy": true, "failing_agents": []}));
}

#[test]
fn a_workspace_is_as_well_as_its_agents() {
    let mut house = House::new();
    // Declared an hour ago and never seen.
    let (_, dev) = house.get(DEV, ALICE);
    let agent = "a0000000-0000-4000-8000-000000000001";
    assert_eq!(dev["health"], json!({"healthy": false, "failing_agents": [agent]}));
    assert_eq!(dev["latest_build"]["resources"][0]["agents"][0]["status"], "timeout");
    house.rig.app.presence.joined(AgentId(Uuid::from_u128(AGENT_ID)), Timestamp::now());
    let (_, dev) = house.get(DEV, ALICE);
    assert_eq!(dev["health"], json!({"healthy": true, "failing_agents": []}));
    let shown = &dev["latest_build"]["resources"][0]["agents"][0];
    assert!(shown["status"] == "connected" && shown["first_connected_at"].is_string());
    // Nobody's row is left without the instant that `coder show` reads unchecked.
    house.rig.app.presence.left(AgentId(Uuid::from_u128(AGENT_ID)));
    let gone = |write: &store::Write<'_>| {
        let (id, now) = (AgentId(Uuid::from_u128(AGENT_ID)), Timestamp::now());
        agents::connected(write, id, now)?;
        agents::disconnected(write, id, now, now)
    };
    house.rig.app.store.write(move |write| gone(write).map_err(store::Error::from)).unwrap();
    let (_, dev) = house.get(DEV, ALICE);
    let shown = &dev["latest_build"]["resources"][0]["agents"][0];
    assert!(shown["status"] == "disconnected" && shown["disconnected_at"].is_string());
}

#[test]
fn favourites_are_ones_own_and_stand_first() {
    let mut house = neighbours();
    let zoo = "/api/v2/workspaces/b0000000-0000-4000-8000-000000000002/favorite";
    let put = |token: &str| Ask::new("PUT", zoo).token(token);
    assert_eq!(house.status(&put(ROOT)), 403, "seen, but not one's own");
    assert_eq!(house.status(&put(ALICE)), 404);
    for _ in 0..2 {
        assert_eq!(house.status(&put(BOB)), 204);
    }
    let (_, list) = house.get(WORKSPACES, BOB);
    assert_eq!(names(&list), ["zoo", "Ark"]);
    assert_eq!((&list["workspaces"][0]["favorite"], &list["workspaces"][1]["favorite"]), (&json!(true), &json!(false)));
    let (_, others) = house.get(&format!("{WORKSPACES}?q=owner:bob"), ROOT);
    assert_eq!(
        (names(&others), &others["workspaces"][1]["favorite"]),
        (vec!["Ark".into(), "zoo".into()], &json!(false))
    );
    for _ in 0..2 {
        assert_eq!(house.status(&Ask::new("DELETE", zoo).token(BOB)), 204);
    }
    assert_eq!(names(&house.get(WORKSPACES, BOB).1), ["Ark", "zoo"]);
}

#[test]
fn use_is_noted_with_any_body() {
    let mut house = House::new();
    let last = |house: &mut House| house.get(DEV, ALICE).1["last_used_at"].as_str().unwrap().to_owned();
    let before = last(&mut house);
    let usage = Ask::new("POST", &format!("{DEV}/usage")).token(ALICE);
    assert_eq!(house.status(&usage), 204);
    let after = last(&mut house);
    assert!(after > before);
    let body = json!({"agent_id": "a0000000-0000-4000-8000-000000000001", "app_name": "no such app"});
    assert_eq!(house.status(&usage.clone().json(&body)), 204);
    assert_eq!(last(&mut house), after, "one write is enough for a while");
    assert_eq!(house.status(&Ask { body: b"{".to_vec(), ..usage.clone() }), 400);
    assert_eq!(house.status(&usage.json(&json!({"agent_id": "nonsense"}))), 400);
}

#[test]
fn what_is_not_done_here_is_refused_with_one_sentence_that_helps() {
    let mut house = House::new();
    let version = house.rig.app.ids().template_version;
    let template = house.rig.app.ids().template;
    let me = "/api/v2/users/me/workspaces".to_owned();
    let member = "/api/v2/organizations/default/members/alice/workspaces".to_owned();
    let dry_run = format!("/api/v2/templateversions/{version}/dry-run");
    let new = json!({"name": "newone", "template_id": template});
    for (method, path, body, hint) in [
        ("POST", format!("{DEV}/builds"), json!({"transition": "start"}), "start the machine itself"),
        ("POST", format!("{DEV}/builds"), json!({"transition": "stop"}), "shut the machine down"),
        (
            "POST",
            format!("{DEV}/builds"),
            json!({"transition": "delete", "orphan": true}),
            "moorline workspace remove alice/dev",
        ),
        (
            "PUT",
            format!("{DEV}/autostart"),
            json!({"schedule": "CRON_TZ=UTC 30 9 * * 1-5"}),
            "where the machine is hosted",
        ),
        ("PUT", format!("{DEV}/ttl"), json!({"ttl_ms": 3_600_000}), "where the machine is hosted"),
        ("PUT", format!("{DEV}/extend"), json!({"deadline": "2030-01-01T00:00:00Z"}), "never stops it"),
        ("PUT", format!("{DEV}/dormant"), json!({"dormant": true}), "shut the machine down"),
        ("PUT", format!("{DEV}/autoupdates"), json!({"automatic_updates": "always"}), "update the machine itself"),
        ("PATCH", DEV.to_owned(), json!({"name": "other"}), "ask an administrator"),
        ("POST", format!("{DEV}/port-share"), json!({"port": 80}), "coder port-forward"),
        ("POST", me, new.clone(), "moorline workspace add newone --owner alice"),
        ("POST", member, new, "moorline workspace add newone --owner alice"),
        ("POST", dry_run.clone(), json!({"workspace_name": "newone"}), "moorline workspace add newone --owner alice"),
        ("POST", dry_run.clone(), json!({"workspace_name": "a b\n"}), "moorline workspace add NAME --owner alice"),
        ("POST", dry_run, json!({"workspace_name": "dev"}), "restart the machine itself"),
        ("PATCH", format!("/api/v2/templates/{template}"), json!({"name": "x"}), "declared by the operator"),
        ("DELETE", format!("/api/v2/templates/{template}"), Value::Null, "declared by the operator"),
        ("POST", "/api/v2/organizations/default/templates".into(), json!({}), "declared by the operator"),
        ("POST", "/api/v2/organizations/default/templateversions".into(), json!({}), "declared by the operator"),
    ] {
        let got = house.rig.ask(&Ask::new(method, &path).token(ALICE).json(&body));
        assert_eq!(got.status, 400, "{method} {path}");
        let message = got.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(hint), "{method} {path}: {message}");
        assert!(message.starts_with(char::is_uppercase), "{message}");
        assert_eq!(got.json().get("validations"), None, "{message}");
        assert_eq!(house.status(&Ask::new(method, &path).json(&body)), 401, "{method} {path}");
    }
}

#[test]
fn what_is_the_case_already_is_done() {
    let mut house = House::new();
    for (method, leaf, body, status) in [
        ("PUT", "/autostart", json!({}), 204),
        ("PUT", "/autostart", json!({"schedule": null}), 204),
        ("PUT", "/autostart", json!({"schedule": ""}), 204),
        ("PUT", "/ttl", json!({"ttl_ms": null}), 204),
        ("PUT", "/autoupdates", json!({"automatic_updates": "never"}), 204),
        ("PUT", "/dormant", json!({"dormant": false}), 200),
        ("PATCH", "", json!({"name": "dev"}), 204),
    ] {
        let got = house.rig.ask(&Ask::new(method, &format!("{DEV}{leaf}")).token(ALICE).json(&body));
        assert_eq!(got.status, status, "{leaf}");
    }
}

#[test]
fn bad_bodies_are_refused_by_field() {
    let mut house = House::new();
    let create = "/api/v2/users/me/workspaces";
    for (method, path, body, field) in [
        ("POST", format!("{DEV}/builds"), json!({}), "transition"),
        ("POST", format!("{DEV}/builds"), json!({"transition": "explode"}), "transition"),
        ("PUT", format!("{DEV}/autostart"), json!({"schedule": "nonsense"}), "schedule"),
        ("PUT", format!("{DEV}/ttl"), json!({"ttl_ms": 1}), "ttl_ms"),
        ("PUT", format!("{DEV}/ttl"), json!({"ttl_ms": -1}), "ttl_ms"),
        ("PUT", format!("{DEV}/autoupdates"), json!({"automatic_updates": "maybe"}), "automatic_updates"),
        ("POST", create.to_owned(), json!({"name": "x"}), "template_id"),
        ("POST", create.to_owned(), json!({"name": "not good!", "template_id": Uuid::new_v4()}), "name"),
        ("POST", create.to_owned(), json!({"name": "good", "template_id": Uuid::new_v4()}), "template_id"),
    ] {
        let got = house.rig.ask(&Ask::new(method, &path).token(ALICE).json(&body));
        assert_eq!((got.status, &got.json()["validations"][0]["field"]), (400, &json!(field)), "{path} {body}");
    }
    for path in [format!("{DEV}/builds"), format!("{DEV}/ttl"), create.to_owned()] {
        let mut ask = Ask::new(if path.ends_with("ttl") { "PUT" } else { "POST" }, &path).token(ALICE);
        ask.body = b"[1".to_vec();
        assert_eq!(house.status(&ask), 400, "{path}");
    }
}

#[test]
fn people_make_workspaces_for_others_as_little_as_they_see_them() {
    let mut house = House::new();
    let body = json!({"name": "newone", "template_id": house.rig.app.ids().template});
    for (path, token, status) in [
        ("/api/v2/users/alice/workspaces", BOB, 400),
        ("/api/v2/organizations/default/members/alice/workspaces", BOB, 400),
        ("/api/v2/organizations/elsewhere/members/me/workspaces", BOB, 404),
    ] {
        assert_eq!(house.status(&Ask::new("POST", path).token(token).json(&body)), status, "{path}");
    }
}

#[test]
fn there_is_one_template() {
    let mut house = House::new();
    let ids = house.rig.app.ids();
    let list = |house: &mut House, q: &str| {
        let (status, list) = house.get(&format!("/api/v2/templates{q}"), ALICE);
        (status, list.as_array().map_or(0, Vec::len))
    };
    for (q, found) in [
        ("", 1),
        ("?q=", 1),
        ("?q=exact_name%3A%22declared%22", 1),
        ("?q=exact_name:decl", 0),
        ("?q=decl", 1),
        ("?q=name:decl", 1),
        ("?q=organization:default", 1),
        ("?q=deleted:true", 0),
        ("?q=deprecated:false", 1),
        ("?q=has-ai-task:true", 0),
        (&format!("?q=ids:{}", ids.template), 1),
        (&format!("?q=ids:{}", ids.template_version), 0),
    ] {
        assert_eq!(list(&mut house, q), (200, found), "{q}");
    }
    assert_eq!(list(&mut house, "?q=nosuch:x").0, 400);
    let organization = ids.organization;
    for path in [
        format!("/api/v2/organizations/{organization}/templates/declared"),
        "/api/v2/organizations/default/templates/declared/versions/v1".into(),
        format!("/api/v2/templates/{}/versions/v1", ids.template),
        format!("/api/v2/templateversions/{}/rich-parameters", ids.template_version),
        "/api/v2/templates/examples".into(),
        "/api/v2/organizations/default/templates/examples".into(),
    ] {
        assert_eq!(house.get(&path, ALICE).0, 200, "{path}");
        assert_eq!(house.get(&path, "").0, 401, "{path}");
    }
    for path in [
        "/api/v2/organizations/elsewhere/templates".into(),
        "/api/v2/organizations/default/templates/other".into(),
        "/api/v2/organizations/default/templates/declared/versions/v2".into(),
        format!("/api/v2/templates/{}", ids.template_version),
        format!("/api/v2/templates/{}/versions/v2", ids.template),
        format!("/api/v2/templateversions/{}", ids.template),
        format!("/api/v2/templateversions/{}/dry-run/{}", ids.template_version, Uuid::new_v4()),
    ] {
        assert_eq!(house.get(&path, ALICE).0, 404, "{path}");
    }
    assert_eq!(house.get("/api/v2/templates/nonsense", ALICE).0, 400);
}

#[test]
fn a_thousand_workspaces_are_listed_whole_and_in_pages() {
    let mut house = House::new();
    let owner = house.alice.id;
    let add = move |write: &store::Write<'_>| {
        for number in 0..1_000_u128 {
            insert(write, owner, number)?;
        }
        Ok::<(), store::Error>(())
    };
    house.rig.app.store.write(add).unwrap();
    let (status, list) = house.get(WORKSPACES, ALICE);
    assert_eq!((status, names(&list).len(), &list["count"]), (200, 1_001, &json!(1_001)));
    let agents = |one: &Value| one["latest_build"]["resources"][0]["agents"].as_array().unwrap().len();
    assert!(list["workspaces"].as_array().unwrap().iter().all(|one| agents(one) == 1));
    let (_, page) = house.get(&format!("{WORKSPACES}?q=name:w&limit=10&offset=990"), ALICE);
    assert_eq!((names(&page), &page["count"]), ((990..1_000).map(|n| format!("w{n:04}")).collect(), &json!(1_000)));
    let (_, beyond) = house.get(&format!("{WORKSPACES}?offset=5000"), ALICE);
    assert_eq!((names(&beyond).len(), &beyond["count"]), (0, &json!(1_001)));
    for bad in ["limit=x", "limit=-1", "offset=-1", "offset=99999999999", "after_id=x"] {
        let (status, body) = house.get(&format!("{WORKSPACES}?{bad}"), ALICE);
        assert_eq!(status, 400, "{bad}");
        assert_eq!(body["validations"][0]["field"], bad.split('=').next().unwrap());
    }
}

fn insert(write: &store::Write<'_>, owner: UserId, number: u128) -> Result<(), store::Error> {
    let now = Timestamp::now();
    let id = WorkspaceId(Uuid::from_u128(0xd000_0000_0000_4000_8000_0000_0000_0000 | number));
    let row = workspaces::Workspace {
        id,
        owner_id: owner,
        owner_name: String::new(),
        name: format!("w{number:04}"),
        created_at: now,
        updated_at: now,
        last_used_at: now,
    };
    workspaces::insert(write, &row)?;
    let hash = [&number.to_be_bytes()[..], &number.to_be_bytes()[..]].concat();
    let mut agent = agents::Agent::blank(AgentId::random(), id, "main".into(), (hash, Vec::new()), now);
    agent.operating_system = "linux".into();
    agent.architecture = "amd64".into();
    agents::insert(write, &agent)?;
    Ok(())
}
