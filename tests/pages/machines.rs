//! Pages of workspaces and terminals.

use moorline::model::{AppId, Timestamp};
use moorline::store::{self, agents, apps, metadata};
use uuid::Uuid;

use super::{House, goes_to};

#[test]
fn opens_a_terminal_under_every_path_that_clients_write() {
    let mut house = House::signed_in();
    let agent =
        house.rig.app.store.read(|conn| agents::of_workspace(conn, house.workspace()).map_err(store::Error::from));
    let agent = agent.unwrap().remove(0).id.to_string();
    for (path, title) in [
        ("/@alice/dev/terminal", "dev"),
        ("/@alice/dev.main/terminal?command=top", "dev.main"),
        ("/%40ALICE/dev.MAIN/terminal", "dev.main"),
    ] {
        let got = house.get(path);
        let text = got.text();
        assert!(text.contains(&format!("data-agent=\"{agent}\"")), "{path}: {text}");
        assert!(text.contains(&format!("<title>{title}</title>")) && !text.contains("{{"), "{path}: {text}");
        let policy = got.header("Content-Security-Policy").unwrap().to_owned();
        assert!(!policy.contains("unsafe") && !policy.contains("http") && !policy.contains("data:"), "{policy}");
        let nonce = text.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap();
        assert!(nonce.len() == 24 && policy.ends_with(&format!("; style-src 'self' 'nonce-{nonce}'")), "{policy}");
        assert!(!house.get(path).text().contains(nonce), "a new one each time");
    }
    goes_to(&house.get("/alice/dev.main/terminal?container=a%26b"), "/@alice/dev.main/terminal?container=a%26b");
    for path in
        ["/api/v2/terminal", "/bin/x/terminal", "/static/x/terminal", "/a%20b/c/terminal", "/alice/a%2Fb/terminal"]
    {
        assert_eq!(house.get(path).status, 404, "{path}");
    }
}

#[test]
fn shows_what_the_agent_said_without_letting_it_speak() {
    let mut house = House::signed_in();
    let agent =
        house.rig.app.store.read(|conn| agents::of_workspace(conn, house.workspace()).map_err(store::Error::from));
    let agent = agent.unwrap().remove(0);
    let now = Timestamp::now();
    let app = |slug: &str, url: &str, command: &str, external: bool| apps::App {
        id: AppId(Uuid::new_v4()),
        slug: slug.into(),
        display_name: format!("<i>{slug}"),
        icon: String::new(),
        url: url.into(),
        command: command.into(),
        display_order: 0,
        display_group: String::new(),
        external,
        hidden: slug == "hidden",
        subdomain: false,
        sharing_level: "owner".into(),
        open_in: "slim-window".into(),
        healthcheck_url: String::new(),
        healthcheck_interval: 0,
        healthcheck_threshold: 0,
        health: apps::Health::Unhealthy,
        created_at: now,
    };
    let declared = [
        app("docs", "https://docs.example.test/?a&b", "", true),
        app("bad", "javascript:alert(1)", "", true),
        app("ide", "vscode://x?token=$SESSION_TOKEN", "", true),
        app("top", "", "top & <b>", false),
        app("web", "http://localhost:80", "", false),
        app("hidden", "https://hidden.example.test", "", true),
    ];
    let piece = |key: &str, value: &str, error: &str| metadata::Metadata {
        key: key.into(),
        display_order: 1,
        display_name: format!("<u>{key}"),
        script: String::new(),
        interval_seconds: 1,
        timeout_seconds: 1,
        value: value.into(),
        error: error.into(),
        collected_at: Some(now),
    };
    let pieces = [piece("a", "", "it broke <b>"), piece("b", "\u{1b}[31m<script>1", ""), piece("c", "one\ntwo", "")];
    let id = agent.id;
    house
        .rig
        .app
        .store
        .write(move |write| {
            declared.iter().try_for_each(|app| apps::insert(write, id, app))?;
            metadata::replace(write, id, &pieces)?;
            for piece in &pieces {
                metadata::set_value(write, id, &piece.key, &piece.value, &piece.error, now)?;
            }
            Ok::<_, store::Error>(())
        })
        .unwrap();
    for path in ["/", "/@alice/dev", "/@alice/dev?live"] {
        let text = house.get(path).text();
        assert!(text.contains("it broke &lt;b&gt;") && text.contains("&lt;script&gt;1"), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains("<u>") && !text.contains("<i>"), "{text}");
    }
    let text = house.get("/@alice/dev").text();
    assert!(text.contains("href=\"https://docs.example.test/?a&amp;b\" target=\"_blank\" rel=\"noopener noreferrer\""));
    assert!(text.contains("href=\"/@alice/dev.main/terminal?command=top%20%26%20%3Cb%3E\""), "{text}");
    assert!(
        text.contains("coder open app dev.main ide") && text.contains("coder port-forward dev.main --tcp 10080:80")
    );
    assert!(!text.contains("javascript:") && !text.contains("hidden.example.test") && text.contains("does not answer"));
}
