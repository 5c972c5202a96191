//! `moorline external-auth`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moorline_plugin::schema::{
    Authorize, AuthorizeRequest, Device, DevicePoll, ExchangeRequest, Kind, Provider, RefreshRequest, RevokeRequest,
    Token, TokenRequest, Validity,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use super::args::ExternalAuth;
use super::context::Context;
use super::table::{instant, items, table, text};
use super::{Failure, Said, door};
use crate::config::providers::ProviderConfig;
use crate::domain::admin::Command;
use crate::domain::external_auth::{CLIENT_REFUSED, callback_path, challenge};
use crate::domain::tokens::random_text;
use crate::ops::hub::Hub;
use crate::plugins::{self, CallError, Plugins};
use crate::store::{Options, Store};

/// How long a person gets to enter a device's code.
const DEVICE_PATIENCE: Duration = Duration::from_secs(600);
/// The PKCE verifier of every test: a second run must know that of the first. Who gets hold of a test's code needs the
/// client's secret, too.
const VERIFIER: &str = "moorline-external-auth-test-is-two-runs-of-one-sign-in";

pub(super) fn run(context: &Context, verb: ExternalAuth) -> Result<Said, Failure> {
    match verb {
        ExternalAuth::List => list(context),
        ExternalAuth::Test { provider, code, device } => test(context, &provider, code, device),
    }
}

fn configured(context: &Context) -> impl Iterator<Item = &Arc<ProviderConfig>> {
    context.loaded.settings.providers.iter().filter(|provider| provider.kind == Kind::ExternalAuth)
}

fn list(context: &Context) -> Result<Said, Failure> {
    let links = door::ask(context, Command::ExternalAuthList {}, false)?.value;
    let base = base(context);
    let providers: Vec<Value> = configured(context)
        .map(|provider| {
            json!({
                "id": provider.id, "type": provider.kind_word, "library": provider.library,
                "callback_url": format!("{base}{}", callback_path(provider)),
            })
        })
        .collect();
    let value = json!({ "providers": providers, "links": items(&links, "links") });
    let rows: Vec<Vec<String>> = items(&value, "providers")
        .iter()
        .map(|provider| ["id", "type", "callback_url"].map(|key| text(provider, key)).to_vec())
        .collect();
    let mut said = if rows.is_empty() {
        "No provider is configured.\n".to_owned()
    } else {
        table(&["provider", "type", "callback url, to be registered there"], &rows)
    };
    let rows: Vec<Vec<String>> = items(&value, "links")
        .iter()
        .map(|link| {
            let state = match (text(link, "state").as_str(), text(link, "failure")) {
                ("good", _) => "good".to_owned(),
                ("doubt", _) => "a refresh was cut off; it is tried once more".to_owned(),
                (_, failure) => failure,
            };
            vec![
                text(link, "provider"),
                text(link, "user"),
                instant(link, "updated_at"),
                instant(link, "expires_at"),
                state,
            ]
        })
        .collect();
    if rows.is_empty() {
        said.push_str("Nobody is signed in at any.");
    } else {
        said.push('\n');
        said.push_str(&table(&["provider", "user", "token of", "ends", "state"], &rows));
    }
    Ok(Said { text: said, value })
}

/// How clients reach the server, as far as is known here.
fn base(context: &Context) -> String {
    let settings = &context.loaded.settings;
    let base = settings.access_url.clone().or_else(|| door::access_url(context));
    base.unwrap_or_else(|| format!("http://{}", settings.listen))
}

/// One step, and what came of it.
#[derive(Serialize)]
struct Step {
    step: &'static str,
    ok: bool,
    said: String,
}

/// The walk so far.
struct Walk {
    provider: Arc<ProviderConfig>,
    plugins: Plugins,
    steps: Vec<Step>,
    json: bool,
}

/// The provider does not know who asks, whatever was asked.
fn refuses_client(error: &CallError) -> bool {
    matches!(error, CallError::Refused(refused) if CLIENT_REFUSED.contains(&refused.code.as_str()))
}

/// Why there is no token, in words.
fn why(error: &CallError) -> String {
    let hint = if refuses_client(error) { "the provider refuses the client_id or its secret: " } else { "" };
    format!("{hint}{error}")
}

/// A step failed; it was noted.
struct Stopped;

/// A file of its own for what plugins keep, gone at the end: the server's may be in use.
struct Scratch {
    folder: PathBuf,
    store: Store,
}

impl Scratch {
    fn make() -> Result<Scratch, Failure> {
        let folder = std::env::temp_dir().join(format!("moorline-{}", Uuid::new_v4()));
        std::fs::create_dir(&folder)?;
        let file = folder.join("test.db");
        let opened = Store::open(Options {
            key_file: crate::store::default_key_file(&file),
            file,
            create: true,
            readers: 1,
            hub: Hub::default(),
            allow_network_file_system: true,
        });
        match opened {
            Ok(store) => Ok(Scratch { folder, store }),
            Err(error) => {
                let _ = std::fs::remove_dir_all(&folder);
                Err(error.into())
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.store.close();
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            log::warn!("{} cannot be removed: {error}", self.folder.display());
        }
    }
}

fn test(context: &Context, id: &str, code: Option<String>, device: bool) -> Result<Said, Failure> {
    let Some(provider) = configured(context).find(|provider| provider.id == id).cloned() else {
        let ids: Vec<&str> = configured(context).map(|provider| provider.id.as_str()).collect();
        let known =
            if ids.is_empty() { "it names none".to_owned() } else { format!("it names these: {}", ids.join(", ")) };
        return Err(Failure::from(format!("there is no external auth provider {id} in the configuration; {known}")));
    };
    let scratch = Scratch::make()?;
    let program = &context.loaded.settings.program;
    let plugins = Plugins::new(&[Arc::clone(&provider)], &scratch.store, program);
    let mut walk = Walk { provider, plugins, steps: Vec::new(), json: context.json };
    let redirect_uri = format!("{}{}", base(context), callback_path(&walk.provider));
    let next = walk.all(program, &redirect_uri, code, device);
    walk.plugins.stop();
    let value = json!({ "provider": id, "steps": walk.steps, "next": next.as_deref().unwrap_or_default() });
    match next {
        Ok(next) => Ok(Said { text: next, value }),
        Err(Stopped) => {
            if context.json {
                super::print(&value.to_string());
            }
            let step = walk.steps.last().map_or("", |step| step.step);
            Err(Failure::from(format!("provider {id}: the step `{step}` failed")))
        }
    }
}

impl Walk {
    fn note(&mut self, step: &'static str, outcome: Result<String, String>) -> Result<(), Stopped> {
        let (ok, said) = match outcome {
            Ok(said) => (true, said),
            Err(said) => (false, said),
        };
        if !self.json {
            super::print(&format!("{} {step}: {said}", if ok { "ok    " } else { "failed" }));
        }
        self.steps.push(Step { step, ok, said });
        if ok { Ok(()) } else { Err(Stopped) }
    }

    fn ask<T: DeserializeOwned>(&self, method: &str, request: &impl Serialize) -> Result<T, CallError> {
        self.plugins.call(&self.provider, method, request)
    }

    /// All steps that can be done; gives what to do next.
    fn all(
        &mut self,
        program: &std::path::Path,
        redirect_uri: &str,
        code: Option<String>,
        device: bool,
    ) -> Result<String, Stopped> {
        let provider = Arc::clone(&self.provider);
        let places = provider.allowed().join(", ");
        self.note("configuration", Ok(format!("type {}; it may reach {places}", provider.kind_word)))?;
        let library = plugins::look_at(program, &provider.library, provider.sha256.as_deref());
        let library = library.map(|report| {
            let about =
                report.description.map_or_else(String::new, |about| format!("{} {}, ", about.name, about.version));
            format!("{}: {about}SHA-256 {}", provider.library.display(), report.sha256)
        });
        self.note("library", library)?;
        let shown: Result<Provider, _> = self.ask("defaults", &json!({}));
        let said = shown.as_ref().map_err(CallError::to_string).map(|shown| {
            let warnings: String = shown.warnings.iter().map(|warning| format!(" Warning: {warning}")).collect();
            format!("{}.{warnings}", shown.display_name)
        });
        self.note("settings", said)?;
        let Ok(shown) = shown else { return Err(Stopped) };
        if device || shown.device_flow {
            let token = self.by_device(device)?;
            return match token {
                Some(token) => self.with(&shown, token),
                None => Ok(format!("Next: moorline external-auth test {} --device", provider.id)),
            };
        }
        let state = random_text(32).unwrap_or_default();
        let verifier = shown.pkce.then(|| VERIFIER.to_owned());
        let code_challenge = verifier.as_deref().map(challenge);
        let request = AuthorizeRequest { redirect_uri: redirect_uri.to_owned(), state, code_challenge };
        let authorize: Result<Authorize, _> = self.ask("authorize", &request);
        let said = authorize.as_ref().map(|found| found.url.clone()).map_err(CallError::to_string);
        self.note("authorize address", said)?;
        let Some(code) = code else {
            self.made_up(redirect_uri, verifier)?;
            let url = authorize.map(|found| found.url).unwrap_or_default();
            return Ok(format!(
                "Next: open {url}\n  and sign in. The provider sends your browser back to {redirect_uri}; the page says that the\n  \
                 sign-in was begun elsewhere. Take what stands behind `code=` in its address, and within a minute or so:\n  \
                 moorline external-auth test {} --code CODE",
                provider.id
            ));
        };
        let request = ExchangeRequest { code, redirect_uri: redirect_uri.to_owned(), code_verifier: verifier };
        let token: Result<Token, _> = self.ask("exchange", &request);
        self.note("exchange", token.as_ref().map(lifetime).map_err(why))?;
        match token {
            Ok(token) => self.with(&shown, token),
            Err(_) => Err(Stopped),
        }
    }

    /// A code that nobody gave: the provider must answer, and refuse it, and not for the client's sake.
    fn made_up(&mut self, redirect_uri: &str, code_verifier: Option<String>) -> Result<(), Stopped> {
        let code = random_text(20).unwrap_or_default();
        let request = ExchangeRequest { code, redirect_uri: redirect_uri.to_owned(), code_verifier };
        let outcome = match self.ask::<Token>("exchange", &request) {
            Ok(_) => Err("the provider gave a token for a code that was made up".to_owned()),
            Err(error @ CallError::Refused(_)) if refuses_client(&error) => Err(why(&error)),
            Err(CallError::Refused(refused)) => {
                Ok(format!("the provider answers, and refuses a made-up code as it should ({})", refused.code))
            }
            Err(error) => Err(error.to_string()),
        };
        self.note("token address", outcome)
    }

    /// `None`: it was not to be waited for.
    fn by_device(&mut self, wait: bool) -> Result<Option<Token>, Stopped> {
        let device: Result<Device, _> = self.ask("device_start", &json!({}));
        let said = device.as_ref().map_err(CallError::to_string);
        self.note("device", said.map(|device| format!("code {} at {}", device.user_code, device.verification_uri)))?;
        let Ok(device) = device else { return Err(Stopped) };
        if !wait {
            return Ok(None);
        }
        eprintln!("Open {} and enter {}; waiting …", device.verification_uri, device.user_code);
        let began = Instant::now();
        let mut interval = Duration::from_secs(u64::try_from(device.interval).unwrap_or(5).clamp(1, 60));
        let request = DevicePoll { device_code: device.device_code };
        let token = loop {
            std::thread::sleep(interval);
            match self.ask::<Token>("device_poll", &request) {
                Err(CallError::Refused(refused)) if began.elapsed() < DEVICE_PATIENCE => match refused.code.as_str() {
                    "authorization_pending" => {}
                    "slow_down" => interval += Duration::from_secs(5),
                    _ => break Err(CallError::Refused(refused)),
                },
                other => break other,
            }
        };
        self.note("exchange", token.as_ref().map(lifetime).map_err(why))?;
        Ok(token.ok())
    }

    /// What can be done with a token.
    fn with(&mut self, shown: &Provider, mut token: Token) -> Result<String, Stopped> {
        let mut refreshed = false;
        for _ in 0..2 {
            let request = TokenRequest { access_token: token.access_token.clone() };
            let outcome = match self.ask::<Validity>("validate", &request) {
                Ok(validity) if validity.valid => Ok(match validity.user {
                    Some(user) => format!("the token is good, and of {}", user.login),
                    None => "the token is good".to_owned(),
                }),
                Ok(_) => Err("the provider does not take its own token: is the validate_url right?".to_owned()),
                Err(CallError::Unsupported(_)) => Ok("tokens are not validated".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            self.note(if refreshed { "validate again" } else { "validate" }, outcome)?;
            if refreshed || !shown.allow_refresh || token.refresh_token.is_empty() {
                break;
            }
            let request = RefreshRequest { refresh_token: token.refresh_token.clone() };
            let new: Result<Token, _> = self.ask("refresh", &request);
            self.note("refresh", new.as_ref().map(lifetime).map_err(CallError::to_string))?;
            if let Ok(new) = new {
                let old = std::mem::replace(&mut token, new);
                if token.refresh_token.is_empty() {
                    token.refresh_token = old.refresh_token;
                }
            }
            refreshed = true;
        }
        if shown.supports_revocation {
            let request = RevokeRequest { access_token: token.access_token, refresh_token: token.refresh_token };
            let revoked: Result<Value, _> = self.ask("revoke", &request);
            let outcome = match revoked {
                Ok(_) => Ok("the test's token is worth nothing any more".to_owned()),
                Err(CallError::Unsupported(_)) => Ok("the provider revokes no tokens".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            self.note("revoke", outcome)?;
        }
        Ok("All steps went well.".to_owned())
    }
}

fn lifetime(token: &Token) -> String {
    let refresh = if token.refresh_token.is_empty() { "no refresh token" } else { "a refresh token" };
    match token.expires_at {
        Some(at) => {
            format!("a token that ends at {}, and {refresh}", crate::model::Timestamp(at.saturating_mul(1_000_000)))
        }
        None => format!("a token without end, and {refresh}"),
    }
}
