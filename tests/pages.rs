//! Pages for browsers, against a server in this process and without the edge.

mod account;
mod admin;
mod office;

use std::time::Duration;

use moorline::config::limits;
use moorline::model::{Timestamp, WorkspaceId};
use moorline::store::users::User;
use moorline::store::{self, keys, users, workspaces};

use crate::golden::rig::{Ask, Got, Rig};

mod assets;
mod machines;

const CSRF: &str = "c3NyZg==";

/// A server with alice, who has a workspace, and bob; and a browser that keeps cookies.
struct House {
    rig: Rig,
    alice: User,
    session: Option<String>,
}

impl House {
    fn new() -> House {
        let rig = Rig::start();
        let alice = rig.person("alice", false, None, None);
        let bob = rig.person("bob", false, None, Some("BobBobBobB-SecretSecretSecret0002"));
        let (dev, theirs) = ("c0000000-0000-4000-8000-000000000001", "c0000000-0000-4000-8000-000000000002");
        rig.workspace(&alice, "dev", 0xa000_0000_0000_4000_8000_0000_0000_0001, dev, Duration::from_secs(5));
        rig.workspace(&bob, "theirs", 0xa000_0000_0000_4000_8000_0000_0000_0002, theirs, Duration::from_secs(5));
        House { rig, alice, session: None }
    }

    /// Gives alice her password; to hash one takes long.
    fn with_password() -> House {
        let house = House::new();
        let mut alice = house.alice.clone();
        alice.password_hash = Some(moorline::domain::passwords::hash("correct horse battery").unwrap());
        house.rig.app.store.write(move |write| users::update(write, &alice).map_err(store::Error::from)).unwrap();
        house
    }

    fn signed_in() -> House {
        let mut house = House::new();
        let token = "BrowserBro-SecretSecretSecret0001";
        house.rig.key(&house.alice, token, "", Duration::from_secs(24 * 3_600));
        house.session = Some(token.into());
        house
    }

    /// Alice's.
    fn workspace(&self) -> WorkspaceId {
        let alice = self.alice.id;
        let found = self.rig.app.store.read(|conn| workspaces::by_name(conn, alice, "dev").map_err(store::Error::from));
        found.unwrap().unwrap().id
    }

    fn cookies(&self) -> String {
        let session = self.session.as_ref().map(|session| format!("; coder_session_token={session}"));
        format!("csrf_token={CSRF}{}", session.unwrap_or_default())
    }

    /// As a browser asks that navigates.
    fn get(&mut self, path: &str) -> Got {
        let ask = Ask::new("GET", path).header("Cookie", &self.cookies()).header("Accept", "text/html,*/*;q=0.8");
        self.take(&ask)
    }

    fn form(&self, path: &str, fields: &str) -> Ask {
        let mut ask = Ask::new("POST", path)
            .header("Cookie", &self.cookies())
            .header("Accept", "text/html")
            .header("Content-Type", "application/x-www-form-urlencoded");
        ask.body = fields.as_bytes().to_vec();
        ask
    }

    /// As a browser sends a form of one of our pages.
    fn post(&mut self, path: &str, fields: &str) -> Got {
        let fields = format!("{fields}&csrf={}", CSRF.replace('=', "%3D"));
        let ask = self.form(path, &fields);
        self.take(&ask.header("Origin", "http://moor.example.test").header("Sec-Fetch-Site", "same-origin"))
    }

    fn take(&mut self, ask: &Ask) -> Got {
        let got = self.rig.ask(ask);
        for (name, value) in &got.headers {
            if name == "Set-Cookie"
                && let Some(rest) = value.strip_prefix("coder_session_token=")
            {
                let token = rest.split(';').next().unwrap();
                self.session = (!token.is_empty()).then(|| token.to_owned());
            }
        }
        got
    }

    fn tokens(&self) -> usize {
        let id = self.alice.id;
        self.rig.app.store.read(|conn| keys::list(conn, Some(id)).map_err(store::Error::from)).unwrap().len()
    }
}

#[track_caller]
fn goes_to(got: &Got, path: &str) {
    assert_eq!((got.status, got.header("Location")), (303, Some(path)), "{}", got.text());
}

#[test]
fn signs_in_by_name_or_address_and_goes_back_where_it_came_from() {
    let mut house = House::with_password();
    for name in ["ALICE", "alice%40example.test"] {
        house.session = None;
        goes_to(&house.get("/cli-auth"), "/login?redirect=%2Fcli-auth");
        let form = house.get("/login?redirect=%2Fcli-auth");
        assert_eq!(form.status, 200);
        assert!(form.text().contains("name=\"redirect\" value=\"/cli-auth\""), "{}", form.text());
        let fields = format!("redirect=%2Fcli-auth&name={name}&password=correct+horse+battery");
        let got = house.post("/login", &fields);
        goes_to(&got, "/cli-auth");
        let cookie =
            got.headers.iter().find(|(name, value)| name == "Set-Cookie" && value.starts_with("coder_session"));
        let cookie = &cookie.unwrap().1;
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
        assert_eq!(house.get("/cli-auth").status, 200);
        goes_to(&house.get("/login?redirect=%2Fcli-auth"), "/cli-auth");
    }
}

#[test]
fn marks_cookies_as_secure_where_the_browser_speaks_tls() {
    let mut house = House::with_password();
    let form = house.form("/login", "name=alice&password=correct+horse+battery&csrf=c3NyZg%3D%3D");
    let got = house.rig.ask(&Ask { secure: true, ..form });
    let cookies: Vec<&str> =
        got.headers.iter().filter(|(name, _)| name == "Set-Cookie").map(|(_, value)| value.as_str()).collect();
    assert!(!cookies.is_empty() && cookies.iter().all(|cookie| cookie.ends_with("; Secure")), "{cookies:?}");
}

#[test]
fn says_in_one_sentence_why_nobody_was_signed_in() {
    let mut house = House::with_password();
    for (fields, status, hint) in [
        ("name=alice&password=wrong", 401, "password is wrong."),
        ("name=nobody&password=wrong", 401, "password is wrong."),
        ("name=&password=x", 400, "are needed."),
        ("name=alice", 400, "are needed."),
    ] {
        let got = house.post("/login", fields);
        assert_eq!(got.status, status, "{fields}");
        let text = got.text();
        assert!(text.contains("role=\"alert\"") && text.contains(hint), "{text}");
        assert!(house.session.is_none() && !text.contains("value=\"wrong\""));
    }
    let got = house.post("/login", "name=%22%3E%3Cscript%3E&password=wrong");
    assert!(got.text().contains("value=\"&quot;&gt;&lt;script&gt;\""), "{}", got.text());
}

#[test]
fn counts_sign_ins_of_pages_and_programs_together() {
    let mut house = House::new();
    for turn in 0..limits::SIGN_INS_PER_MINUTE {
        let ask = if turn % 2 == 0 { Ask::new("POST", "/api/v2/users/login") } else { house.form("/login", "") };
        house.rig.ask(&Ask { peer: Some("192.0.2.9".into()), ..ask });
    }
    let over = house.rig.ask(&Ask { peer: Some("192.0.2.9".into()), ..house.form("/login", "") });
    assert_eq!((over.status, over.header("Retry-After")), (429, Some("60")));
    assert!(over.text().contains("<h1>Too many requests</h1>"), "{}", over.text());
    let look = Ask::new("GET", "/login");
    assert_eq!(house.rig.ask(&Ask { peer: Some("192.0.2.9".into()), ..look }).status, 200);
}

#[test]
fn sends_nobody_to_another_server() {
    let mut house = House::with_password();
    for redirect in
        ["%2F%2Felse.example", "https%3A%2F%2Felse.example", "%2F%5Celse.example", "%2F%0d%0aX%3A+y", "", "x"]
    {
        let form = house.get(&format!("/login?redirect={redirect}"));
        assert!(form.text().contains("name=\"redirect\" value=\"/\""), "{redirect}");
    }
    let got = house.post("/login", "name=alice&password=correct+horse+battery&redirect=%2F%2Felse.example");
    goes_to(&got, "/");
    goes_to(&house.get("/login?redirect=%2F%2Felse.example"), "/");
}

#[test]
fn takes_no_form_of_another_page() {
    let mut house = House::signed_in();
    let before = house.tokens();
    let good = "csrf=c3NyZg%3D%3D";
    for path in ["/cli-auth", "/sessions", "/logout", "/login"] {
        let with = |fields: &str, name: &str, value: &str| house.form(path, fields).header(name, value);
        for ask in [
            with(good, "Origin", "https://else.example"),
            with(good, "Origin", "null"),
            with(good, "Sec-Fetch-Site", "cross-site"),
            with(good, "Sec-Fetch-Site", "same-site"),
            with("csrf=other", "Origin", "http://moor.example.test"),
            with("", "Origin", "http://moor.example.test"),
        ] {
            let got = house.rig.ask(&ask);
            assert_eq!(got.status, 403, "{path} {:?}: {}", ask.headers, got.text());
            assert_eq!(got.header("Content-Type"), Some("text/html; charset=utf-8"));
        }
        let mut json = house.form(path, good);
        json.headers.retain(|(name, _)| name != "Content-Type");
        assert_eq!(house.rig.ask(&json.header("Content-Type", "text/plain")).status, 400);
        let mut bare = house.form(path, "csrf=");
        bare.headers.retain(|(name, _)| name != "Cookie");
        assert_eq!(house.rig.ask(&bare).status, 403, "no cookie and no token are not the same token");
    }
    assert_eq!(house.tokens(), before);
}

#[test]
fn makes_a_token_when_the_button_is_pressed_and_shows_it_once() {
    let mut house = House::signed_in();
    let before = house.tokens();
    let page = house.get("/cli-auth");
    assert!(page.text().contains("action=\"/cli-auth\"") && page.text().contains(CSRF), "{}", page.text());
    assert_eq!(house.tokens(), before, "a link makes nothing");
    let got = house.post("/cli-auth", "");
    assert_eq!((got.status, got.header("Cache-Control")), (200, Some("no-store")));
    assert_eq!(house.tokens(), before + 1);
    let text = got.text();
    let token =
        text.split("aria-label=\"Token\"").nth(1).unwrap().split('>').nth(1).unwrap().split('<').next().unwrap();
    let me = house.rig.ask(&Ask::new("GET", "/api/v2/users/me").token(token));
    assert_eq!(me.json()["username"], "alice");
    let key = house.rig.ask(&Ask::new("GET", &format!("/api/v2/users/me/keys/{}", &token[..10])).token(token)).json();
    assert_eq!(key["lifetime_seconds"], limits::REST_TOKEN_LIFETIME.as_secs());
    assert!(!house.get("/sessions").text().contains(token));
}

#[test]
fn lists_sessions_and_revokes_each() {
    let mut house = House::signed_in();
    house.rig.key(&house.alice, "LaptopLapt-SecretSecretSecret0003", "laptop <b>", Duration::from_secs(3_600));
    house.rig.key(&house.alice, "ExpiredExp-SecretSecretSecret0004", "", Duration::from_secs(3_600));
    let past = Timestamp::now().minus(Duration::from_secs(1));
    let expire = move |write: &store::Write<'_>| keys::touch(write, "ExpiredExp", "", past, past);
    house.rig.app.store.write(move |write| expire(write).map_err(store::Error::from)).unwrap();
    let text = house.get("/sessions").text();
    assert!(
        text.contains("laptop &lt;b&gt;") && text.contains("This browser") && text.contains("<dt>Address</dt>"),
        "{text}"
    );
    assert!(!text.contains("BobBobBobB") && !text.contains("ExpiredExp"));
    for (id, left) in [("BobBobBobB", 3), ("nosuch", 3), ("LaptopLapt", 2), ("LaptopLapt", 2)] {
        goes_to(&house.post("/sessions", &format!("id={id}")), "/sessions");
        assert_eq!(house.tokens(), left, "{id}");
    }
    let own = house.session.clone().unwrap();
    goes_to(&house.post("/sessions", &format!("id={}", &own[..10])), "/sessions");
    assert!(house.session.is_none());
    house.session = Some(own);
    goes_to(&house.get("/sessions"), "/login?redirect=%2Fsessions");
    let bob = house.rig.ask(&Ask::new("GET", "/api/v2/users/me").token("BobBobBobB-SecretSecretSecret0002"));
    assert_eq!(bob.status, 200);
}

#[test]
fn signs_out_for_good() {
    let mut house = House::signed_in();
    let old = house.session.clone();
    goes_to(&house.post("/logout", ""), "/login");
    assert!(house.session.is_none());
    house.session = old;
    goes_to(&house.get("/"), "/login");
    goes_to(&house.post("/logout", ""), "/login");
}

#[test]
fn shows_ones_own_workspaces_and_what_to_type() {
    let mut house = House::signed_in();
    let text = house.get("/").text();
    assert!(text.contains("coder ssh dev<") && text.contains("has not connected yet"), "{text}");
    assert!(
        text.contains("coder login http://127.0.0.1:13000<")
            && text.contains("install.sh | sh")
            && !text.contains("theirs")
    );
    for path in ["/@alice/dev", "/%40ALICE/dev/", "/@me/dev"] {
        let page = house.get(path);
        assert!(page.status == 200 && page.text().contains("coder ssh dev.main<"), "{path}: {}", page.text());
    }
    for path in ["/@bob/theirs", "/@alice/nosuch", "/@nobody/dev", "/@bob/theirs/terminal", "/@alice/dev.no/terminal"] {
        assert_eq!(house.get(path).status, 404, "{path}");
    }
    goes_to(&house.get("/@alice/dev/settings"), "/@alice/dev");
    house.session = None;
    goes_to(&house.get("/@alice/dev"), "/login?redirect=%2F@alice%2Fdev");
    let terminal = "/@alice/dev/terminal?command=a b&reconnect=x".replace(' ', "%20");
    goes_to(&house.get(&terminal), "/login?redirect=%2F@alice%2Fdev%2Fterminal%3Fcommand%3Da%2520b%26reconnect%3Dx");
    goes_to(&house.get("/"), "/login");
}

#[test]
fn has_something_for_each_link_of_clients() {
    let mut house = House::signed_in();
    assert!(house.get("/templates").text().contains("moorline workspace add"));
    assert!(house.get("/templates/docker").text().contains("moorline workspace add"));
    goes_to(&house.get("/workspaces"), "/");
    goes_to(&house.get("/settings/tokens"), "/sessions");
    goes_to(&house.get("/login/device"), "/login?redirect=%2Fcli-auth");
    goes_to(&house.get("/login?redirect=%2Fcli-auth"), "/cli-auth");
}

#[test]
fn has_no_page_for_paths_that_it_does_not_know() {
    let mut house = House::signed_in();
    for path in [
        "/nosuch",
        "/index.html",
        "/alice/dev",
        "/@alice",
        "/login/nosuch",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/api/nosuch",
        "/api/v2/terminal",
        "/bin/x/terminal",
        "/bin/nosuch",
        "/bin/a/b",
    ] {
        let got = house.get(path);
        assert_eq!(got.status, 404, "{path}");
        let plain = house.rig.ask(&Ask::new("GET", path));
        assert_eq!(plain.status, 404, "{path}");
        assert_ne!(plain.header("Content-Type"), Some("text/html; charset=utf-8"), "{path}");
        assert!(plain.header("X-Coder-Build-Version").is_some());
    }
    assert!(house.get("/nosuch").text().contains("There is no such page on this server."));
    assert_eq!(house.get("/api/v2/nosuch").header("Content-Type"), Some("application/json; charset=utf-8"));
}

#[test]
fn pages_may_do_nothing_but_show_themselves() {
    let mut house = House::signed_in();
    let pages = ["/", "/sessions", "/cli-auth", "/templates", "/@alice/dev", "/@alice/dev?live", "/bin/", "/nosuch"]
        .map(|path| house.get(path));
    let made = house.post("/cli-auth", "");
    house.session = None;
    let form = house.get("/login");
    for got in pages.iter().chain([&made, &form]) {
        let policy = got.header("Content-Security-Policy").unwrap();
        for part in ["default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        assert_eq!(got.header("Referrer-Policy"), Some("same-origin"));
        assert_eq!(got.header("X-Frame-Options"), Some("DENY"));
        assert_eq!(got.header("Cache-Control"), Some("no-store"));
        let text = got.text();
        assert!(!text.contains("{{") && !text.contains("style=\"") && !text.contains("<style"), "{text}");
        assert_eq!(text.contains("<script"), policy.contains("script-src 'self'"), "{policy}");
        for loaded in ["src=\"", "<link rel=\"stylesheet\" href=\"", "<link rel=\"icon\" href=\""] {
            for (at, _) in text.match_indices(loaded) {
                assert!(text[at + loaded.len()..].starts_with("/static/"), "nothing from elsewhere: {text}");
            }
        }
        assert!(text.contains("<html lang=\"en\">") && text.contains("<main ") && text.matches("<h1>").count() == 1);
    }
}

#[test]
fn gives_a_new_browser_a_cookie_that_fits_its_form() {
    let mut house = House::new();
    let got = house.rig.ask(&Ask::new("GET", "/login"));
    let cookie = got.header("Set-Cookie").unwrap().strip_prefix("csrf_token=").unwrap();
    let cookie = cookie.split(';').next().unwrap();
    assert!(cookie.len() == 44 && got.text().contains(&format!("name=\"csrf\" value=\"{cookie}\"")), "{}", got.text());
}
