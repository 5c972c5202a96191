//! Proves Google Compute Engine machines by their identity token.
//!
//! A machine sends a JWT that its metadata server made for the audience `coder`, signed by Google with RS256. Google's keys are
//! fetched over HTTPS and kept, or imported from a file where Google cannot be reached. Issuer, audience and times are checked;
//! the real server checks neither of the first two, so that any token that Google ever signed for the machine would do.

mod keys;
mod token;

use std::collections::BTreeMap;

use moorline_plugin::schema::{Anchors, Setup, Verified, VerifyRequest};
use moorline_plugin::{Answer, Host, Identity, Refusal};
use serde::Deserialize;
use serde_json::Value;

use crate::keys::KeySet;
use crate::token::Token;

moorline_plugin::declare!(identity Google);

/// Whom tokens must be from; Google writes both.
const ISSUERS: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];
/// Whom tokens must be for: what the agent asks its metadata server for (coder v2.24.0 cli/agent.go).
const AUDIENCE: &str = "coder";
/// How far the clocks of Google and this server may differ, seconds.
const SKEW: i64 = 60;
/// Longest value of a claim that is handed on, bytes.
const CLAIM_BYTES: usize = 128;

/// What an operator may set.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    /// Where the keys are.
    keys_url: Option<String>,
    /// Whether they may be fetched; without, they must be imported.
    offline: bool,
    /// Another audience.
    audience: Option<String>,
}

/// The provider.
pub struct Google {
    keys: KeySet,
    audience: String,
    host: Host,
}

impl Identity for Google {
    const NAME: &'static str = "google-identity";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SERVES: &'static [&'static str] = &["google"];

    fn create(setup: Setup, host: Host) -> Answer<Google> {
        let settings: Settings = match setup.settings {
            Value::Null => Settings::default(),
            settings => serde_json::from_value(settings)
                .map_err(|error| Refusal::invalid(format!("The settings are not good: {error}.")))?,
        };
        let keys = KeySet::new(setup.anchors, settings.keys_url, settings.offline, host.clone())?;
        Ok(Google { keys, audience: settings.audience.unwrap_or_else(|| AUDIENCE.to_owned()), host })
    }

    fn verify(&self, request: VerifyRequest) -> Answer<Verified> {
        let text = request.fields.get("json_web_token").map(String::as_str).unwrap_or_default();
        let token = Token::parse(text)?;
        if token.algorithm != "RS256" {
            return Err(Refusal::refused("bad_algorithm", "The token is not signed with RS256."));
        }
        self.keys.verify(&token)?;
        self.check_claims(&token)?;
        identity(&token)
    }

    fn anchors(&self) -> Answer<Anchors> {
        Ok(Anchors { anchors: self.keys.imported() })
    }
}

impl Google {
    fn check_claims(&self, token: &Token) -> Answer<()> {
        let text = |name: &str| token.claims.get(name).and_then(Value::as_str);
        if !text("iss").is_some_and(|issuer| ISSUERS.contains(&issuer)) {
            return Err(Refusal::refused("bad_issuer", "The token is not from Google's accounts service."));
        }
        if text("aud") != Some(&self.audience) {
            return Err(Refusal::refused(
                "bad_audience",
                format!("The token is not for the audience {}.", self.audience),
            ));
        }
        let instant = |name: &str| token.claims.get(name).and_then(Value::as_i64);
        let now = self.host.now();
        let Some(until) = instant("exp") else {
            return Err(Refusal::refused("expired", "The token does not say until when it is good."));
        };
        if until.saturating_add(SKEW) < now {
            return Err(Refusal::refused(
                "expired",
                format!("The token ended {} seconds ago.", now.saturating_sub(until)),
            ));
        }
        let from = instant("nbf").or_else(|| instant("iat")).unwrap_or(now);
        if from.saturating_sub(SKEW) > now {
            let ahead = from.saturating_sub(now);
            return Err(Refusal::refused(
                "clock_skew",
                format!("The token is only good in {ahead} seconds; the clock of this server seems to be behind."),
            ));
        }
        Ok(())
    }
}

/// The machine that a checked token is about.
fn identity(token: &Token) -> Answer<Verified> {
    let malformed = |message: &str| Refusal::invalid(message);
    let engine = match token.claims.get("google") {
        None => return Err(Refusal::refused("no_instance", "The token says nothing about a machine.")),
        Some(google) => google.get("compute_engine").and_then(Value::as_object),
    };
    let Some(engine) = engine else {
        return Err(Refusal::refused("no_instance", "The token says nothing about a machine of Compute Engine."));
    };
    let instance_id = match engine.get("instance_id") {
        Some(Value::String(id)) if !id.is_empty() => id.clone(),
        None => return Err(Refusal::refused("no_instance", "The token has no instance id.")),
        Some(_) => return Err(malformed("The token's instance id is not a text of digits.")),
    };
    let claims: BTreeMap<String, String> = ["project_id", "zone", "instance_name"]
        .iter()
        .filter_map(|name| {
            let text = engine.get(*name)?.as_str()?;
            Some(((*name).to_owned(), text.get(..CLAIM_BYTES).unwrap_or(text).to_owned()))
        })
        .collect();
    Ok(Verified { instance_id, claims })
}

#[cfg(test)]
mod tests;
