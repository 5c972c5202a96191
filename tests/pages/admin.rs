//! The administration.

use std::time::Duration;

use moorline::model::Timestamp;
use moorline::store;
use moorline::store::agents::Agent;
use moorline::store::users::Status;
use moorline::store::{anchors, clones, egress};

use super::office::{Office, secret, wrong};
use crate::golden::rig::{Ask, PROGRAM};
use crate::harness::plugins;

const PAGES: [&str; 13] = [
    "/admin",
    "/admin/anchors",
    "/admin/audit",
    "/admin/health",
    "/admin/plugins",
    "/admin/users",
    "/admin/users/new",
    "/admin/users/alice",
    "/admin/users/alice/remove",
    "/admin/workspaces",
    "/admin/workspaces/new",
    "/admin/workspaces/alice/dev",
    "/admin/workspaces/alice/dev/rotate",
];
const FORMS: [&str; 4] =
    ["/admin/users/new", "/admin/users/root", "/admin/workspaces/new", "/admin/workspaces/alice/dev"];

#[test]
fn is_for_administrators_only() {
    let mut office = Office::new();
    for path in PAGES.iter().skip(1) {
        let got = office.get(path);
        assert_eq!(got.status, 200, "{path}: {}", got.text());
        let text = got.text();
        assert!(
            text.matches("<h1").count() == 1 && !text.contains("{{") && !text.contains("style=\""),
            "{path}: {text}"
        );
        assert!(text.contains("aria-label=\"Administration\""), "{path}");
        assert_eq!(got.header("Cache-Control"), Some("no-store"));
    }
    assert_eq!(office.get("/admin").header("Location"), Some("/admin/workspaces"));
    office.be_alice();
    for path in PAGES {
        let got = office.get(path);
        assert_eq!(got.status, 403, "{path}");
        assert!(got.text().contains("Only administrators may see and change this."), "{path}");
    }
    for path in FORMS {
        let fields = "action=make-admin&name=x&email=x%40x&owner=alice&agent=main&os=linux&arch=amd64&confirm=dev";
        assert_eq!(office.post(path, fields).status, 403, "{path}");
    }
    assert!(!office.get("/").text().contains("href=\"/admin\""));
    office.be_nobody();
    for path in PAGES {
        let to = format!("/login?redirect={}", path.replace('/', "%2F"));
        assert_eq!(office.get(path).header("Location"), Some(to.as_str()));
    }
    for path in FORMS {
        assert_eq!(office.post(path, "action=remove&confirm=dev").status, 303, "{path}");
    }
    assert!(office.person("x").is_none() && !office.person("alice").unwrap().is_admin);
}

#[test]
fn takes_no_form_of_another_page() {
    let mut office = Office::new();
    let before = office.audit(100).len();
    let fields = "csrf=other&action=remove&confirm=alice&name=x&email=x%40x&owner=alice&agent=main&os=linux&arch=amd64";
    for path in FORMS.iter().chain(&["/admin/users/alice"]) {
        assert_eq!(office.send(path, fields).status, 403, "{path}");
    }
    assert_eq!(office.audit(100).len(), before);
}

#[test]
fn adds_people_and_shows_a_made_password_once() {
    let mut office = Office::new();
    let got =
        office.post("/admin/users/new", "name=carol&email=carol%40example.test&full_name=Carol+%3CC%3E&password=");
    assert_eq!((got.status, got.header("Cache-Control")), (200, Some("no-store")), "{}", got.text());
    let password = secret(&got.text(), "Password");
    assert_eq!(password.len(), 20);
    office.noted("user.create", "carol");
    let carol = office.person("carol").unwrap();
    assert!(!carol.is_admin && carol.full_name == "Carol <C>");
    let body = serde_json::json!({"email": "carol@example.test", "password": password});
    assert_eq!(office.rig.ask(&Ask::new("POST", "/api/v2/users/login").json(&body)).status, 201);
    let said = office.done(
        "/admin/users/new",
        "name=dave&email=dave%40example.test&admin=yes&password=a+good+long+one",
        "/admin/users",
    );
    assert_eq!(said, "dave was added.");
    assert!(office.person("dave").unwrap().is_admin);
    let list = office.get("/admin/users?q=example").text();
    assert!(list.contains("href=\"/admin/users/carol\"") && list.contains("Carol &lt;C&gt;"), "{list}");
    assert!(list.contains("<caption>Users</caption>") && list.contains("scope=\"col\">Role</th>"));
    let some = office.get("/admin/users?q=dave").text();
    assert!(some.contains("/admin/users/dave") && !some.contains("/admin/users/carol"));
    assert!(office.get("/admin/users?q=nosuchperson").text().contains("nobody of that kind"));
    assert_eq!(office.get("/admin/users?q=colour%3Ared").status, 400);
}

#[test]
fn keeps_what_was_typed_for_a_person_who_cannot_be_added() {
    let mut office = Office::new();
    let path = "/admin/users/new";
    let got = office.post(path, "name=a--b&email=%22%3E%3Cscript%3E&full_name=Zo%C3%AB&admin=yes&password=topsecret");
    assert_eq!(got.status, 400);
    let text = got.text();
    assert!(wrong(&text, "name").contains("single hyphens") && wrong(&text, "email").contains("not an e-mail address"));
    assert!(
        text.contains("value=\"a--b\"")
            && text.contains("value=\"&quot;&gt;&lt;script&gt;\"")
            && text.contains("value=\"Zoë\"")
    );
    assert!(text.contains("value=\"yes\" checked") && !text.contains("topsecret"), "{text}");
    let short = office.post(path, "name=x&email=x%40example.test&password=short");
    assert_eq!((short.status, wrong(&short.text(), "password").as_str()), (400, "Must have at least 8 characters."));
    let twice = office.post(path, "name=alice&email=other%40example.test");
    assert!(twice.status == 409 && twice.text().contains("There is a user `alice` already."), "{}", twice.text());
    assert!(office.person("x").is_none());
}

#[test]
fn does_to_people_what_was_asked_and_confirmed() {
    let mut office = Office::new();
    let page = "/admin/users/alice";
    let deeds = office.get(page).text();
    for deed in ["suspend", "make-admin", "password", "remove"] {
        assert!(deeds.contains(&format!("href=\"{page}/{deed}\"")), "{deed}: {deeds}");
        let question = office.get(&format!("{page}/{deed}")).text();
        let mark = format!("name=\"action\" value=\"{deed}\"");
        assert!(question.contains(&mark) && question.contains("class=\"danger\"") && question.contains("Cancel"));
    }
    assert!(!deeds.contains("/activate\"") && !deeds.contains("/make-member\""));
    assert_eq!(office.person("alice").unwrap().updated_at, office.alice.updated_at, "links change nothing");

    assert_eq!(office.done(page, "action=suspend", page), "alice is suspended.");
    assert_eq!(office.person("alice").unwrap().status, Status::Suspended);
    office.noted("user.suspend", "alice");
    assert!(office.get(page).text().contains("state bad\">suspended"));
    assert_eq!(office.done(page, "action=activate", page), "alice may sign in again.");
    office.noted("user.activate", "alice");
    assert_eq!(office.done(page, "action=make-admin", page), "alice is an administrator.");
    assert!(office.person("alice").unwrap().is_admin);
    assert_eq!(office.done(page, "action=make-member", page), "alice is a member.");
    office.noted("user.update", "alice");

    let said = office.done(page, "action=password&password=a+better+secret", page);
    assert_eq!(said, "alice has a new password. Sessions and tokens revoked: 1.");
    office.noted("user.password", "alice");
    let made = office.post(page, "action=password&password=");
    assert_eq!((made.status, secret(&made.text(), "Password").len()), (200, 20));
    let short = office.post(page, "action=password&password=short");
    assert_eq!(short.status, 400);
    assert!(!wrong(&short.text(), "password").is_empty());
    for (path, deed) in [(page, "nosuch"), ("/admin/users/nosuch", "suspend")] {
        assert_eq!(office.post(path, &format!("action={deed}")).status, 404);
    }
}

#[test]
fn removes_people_whose_name_was_typed() {
    let mut office = Office::new();
    let page = "/admin/users/alice";
    let question = office.get("/admin/users/alice/remove").text();
    assert!(question.contains("type the name: alice") && question.contains("Remove their workspaces, too"));
    let unsure = office.post(page, "action=remove&confirm=alic&with_workspaces=yes");
    assert_eq!((unsure.status, wrong(&unsure.text(), "confirm").as_str()), (400, "Type the name to confirm."));
    assert!(unsure.text().contains("value=\"alic\"") && unsure.text().contains("value=\"yes\" checked"));
    let owner = office.post(page, "action=remove&confirm=alice");
    assert!(owner.status == 409 && owner.text().contains("owns alice/dev and was not removed"), "{}", owner.text());
    let said = office.done(page, "action=remove&confirm=ALICE&with_workspaces=yes", "/admin/users");
    assert_eq!(said, "alice was removed, with alice/dev.");
    assert!(office.person("alice").is_none());
    office.noted("user.remove", "alice");
    assert_eq!(office.get(page).status, 404);
}

#[test]
fn lets_nobody_lock_themselves_out() {
    let mut office = Office::new();
    let page = "/admin/users/root";
    let deeds = office.get(page).text();
    assert!(!deeds.contains("/suspend\"") && !deeds.contains("/remove\"") && deeds.contains("This is you"));
    for (fields, status) in [
        ("action=suspend", 400),
        ("action=make-member", 400),
        ("action=remove&confirm=root", 403),
        ("action=password&password=a+better+secret", 400),
    ] {
        let got = office.post(page, fields);
        assert_eq!(got.status, status, "{fields}: {}", got.text());
    }
    let root = office.person("root").unwrap();
    assert!(root.is_admin && root.status == Status::Active && root.password_hash.is_none());
}

fn agent_of(office: &Office, name: &str) -> Agent {
    let owner = office.alice.id;
    let read = |conn: &rusqlite::Connection| -> Result<_, store::Error> {
        let workspace = store::workspaces::by_name(conn, owner, name)?.expect("the workspace");
        Ok(store::agents::of_workspace(conn, workspace.id)?.remove(0))
    };
    office.rig.app.store.read(read).unwrap()
}

/// The token in a line of which it is a part.
fn token_of(line: &str) -> String {
    line.split("CODER_AGENT_TOKEN=").nth(1).unwrap().chars().take(36).collect()
}

fn is_taken(office: &mut Office, token: &str) -> bool {
    office.rig.ask(&Ask::new("GET", "/api/v2/workspaceagents/me/gitsshkey").token(token)).status == 200
}

#[test]
fn adds_a_workspace_and_shows_its_line_once() {
    let mut office = Office::new();
    let form = office.get("/admin/workspaces/new").text();
    assert!(form.contains("<option value=\"alice\">") && form.contains("<option value=\"root\" selected>"), "{form}");
    let fields = "owner=alice&name=gpu&agent=box&os=linux&arch=arm64&directory=%2Fsrv&cloud=&instance=";
    let got = office.post("/admin/workspaces/new", fields);
    assert_eq!((got.status, got.header("Cache-Control")), (200, Some("no-store")), "{}", got.text());
    office.noted("workspace.create", "alice/gpu");
    let line = secret(&got.text(), "Line for agent box");
    let script = office.rig.ask(&Ask::new("GET", "/enrol.sh"));
    let pin = moorline::model::hex(&moorline::domain::tokens::hash(&script.body));
    assert!(line.contains("http://127.0.0.1:13000/enrol.sh") && line.contains(&pin), "{line}");
    assert!(is_taken(&mut office, &token_of(&line)));
    let agent = agent_of(&office, "gpu");
    assert_eq!((agent.name.as_str(), agent.architecture.as_str(), agent.directory.as_str()), ("box", "arm64", "/srv"));
    for path in ["/admin/workspaces", "/admin/workspaces/alice/gpu"] {
        let page = office.get(path).text();
        assert!(page.contains("has not connected yet") && !page.contains(&token_of(&line)), "{page}");
    }
    assert!(!PROGRAM.is_empty());

    let fields = "owner=alice&name=vm&agent=main&os=windows&arch=amd64&cloud=aws&instance=i-0123456789abcdef0";
    let text = office.post("/admin/workspaces/new", fields).text();
    assert!(secret(&text, "Line for agent main").contains("enrol.ps1"), "{text}");
    assert!(secret(&text, "Line without token").contains("CODER_AGENT_AUTH=aws-instance-identity"));
    assert_eq!(agent_of(&office, "vm").instance_id, "i-0123456789abcdef0");
    assert!(office.get("/admin/workspaces?q=vm").text().contains("aws:i-0123456789abcdef0"));
    assert!(!office.get("/admin/workspaces?q=vm").text().contains("alice/gpu"));
}

#[test]
fn keeps_what_was_typed_for_a_workspace_that_cannot_be_added() {
    let mut office = Office::new();
    let usual = "owner=alice&agent=main&os=linux&arch=amd64&directory=%2Fx";
    for (fields, status, field) in [
        ("name=a--b", 400, "name"),
        ("name=", 400, "name"),
        ("name=ok&cloud=aws&instance=", 400, "instance"),
        ("name=ok&cloud=aws&instance=123", 400, "instance"),
        ("name=ok&cloud=&instance=123", 400, "cloud"),
    ] {
        let got = office.post("/admin/workspaces/new", &format!("{usual}&{fields}"));
        assert_eq!(got.status, status, "{fields}: {}", got.text());
        assert!(!wrong(&got.text(), field).is_empty());
        assert!(got.text().contains("value=\"/x\"") && got.text().contains("<option value=\"alice\" selected>"));
    }
    let got = office.post("/admin/workspaces/new", "owner=alice&name=ok&agent=a.b&os=plan9&arch=amd64");
    assert!(got.status == 400 && !wrong(&got.text(), "agent").is_empty() && !wrong(&got.text(), "os").is_empty());
    for (fields, status) in [("name=dev&owner=alice", 409), ("name=ok&owner=nosuch", 404)] {
        let got = office.post("/admin/workspaces/new", &format!("{fields}&agent=main&os=linux&arch=amd64"));
        assert!(got.status == status && got.text().contains("role=\"alert\""), "{}", got.text());
    }
    let all = office.get("/admin/workspaces").text();
    assert_eq!(all.matches("href=\"/admin/workspaces/alice/").count(), 1, "{all}");
}

#[test]
fn rotates_tokens_and_removes_workspaces() {
    let mut office = Office::new();
    let page = "/admin/workspaces/alice/dev";
    let old = "c0000000-0000-4000-8000-000000000001";
    assert!(is_taken(&mut office, old));
    let agent = agent_of(&office, "dev");
    let twins =
        clones::Sighting { first_ip: "192.0.2.1".into(), second_ip: "192.0.2.2".into(), seen_at: Timestamp::now() };
    let put = move |write: &store::Write<'_>| clones::put(write, agent.id, &twins).map_err(store::Error::from);
    office.rig.app.store.write(put).unwrap();
    assert!(office.get("/admin/workspaces").text().contains("two machines seem to be this agent"));
    assert!(office.get(page).text().contains("at 192.0.2.1 and 192.0.2.2"));

    let question = office.get("/admin/workspaces/alice/dev/rotate").text();
    assert!(question.contains("<option value=\"main\">main</option>") && question.contains("All of them"));
    assert!(is_taken(&mut office, old), "a link rotates nothing");
    let got = office.post(page, "action=rotate&agent=");
    assert_eq!(got.status, 200, "{}", got.text());
    office.noted("agent.rotate_token", "alice/dev.main");
    let new = token_of(&secret(&got.text(), "Line for agent main"));
    assert!(is_taken(&mut office, &new) && !is_taken(&mut office, old));
    assert!(!office.get(page).text().contains("192.0.2.1"));
    let other = office.post(page, "action=rotate&agent=nosuch");
    assert!(other.status == 404 && other.text().contains("has no agent `nosuch`"), "{}", other.text());

    let unsure = office.post(page, "action=remove&confirm=other");
    assert_eq!((unsure.status, wrong(&unsure.text(), "confirm").as_str()), (400, "Type the name to confirm."));
    assert!(is_taken(&mut office, &new));
    let said = office.done(page, "action=remove&confirm=dev", "/admin/workspaces");
    assert_eq!(said, "alice/dev was removed; its agents are refused.");
    office.noted("workspace.remove", "alice/dev");
    assert!(!is_taken(&mut office, &new));
    for path in [page, "/admin/workspaces/nobody/dev", "/admin/workspaces/alice/dev/remove"] {
        assert_eq!(office.get(path).status, 404, "{path}");
    }
    assert_eq!(office.post(page, "action=remove&confirm=dev").status, 404);
}

#[test]
fn shows_plugins_what_left_the_server_and_what_is_trusted() {
    let pinned = std::sync::Arc::new(moorline::config::providers::ProviderConfig {
        id: "pinned".into(),
        sha256: Some("0".repeat(64)),
        ..plugins::identity("google", serde_json::json!({"offline": true})).as_ref().clone()
    });
    let providers = vec![plugins::identity("aws", serde_json::Value::Null), pinned];
    let mut office = Office::with(&[], providers);
    let text = office.get("/admin/plugins").text();
    assert!(text.contains("not needed yet") && text.contains(">pinned</span>") && text.contains(">not pinned</span>"));
    assert!(text.contains("Nothing has left the server"), "{text}");
    let row = egress::Begun {
        at: Timestamp::now(),
        provider: "aws".into(),
        method: "GET".into(),
        host: "certs.example.test".into(),
        port: 443,
        path: "/<list>".into(),
    };
    let sent = move |write: &store::Write<'_>| -> Result<(), store::Error> {
        let id = egress::begin(write, &row)?;
        let took = Duration::from_millis(12);
        egress::end(
            write,
            &egress::Ended { id, status: Some(503), fault: String::new(), sent: 5, received: 2_048, took },
        )?;
        egress::begin(write, &egress::Begun { path: "/waits".into(), ..row })?;
        let end = Timestamp::now().plus(Duration::from_secs(86_400));
        let anchor = anchors::Anchor {
            name: "google/old".into(),
            role: "google-jwks".into(),
            data: "{}".into(),
            not_after: Some(end),
            imported_at: end,
        };
        Ok(anchors::put(write, &anchor)?)
    };
    office.rig.app.store.write(sent).unwrap();

    let anchors = office.get("/admin/anchors").text();
    assert!(anchors.contains("google/old") && anchors.contains(">imported<"), "{anchors}");
    assert!(anchors.contains(">shipped<"), "the plugin was asked: {anchors}");
    assert!(anchors.contains("Provider pinned cannot show what it brings"), "{anchors}");
    let text = office.get("/admin/plugins").text();
    assert!(text.contains("state good\">running") && text.contains("state bad\">down"), "{text}");
    for part in [
        "certs.example.test:443",
        "/&lt;list&gt;",
        "state bad\">503",
        "5 B sent, 2.0 KiB received",
        ">12 ms<",
        "none yet",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let health = office.get("/admin/health").text();
    assert!(health.contains("works, with warnings") && health.contains("Plugin pinned is down"), "{health}");
    assert!(health.contains("Trust anchor google/old ends in"), "{health}");
}

#[test]
fn says_how_the_server_is() {
    let mut office = Office::new();
    let text = office.get("/admin/health").text();
    assert!(!text.contains("Look at this") || text.contains("MiB left") || text.contains("is slow"), "{text}");
    for part in ["<dt>Version</dt><dd>v2.24.0", "<dt>Last check</dt><dd>20", "<dt>Agents connected</dt><dd>0</dd>"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let size = office.rig.app.store.size().file;
    assert!(size > 0 && text.contains(&format!("<dt>Size</dt><dd>{}", size / 1024 / 10)) || text.contains("KiB"));
    let api =
        office.rig.ask(&Ask::new("GET", "/api/v2/debug/health").token("RootRootRo-SecretSecretSecret0001")).json();
    assert_eq!((&api["healthy"], &api["database"]["threshold_ms"]), (&true.into(), &15.into()));
}

#[test]
fn shows_the_audit_log_by_person_and_action() {
    let mut office = Office::new();
    office.post("/admin/users/alice", "action=suspend");
    office.post("/admin/users/alice", "action=activate");
    office.be_alice();
    office.post("/settings/ssh-keys", "");
    office.post("/login", "name=%3Cb%3E&password=wrong");
    office.cookies.insert("coder_session_token".into(), "RootRootRo-SecretSecretSecret0001".into());
    let all = office.get("/admin/audit").text();
    for part in [
        "<code>user.suspend</code>",
        "<code>user.gitsshkey</code>",
        "&lt;b&gt;",
        "not signed in",
        "refused",
        "1 to 4 of 4",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    let rows = |page: &str| page.matches("scope=\"row\">").count();
    let some = office.get("/admin/audit?person=ROOT&action=").text();
    assert!(rows(&some) == 2 && some.contains("value=\"ROOT\""), "{some}");
    let one = office.get("/admin/audit?person=root&action=user.suspend").text();
    assert!(rows(&one) == 1 && one.contains("<option value=\"user.suspend\" selected>"), "{one}");
    assert!(office.get("/admin/audit?person=nobody").text().contains("Nothing of that kind was done."));

    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 150)
        INSERT INTO audit_log (at, actor_kind, actor_name, action, result) SELECT 1, 'operator', 'o p', 'x', 'ok' FROM n";
    office.rig.app.store.write(move |write| Ok::<_, store::Error>(write.execute(fill, [])?)).unwrap();
    let first = office.get("/admin/audit?person=o+p").text();
    assert!(rows(&first) == 100 && first.contains("1 to 100 of 150") && !first.contains(">Newer<"));
    let next = "/admin/audit?person=o%20p&amp;action=&amp;page=2";
    assert!(first.contains(&format!("href=\"{next}\">Older")), "{first}");
    let second = office.get(&next.replace("&amp;", "&")).text();
    assert!(rows(&second) == 50 && second.contains("101 to 150 of 150") && second.contains("page=1\">Newer"));
    assert!(!second.contains(">Older<"));
    for page in ["0", "x", "99999999999999999999"] {
        assert_eq!(office.get(&format!("/admin/audit?page={page}")).status, 200, "{page}");
    }
}
