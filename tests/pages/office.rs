//! A server with an administrator, people and workspaces, and a browser with all of its cookies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use moorline::config::providers::ProviderConfig;
use moorline::store;
use moorline::store::audit::{self, Filter};
use moorline::store::users::User;

use crate::golden::rig::{Ask, Got, Rig};

const ROOT: &str = "RootRootRo-SecretSecretSecret0001";
const ALICE: &str = "AliceAlice-SecretSecretSecret0002";
const CSRF: &str = "c3NyZg==";

pub(super) struct Office {
    pub(super) rig: Rig,
    pub(super) root: User,
    pub(super) alice: User,
    pub(super) cookies: BTreeMap<String, String>,
}

impl Office {
    /// With the administrator signed in.
    pub(super) fn new() -> Office {
        Office::with(&[], Vec::new())
    }

    pub(super) fn with(changed: &[(&'static str, &str)], providers: Vec<Arc<ProviderConfig>>) -> Office {
        let rig = Rig::with_providers(changed, providers);
        let root = rig.person("root", true, None, Some(ROOT));
        let alice = rig.person("alice", false, None, Some(ALICE));
        let token = "c0000000-0000-4000-8000-000000000001";
        rig.workspace(&alice, "dev", 0xa000_0000_0000_4000_8000_0000_0000_0001, token, Duration::from_secs(5));
        let mut office = Office { rig, root, alice, cookies: BTreeMap::new() };
        office.cookies.insert("csrf_token".into(), CSRF.into());
        office.be(ROOT);
        office
    }

    /// Signs somebody in.
    fn be(&mut self, token: &str) {
        self.cookies.insert("coder_session_token".into(), token.into());
    }

    pub(super) fn be_alice(&mut self) {
        self.be(ALICE);
    }

    pub(super) fn be_nobody(&mut self) {
        self.cookies.remove("coder_session_token");
    }

    fn ask(&mut self, ask: Ask) -> Got {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let ask = ask.header("Cookie", &cookies.join("; ")).header("Accept", "text/html,*/*;q=0.8");
        let got = self.rig.ask(&ask);
        for (_, value) in got.headers.iter().filter(|(name, _)| name == "Set-Cookie") {
            let (pair, attributes) = value.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if value.is_empty() || attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        got
    }

    pub(super) fn get(&mut self, path: &str) -> Got {
        self.ask(Ask::new("GET", path))
    }

    /// A form as one of our pages sends it.
    pub(super) fn post(&mut self, path: &str, fields: &str) -> Got {
        self.send(path, &format!("{fields}&csrf={}", CSRF.replace('=', "%3D")))
    }

    /// A form with just these fields.
    pub(super) fn send(&mut self, path: &str, fields: &str) -> Got {
        let mut ask = Ask::new("POST", path)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("Origin", "http://moor.example.test")
            .header("Sec-Fetch-Site", "same-origin");
        ask.body = fields.as_bytes().to_vec();
        self.ask(ask)
    }

    /// Sends a form, follows to where it leads, and gives what is said there. It is said once.
    #[track_caller]
    pub(super) fn done(&mut self, path: &str, fields: &str, leads_to: &str) -> String {
        let got = self.post(path, fields);
        assert_eq!((got.status, got.header("Location")), (303, Some(leads_to)), "{}", got.text());
        let page = self.get(leads_to);
        assert_eq!(page.status, 200, "{}", page.text());
        let said = said(&page.text()).unwrap_or_else(|| panic!("nothing is said: {}", page.text()));
        assert_eq!(super::office::said(&self.get(leads_to).text()), None, "it is said again");
        said
    }

    /// The newest rows of the audit log: who, what, on what.
    pub(super) fn audit(&self, count: usize) -> Vec<(String, String, String, String)> {
        let read =
            |conn: &rusqlite::Connection| audit::list(conn, &Filter::default(), count, 0).map_err(store::Error::from);
        let (rows, _) = self.rig.app.store.read(read).unwrap();
        rows.into_iter().map(|row| (row.actor_name, row.action, row.target, row.ip)).collect()
    }

    /// Whether the newest row of the audit log is this one, by the administrator.
    #[track_caller]
    pub(super) fn noted(&self, action: &str, target: &str) {
        let newest = self.audit(1).remove(0);
        assert_eq!(newest, ("root".into(), action.into(), target.into(), "127.0.0.1".into()));
    }

    pub(super) fn person(&self, name: &str) -> Option<User> {
        let read = |conn: &rusqlite::Connection| store::users::by_username(conn, name).map_err(store::Error::from);
        self.rig.app.store.read(read).unwrap()
    }
}

/// What a page says because of what was done before.
pub(super) fn said(page: &str) -> Option<String> {
    let (_, rest) = page.split_once("<p class=\"said\" role=\"status\" tabindex=\"-1\" autofocus>")?;
    Some(rest.split("</p>").next()?.to_owned())
}

/// The value of an attribute after some text.
pub(super) fn secret(page: &str, label: &str) -> String {
    let (_, rest) = page.split_once(&format!("aria-label=\"{label}\"")).unwrap_or_else(|| panic!("{page}"));
    let rest = rest.split_once('>').unwrap().1;
    rest.split_once('<').unwrap().0.replace("&quot;", "\"").replace("&amp;", "&").replace("&#39;", "'")
}

/// What is said of a field.
#[track_caller]
pub(super) fn wrong(page: &str, field: &str) -> String {
    let mark = format!("id=\"{field}-wrong\">");
    let (_, rest) = page.split_once(&mark).unwrap_or_else(|| panic!("nothing is wrong with {field}: {page}"));
    assert!(page.contains("aria-invalid=\"true\"") && page.contains(&format!("{field}-wrong\"")), "{page}");
    rest.split_once('<').unwrap().0.to_owned()
}
