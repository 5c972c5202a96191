//! An OAuth2 provider of the type `github` that does what it is told, however bad.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use moorline::config::providers::ProviderConfig;
use moorline_plugin::schema::Kind;
use serde_json::{Value, json};

/// An answer that comes instead of the usual one.
#[derive(Clone, Debug)]
pub struct Says {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// After so long.
    pub delay: Duration,
}

impl Says {
    pub fn status(status: u16) -> Says {
        Says { status, headers: Vec::new(), body: String::new(), delay: Duration::ZERO }
    }

    pub fn json(status: u16, body: &Value) -> Says {
        Says { body: body.to_string(), ..Says::status(status) }
    }

    pub fn header(mut self, name: &str, value: &str) -> Says {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn after(mut self, delay: Duration) -> Says {
        self.delay = delay;
        self
    }
}

/// What it knows and was asked.
#[derive(Default)]
pub struct Known {
    /// The one code that it takes, with the PKCE verifier it expects.
    pub code: Option<String>,
    /// The one refresh token that it takes.
    pub refresh_token: String,
    /// The access tokens that it takes; empty: all.
    pub good: Vec<String>,
    /// What it says next to token requests; then the usual.
    pub tokens: VecDeque<Says>,
    /// What it says next to validations; then the usual.
    pub validations: VecDeque<Says>,
    /// The device flow: how often it still says that nobody has entered the code.
    pub pending: u32,
    /// How long a refresh takes.
    pub delay: Duration,
    /// Bodies of token requests.
    pub token_requests: Vec<String>,
    /// Bearer tokens of validations.
    pub validated: Vec<String>,
    /// Bodies of revocations.
    pub revoked: Vec<String>,
    /// Tokens that it has made.
    pub made: u32,
}

/// It, running.
pub struct Fake {
    pub url: String,
    known: Arc<Mutex<Known>>,
    server: Arc<tiny_http::Server>,
    threads: Vec<JoinHandle<()>>,
}

impl Fake {
    pub fn start() -> Fake {
        let server = Arc::new(tiny_http::Server::http("127.0.0.1:0").unwrap());
        let url = format!("http://{}", server.server_addr().to_ip().unwrap());
        let known = Arc::<Mutex<Known>>::default();
        let threads = (0..8).map(|_| {
            let (server, known) = (Arc::clone(&server), Arc::clone(&known));
            std::thread::spawn(move || {
                while let Ok(request) = server.recv() {
                    answer(request, &known);
                }
            })
        });
        let threads = threads.collect();
        Fake { url, known, server, threads }
    }

    pub fn know(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// A provider of this id with its settings, some of them changed.
    pub fn provider(&self, id: &str, changed: &Value) -> Arc<ProviderConfig> {
        let mut settings = json!({
            "client_id": "client-id", "client_secret": "Cl1entS3cret",
            "token_url": format!("{}/login/oauth/access_token", self.url),
            "validate_url": format!("{}/user", self.url),
            "device_code_url": format!("{}/login/device/code", self.url),
            "app_installations_url": format!("{}/user/installations", self.url),
            "revoke_url": format!("{}/revoke", self.url),
        });
        for (key, value) in changed.as_object().unwrap() {
            settings[key] = value.clone();
        }
        Arc::new(ProviderConfig {
            id: id.into(),
            kind: Kind::ExternalAuth,
            kind_word: "github".into(),
            library: library(),
            sha256: None,
            settings,
            egress: Vec::new(),
            ca: None,
            proxy: Some(String::new()),
        })
    }
}

fn library() -> PathBuf {
    super::plugins::library("moorline-oauth")
}

impl Drop for Fake {
    fn drop(&mut self) {
        for _ in &self.threads {
            self.server.unblock();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn answer(mut request: tiny_http::Request, known: &Mutex<Known>) {
    let mut body = String::new();
    let _ = request.as_reader().read_to_string(&mut body);
    let header = |name: &'static str| {
        let found = request.headers().iter().find(|header| header.field.equiv(name));
        found.map(|header| header.value.as_str().to_owned()).unwrap_or_default()
    };
    let bearer = header("Authorization").trim_start_matches("Bearer ").to_owned();
    let path = request.url().split('?').next().unwrap_or_default().to_owned();
    let says = match path.as_str() {
        "/login/oauth/access_token" => token(&body, known),
        "/user" => {
            let mut known = known.lock().unwrap();
            known.validated.push(bearer.clone());
            let usual = if known.good.is_empty() || known.good.contains(&bearer) {
                Says::json(200, &json!({"id": 1, "login": "ada", "name": "Ada"}))
            } else {
                Says::status(401)
            };
            known.validations.pop_front().unwrap_or(usual)
        }
        "/revoke" => {
            known.lock().unwrap().revoked.push(body);
            Says::status(204)
        }
        "/login/device/code" => Says::json(
            200,
            &json!({"device_code": "d3v1ce", "user_code": "ABCD-1234", "verification_uri": "https://github.com/login/device",
                "expires_in": 900, "interval": 1}),
        ),
        "/user/installations" => Says::status(403),
        _ => Says::status(404),
    };
    std::thread::sleep(says.delay);
    let mut response = tiny_http::Response::from_string(says.body).with_status_code(says.status);
    for (name, value) in &says.headers {
        response.add_header(tiny_http::Header::from_bytes(name.as_bytes(), value.as_bytes()).unwrap());
    }
    let _ = request.respond(response);
}

fn token(body: &str, known: &Mutex<Known>) -> Says {
    let field = |name: &str| {
        let found = body.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        found.unwrap_or_default().to_owned()
    };
    let mut known = known.lock().unwrap();
    known.token_requests.push(body.to_owned());
    if let Some(says) = known.tokens.pop_front() {
        return says;
    }
    let refuse = |word: &str| Says::json(200, &json!({"error": word, "error_description": "No."}));
    let delay = known.delay;
    let is_good = match field("grant_type").as_str() {
        "refresh_token" => field("refresh_token") == known.refresh_token,
        "authorization_code" => known.code.take().is_some_and(|code| code == field("code")),
        _ if known.pending > 0 => {
            known.pending -= 1;
            return refuse("authorization_pending");
        }
        _ => field("device_code") == "d3v1ce",
    };
    if !is_good {
        return refuse(if field("grant_type") == "refresh_token" {
            "bad_refresh_token"
        } else {
            "bad_verification_code"
        });
    }
    known.made += 1;
    let number = known.made;
    known.refresh_token = format!("refresh-{number}");
    if !known.good.is_empty() {
        known.good.push(format!("token-{number}"));
    }
    let made = json!({"access_token": format!("token-{number}"), "refresh_token": known.refresh_token,
        "expires_in": 28_800, "token_type": "bearer"});
    Says::json(200, &made).after(delay)
}
