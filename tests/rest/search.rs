//! The search language of `GET /workspaces?q=`, as clients write it.

use super::*;

fn find(house: &mut House, q: &str, token: &str) -> Result<Vec<String>, String> {
    let encoded: String = q.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let (status, body) = house.get(&format!("/api/v2/workspaces?q={encoded}"), token);
    if status == 200 {
        let list = body["workspaces"].as_array().unwrap();
        assert_eq!(body["count"], list.len());
        return Ok(list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect());
    }
    assert_eq!(status, 400, "{q}");
    Err(body["validations"][0]["field"].as_str().unwrap().to_owned())
}

#[test]
fn finds_what_clients_look_for() {
    let mut house = House::new();
    let alice = house.alice.clone();
    house.rig.workspace(
        &alice,
        "dev-two",
        AGENT_ID + 1,
        "c0000000-0000-4000-8000-000000000002",
        Duration::from_secs(5),
    );
    let root = house.rig.app.store.read(|conn| users::by_username(conn, "root").map_err(store::Error::from));
    let root = root.unwrap().unwrap();
    house.rig.workspace(&root, "Tower", AGENT_ID + 2, "c0000000-0000-4000-8000-000000000003", Duration::from_secs(5));
    house.rig.app.presence.joined(moorline::model::AgentId(uuid::Uuid::from_u128(AGENT_ID)), Timestamp::now());
    let organization = house.rig.app.organization_id();
    let all = ["dev", "dev-two", "Tower"];
    let both = ["dev", "dev-two"];
    let none: [&str; 0] = [];
    let with_organization = format!("organization:{organization}");
    let cases: Vec<(&str, &[&str])> = vec![
        ("", &all),
        ("   ", &all),
        ("owner:me", &["Tower"]),
        ("owner:me ", &["Tower"]),
        ("owner:\"me\"", &["Tower"]),
        ("owner:alice", &both),
        ("OWNER:Alice", &both),
        ("owner:nosuch", &none),
        ("name:dev", &both),
        ("name:\"dev-t\"", &["dev-two"]),
        ("dev", &both),
        ("tow", &["Tower"]),
        ("dev two", &["dev-two"]),
        ("alice/dev", &both),
        ("alice/two", &["dev-two"]),
        ("me/tower", &["Tower"]),
        ("nosuch/dev", &none),
        ("owner:alice name:two", &["dev-two"]),
        ("id:b0000000-0000-4000-8000-000000000001", &["dev"]),
        ("id:b0000000-0000-4000-8000-000000000001,b0000000-0000-4000-8000-000000000003", &["dev", "Tower"]),
        ("template:declared", &all),
        ("template:other", &none),
        ("organization:default", &all),
        (&with_organization, &all),
        ("organization:elsewhere", &none),
        ("status:running", &all),
        ("status:RUNNING", &all),
        ("status:stopped", &none),
        ("status:failed", &none),
        ("status:deleted", &none),
        ("has-agent:connected", &["dev"]),
        ("has-agent:connecting", &["dev-two", "Tower"]),
        ("has-agent:timeout", &none),
        ("healthy:true", &all),
        ("healthy:false", &none),
        ("outdated:true", &none),
        ("outdated:false", &all),
        ("dormant:true", &none),
        ("dormant:false", &all),
        ("shared:true", &none),
        ("shared_with_user:b0000000-0000-4000-8000-000000000001", &none),
        ("has-ai-task:true", &none),
        ("param:region", &none),
        ("param:region=\"eu\"", &none),
        ("last_used_after:\"2020-01-01T00:00:00Z\"", &all),
        ("last_used_after:2020-01-01T00:00:00Z", &all),
        ("last_used_before:\"2020-01-01T00:00:00Z\"", &none),
        ("name:no_such%", &none),
    ];
    for (q, names) in cases {
        let found = find(&mut house, q, ROOT);
        assert_eq!(found, Ok(names.iter().map(ToString::to_string).collect()), "{q}");
    }
    assert_eq!(find(&mut house, "owner:root", ALICE), Ok(Vec::new()), "a search shows nothing more");
    assert_eq!(find(&mut house, "tower", ALICE), Ok(Vec::new()));
}

#[test]
fn refuses_only_what_no_client_means() {
    let mut house = House::new();
    for (q, field) in [
        ("nosuch:x", "nosuch"),
        ("owner:", "q"),
        ("name:\"\"", "q"),
        (":me", "q"),
        ("a:b:c", "q"),
        ("a/b/c", "q"),
        ("owner:a owner:b", "owner"),
        ("status:resting", "status"),
        ("has-agent:lost", "has-agent"),
        ("dormant:maybe", "dormant"),
        ("id:nonsense", "id"),
        ("last_used_after:yesterday", "last_used_after"),
    ] {
        assert_eq!(find(&mut house, q, ALICE), Err(field.to_owned()), "{q}");
    }
}
