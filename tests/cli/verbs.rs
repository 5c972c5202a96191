//! Every verb on a file that no server has open.

use std::os::unix::fs::MetadataExt;

use serde_json::json;
use uuid::Uuid;

use super::rig::{Rig, keys};

#[track_caller]
fn uuid(value: &serde_json::Value) -> Uuid {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn prints_its_version() {
    let rig = Rig::empty();
    assert_eq!(rig.run("version --json").json()["version"], env!("CARGO_PKG_VERSION"));
    assert!(rig.run("version").text().starts_with(concat!("moorline ", env!("CARGO_PKG_VERSION"))));
    assert_eq!(std::fs::read_dir(rig.folder.path()).unwrap().count(), 0, "nothing is made by looking");
}

#[test]
fn adds_and_lists_people() {
    let rig = Rig::empty();
    let root = rig.run("user add root --email root@example.com --admin --create --json").json();
    uuid(&root["id"]);
    assert_eq!((&root["name"], &root["admin"], &root["status"]), (&json!("root"), &json!(true), &json!("active")));
    let said = rig.run("user add alice --email alice@example.com");
    assert!(said.text().contains("moorline user password alice"), "{}", said.out);
    let users = rig.run("user list --json").json();
    let names: Vec<&str> =
        users["users"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["alice", "root"]);
    let list = rig.run("user list");
    let lines: Vec<&str> = list.text().lines().collect();
    assert!(lines[0].starts_with("NAME") && lines[1].starts_with("alice") && lines.len() == 3, "{}", list.out);
    assert_eq!(std::fs::metadata(rig.path("moorline.db")).unwrap().mode() & 0o77, 0);
}

#[test]
fn refuses_people_that_cannot_be() {
    let rig = Rig::with_people();
    for (arguments, hint) in [
        ("user add alice --email b@example.com", "There is a user `alice` already."),
        ("user add ALICE --email b@example.com", "There is a user `ALICE` already."),
        ("user add bob --email Alice@Example.com", "belongs to user `alice`"),
        ("user add a--b --email b@example.com", "name: `a--b`"),
        ("user add new --email b@example.com", "name: `new`"),
        ("user add me --email b@example.com", "name: `me`"),
        ("user add bob --email nobody", "email: `nobody` is not an e-mail address"),
        ("user remove carol", "There is no user `carol`."),
        ("user suspend carol", "There is no user `carol`."),
        ("user suspend root", "the last active administrator"),
        ("user remove root", "the last active administrator"),
    ] {
        let said = rig.run(arguments);
        assert!(said.refused(1).contains(hint), "{arguments}: {}", said.err);
    }
    assert_eq!(rig.run("user list --json").json()["users"].as_array().unwrap().len(), 2);
}

#[test]
fn suspends_activates_and_removes_people() {
    let rig = Rig::with_people();
    assert_eq!(rig.run("user suspend alice --json").json()["status"], "suspended");
    assert_eq!(rig.run("user suspend alice --json").json()["status"], "suspended", "twice is the same");
    assert_eq!(rig.run("user activate alice --json").json()["status"], "active");
    rig.run("user add other --email other@example.com --admin").text();
    rig.run("user suspend root").text();
    rig.run("user remove other").refused(1);
    rig.run("user remove root").text();
    rig.run("workspace add dev --owner alice").text();
    let said = rig.run("user remove alice");
    assert!(said.refused(1).contains("alice/dev") && said.err.contains("--with-workspaces"), "{}", said.err);
    let removed = rig.run("user remove alice --with-workspaces --json").json();
    assert_eq!(removed["removed_workspaces"], json!(["alice/dev"]));
    assert_eq!(rig.run("workspace list --json").json(), json!({"workspaces": []}));
    rig.run("user add alice --email alice@example.com").text();
}

#[test]
fn takes_passwords_from_standard_input_only() {
    let rig = Rig::with_people();
    let token = rig.run("token create --user alice --json").json();
    let said = rig.run_with_input("user password alice --json", "correct horse\n").json();
    assert_eq!(said["revoked_tokens"], 1);
    assert!(!rig.run("token list").out.contains(token["id"].as_str().unwrap()));
    rig.run_with_input("user add bob --email bob@example.com --password-stdin", "battery staple\r\nignored\n").text();
    let users = rig.run("user list --json").json();
    let with: Vec<bool> =
        users["users"].as_array().unwrap().iter().map(|user| user["has_password"].as_bool().unwrap()).collect();
    assert_eq!(with, [true, true, false]);
    assert!(rig.run_with_input("user password alice --password-stdin", "short\n").refused(1).contains("8 characters"));
    assert!(rig.run_with_input("user password alice --password-stdin", "\n").refused(1).contains("no password"));
    rig.run("user password alice correct-horse").refused(2);
    let raw = std::fs::read(rig.path("moorline.db")).unwrap();
    assert!(!raw.windows(7).any(|bytes| bytes == b"correct"));
}

#[test]
fn creates_lists_and_revokes_tokens() {
    let rig = Rig::with_people();
    let made = rig.run("token create --user alice --name ci --lifetime 48h --json").json();
    assert_eq!(keys(&made), ["id", "token"]);
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    let (left, right) = token.split_once('-').unwrap();
    assert_eq!((left, left.len(), right.len()), (id, 10, 22));
    let said = rig.run("token create --user alice");
    assert!(said.text().contains("coder login http://127.0.0.1:7080 --token "), "{}", said.out);
    rig.run("token create --user root").text();

    let list = rig.run("token list --user alice --json").json();
    let list = list["tokens"].as_array().unwrap();
    assert_eq!(list.len(), 2);
    let ci = list.iter().find(|token| token["name"] == "ci").unwrap();
    assert_eq!((&ci["id"], &ci["user"], &ci["lifetime_seconds"]), (&json!(id), &json!("alice"), &json!(172_800)));
    assert_eq!(rig.run("token list --json").json()["tokens"].as_array().unwrap().len(), 3);

    assert!(rig.run("token create --user alice --name ci").refused(1).contains("named `ci` already"));
    assert!(rig.run("token create --user alice --lifetime 0").refused(1).contains("lifetime"));
    assert!(rig.run("token create --user alice --lifetime 876601h").refused(1).contains("lifetime"));
    assert!(rig.run("token create --user alice --lifetime soon").refused(2).contains("is not a duration"));
    assert!(rig.run("token create --user nobody").refused(1).contains("There is no user `nobody`."));

    rig.run(&format!("token revoke {id}")).text();
    assert!(rig.run(&format!("token revoke {id}")).refused(1).contains("There is no token"));
    assert!(!std::fs::read(rig.path("moorline.db")).unwrap().windows(22).any(|bytes| bytes == right.as_bytes()));
}

#[test]
fn adds_shows_and_removes_workspaces() {
    let rig = Rig::with_people();
    let made = rig.run("workspace add dev --owner alice --json").json();
    assert_eq!(keys(&made), ["workspace_id", "agents"]);
    uuid(&made["workspace_id"]);
    assert_eq!(keys(&made["agents"][0]), ["id", "name", "token"]);
    assert_eq!((made["agents"].as_array().unwrap().len(), &made["agents"][0]["name"]), (1, &json!("main")));
    uuid(&made["agents"][0]["token"]);

    let said = rig.run("workspace add win --owner alice --agent box --os windows --arch arm64 --dir C:\\src");
    assert!(said.text().contains("CODER_AGENT_URL=http://127.0.0.1:7080 CODER_AGENT_TOKEN="), "{}", said.out);
    assert!(said.out.trim_end().ends_with(" coder agent"), "{}", said.out);
    let shown = rig.run("workspace show alice/win --json").json();
    let agent = &shown["agents"][0];
    assert_eq!((&shown["owner"], &shown["name"]), (&json!("alice"), &json!("win")));
    assert_eq!(
        (&agent["name"], &agent["operating_system"], &agent["architecture"], &agent["directory"]),
        (&json!("box"), &json!("windows"), &json!("arm64"), &json!("C:\\src"))
    );
    assert_eq!(agent["lifecycle_state"], "created");
    assert!(!rig.run("workspace show alice/dev --json").out.contains("token"));

    let list = rig.run("workspace list --json").json();
    assert_eq!(list["workspaces"].as_array().unwrap().len(), 2);
    assert!(rig.run("workspace list").text().contains("alice/dev.main"));
    rig.run("workspace remove alice/dev").text();
    rig.run("workspace show alice/dev").refused(1);
    rig.run("workspace remove alice/dev").refused(1);
    rig.run("workspace add dev --owner alice").text();
}

#[test]
fn refuses_workspaces_that_cannot_be() {
    let rig = Rig::with_people();
    rig.run("workspace add dev --owner alice").text();
    for (arguments, code, hint) in [
        ("workspace add dev --owner alice", 1, "There is a workspace alice/dev already."),
        ("workspace add DEV --owner Alice", 1, "There is a workspace alice/dev already."),
        ("workspace add dev --owner nobody", 1, "There is no user `nobody`."),
        ("workspace add a.b --owner alice", 1, "name: `a.b`"),
        ("workspace add x --owner alice --agent a_b", 1, "name: `a_b`"),
        ("workspace add x --owner alice --os beos", 2, "beos"),
        ("workspace add x --owner alice --arch z80", 2, "z80"),
        ("workspace add x", 2, "--owner"),
        ("workspace show dev", 2, "OWNER/NAME"),
        ("workspace show alice/dev.main", 2, "without an agent"),
        ("workspace show alice/other", 1, "User `alice` has no workspace `other`."),
        ("workspace rotate-token alice/dev.other", 1, "alice/dev has no agent `other`. It has: main."),
        ("workspace", 2, ""),
        ("workspaces list", 2, "unrecognized subcommand"),
    ] {
        let said = rig.run(arguments);
        assert_eq!(said.code, code, "{arguments}: {}", said.err);
        assert!(said.err.contains(hint), "{arguments}: {}", said.err);
    }
}

#[test]
fn rotates_tokens_of_one_agent_or_of_all() {
    let rig = Rig::with_people();
    rig.write(
        "two.toml",
        "[[workspace]]\nowner = \"alice\"\nname = \"dev\"\n[[workspace.agent]]\nname = \"a\"\n[[workspace.agent]]\nname = \"b\"\n",
    );
    let first = rig.run("apply two.toml --json").json();
    let before: Vec<String> =
        first["workspaces"][0]["agents"].as_array().unwrap().iter().map(|agent| agent["token"].to_string()).collect();
    let one = rig.run("workspace rotate-token alice/dev.b --json").json();
    assert_eq!(keys(&one), ["workspace_id", "agents"]);
    assert_eq!((one["agents"].as_array().unwrap().len(), &one["agents"][0]["name"]), (1, &json!("b")));
    let both = rig.run("workspace rotate-token alice/dev --json").json();
    let after: Vec<String> =
        both["agents"].as_array().unwrap().iter().map(|agent| agent["token"].to_string()).collect();
    assert_eq!(after.len(), 2);
    assert!(after.iter().all(|token| !before.contains(token)));
    assert_eq!(both["agents"][0]["id"], first["workspaces"][0]["agents"][0]["id"], "the agent stays the same");
}

#[test]
fn makes_no_file_by_mistake() {
    let rig = Rig::empty();
    assert!(rig.run("user list").refused(1).contains("moorline.db: no such file; `moorline serve"));
    assert!(rig.run("user list --file nowhere/moorline.db").refused(1).contains("folder"));
    assert!(rig.run("user add a --email a@b --create --file nowhere/moorline.db").refused(1).contains("folder"));
    assert_eq!(std::fs::read_dir(rig.folder.path()).unwrap().count(), 0);
}

#[test]
fn waits_for_another_verb_on_the_same_file() {
    let rig = Rig::with_people();
    std::thread::scope(|scope| {
        for index in 0..8 {
            let rig = &rig;
            scope.spawn(move || rig.run(&format!("workspace add w{index} --owner alice")).text().len());
        }
    });
    assert_eq!(rig.run("workspace list --json").json()["workspaces"].as_array().unwrap().len(), 8);
}

#[test]
fn writes_an_audit_row_for_every_change() {
    let rig = Rig::with_people();
    rig.run("workspace add dev --owner alice").text();
    rig.run("workspace rotate-token alice/dev").text();
    let token = rig.run("token create --user alice --json").json();
    rig.run(&format!("token revoke {}", token["id"].as_str().unwrap())).text();
    rig.run("user suspend alice").text();
    rig.run("user activate alice").text();
    rig.run("user remove alice --with-workspaces").text();
    let conn = rusqlite::Connection::open(rig.path("moorline.db")).unwrap();
    let actions: Vec<String> = conn
        .prepare("SELECT action FROM audit_log WHERE actor_kind = 'operator' AND actor_name <> '' ORDER BY id")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(
        actions,
        [
            "user.create",
            "user.create",
            "workspace.create",
            "agent.rotate_token",
            "token.create",
            "token.revoke",
            "user.suspend",
            "user.activate",
            "workspace.remove",
            "user.remove"
        ]
    );
}

#[test]
fn external_auth_says_that_there_is_none() {
    let rig = Rig::with_people();
    assert_eq!(rig.run("external-auth list --json").json(), json!({"providers": [], "links": []}));
    assert!(rig.run("external-auth list").text().contains("No provider is configured."));
    assert!(rig.run("external-auth test gh").refused(1).contains("there is no external auth provider gh"));
}

#[test]
fn binds_agents_to_cloud_machines() {
    let rig = Rig::with_people();
    rig.run("workspace add dev --owner alice --aws-instance-id i-0123456789abcdef0").text();
    rig.run("workspace add fresh --owner alice").text();
    let shown = rig.run("workspace show alice/dev");
    assert!(shown.text().contains("aws:i-0123456789abcdef0"), "{}", shown.out);
    let bound = rig.run("workspace bind alice/fresh --aws-instance-id i-0123456789abcdef0");
    assert!(bound.text().contains("alice/dev.main is bound to it too"), "{}", bound.out);
    assert!(bound.text().contains("CODER_AGENT_AUTH=aws-instance-identity coder agent"), "{}", bound.out);
    let shown = rig.run("workspace show alice/dev");
    assert!(shown.text().contains("another was bound later"), "{}", shown.out);
    let unbound = rig.run("workspace unbind alice/fresh.main");
    assert!(unbound.text().contains("rotate-token alice/fresh.main"), "{}", unbound.out);
    for (arguments, code, hint) in [
        ("workspace bind alice/dev", 2, "required"),
        ("workspace bind alice/dev --aws-instance-id i-0123456789abcdef0 --azure-vm-id x", 2, "cannot be used with"),
        (
            "workspace bind alice/dev --azure-vm-id i-0123456789abcdef0",
            1,
            "--azure-vm-id: `i-0123456789abcdef0` is not",
        ),
        ("workspace bind alice/dev.gpu --google-instance-id 7", 1, "has no agent `gpu`"),
        ("workspace unbind alice/fresh", 1, "is not bound"),
        ("workspace add more --owner alice --google-instance-id seven", 1, "google_instance_id: `seven` is not"),
    ] {
        let said = rig.run(arguments);
        assert_eq!(said.code, code, "{arguments}: {}", said.err);
        assert!(said.err.contains(hint), "{arguments}: {}", said.err);
    }
}

#[test]
fn trusts_nothing_that_no_plugin_would_use() {
    let rig = Rig::with_people();
    // Plugins that were built beside the program would be in use.
    rig.write("moorline.toml", "plugin_dir = '/none'\n");
    rig.write("list.txt", "aws new MAMCAQE=\n");
    rig.write("none.txt", "hello\n");
    for (arguments, hint) in [
        ("trust import list.txt", "No identity provider of type aws is configured"),
        ("trust import none.txt", "ROLE NAME BASE64"),
        ("trust import missing.txt", "missing.txt: No such file"),
        ("trust remove aws/new", "no imported trust anchor"),
    ] {
        let said = rig.run(arguments);
        assert!(said.refused(1).contains(hint), "{arguments}: {}", said.err);
    }
    assert_eq!(rig.run("trust list --json").json(), json!({"anchors": [], "problems": []}));
    assert!(rig.run("trust check").text().starts_with("None of 0 trust anchors"));
}
