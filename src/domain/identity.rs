//! Signing machines in by their cloud's word: a document that only the machine can get, looked at by the
//! plugin of that cloud, names an instance; the newest living agent that is bound to it is the machine.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moorline_plugin::schema::{Kind, Refused, Verified, VerifyRequest};
use uuid::Uuid;

use super::instance::{Instance, cloud_name};
use super::{App, Error, Fault, tokens, trust};
use crate::config::providers::ProviderConfig;
use crate::model::Timestamp;
use crate::plugins::CallError;
use crate::store::agents::Agent;
use crate::store::audit::{self, Actor, Entry, Verdict};
use crate::store::instances::Cloud;

/// A machine that asks again and again, as agents do, is written down once in this time.
const NOTED_EVERY: Duration = Duration::from_secs(3_600);
/// What was noted, 24 bytes each: 1.5 MiB at most. When there is no more room, refusals are not noted any more.
const NOTES: usize = 65_536;
/// See [`Identities::is_day_over`].
const DAY: Duration = Duration::from_secs(86_400);
/// Longest text of a plugin that is handed on, bytes.
const REASON_BYTES: usize = 300;
/// Longest id of a machine that a plugin may name, bytes; the clouds' own have up to 36.
const ID_BYTES: usize = 256;

/// What is kept in memory about sign-ins of machines.
#[derive(Default)]
pub struct Identities {
    hasher: RandomState,
    noted: Mutex<HashMap<u64, Timestamp>>,
    /// When the trust anchors of a provider were last looked at, by its id.
    looked_ahead: Mutex<HashMap<String, Timestamp>>,
}

impl Identities {
    /// Whether something that happens at `now` is to be written down; `important`: also if there is no room to remember it.
    fn is_news(&self, key: (&str, &str, &str), now: Timestamp, important: bool) -> bool {
        let key = self.hasher.hash_one(key);
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: &Timestamp| now.since(*at) < NOTED_EVERY;
        if noted.get(&key).is_some_and(is_recent) {
            return false;
        }
        if noted.len() >= NOTES {
            noted.retain(|_, at| is_recent(at));
            if noted.len() >= NOTES {
                return important;
            }
        }
        noted.insert(key, now);
        true
    }

    /// Whether a day is over since this was last asked about a provider (and `true` was the answer).
    pub(super) fn is_day_over(&self, provider: &str, now: Timestamp) -> bool {
        let mut looked = self.looked_ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let over = looked.get(provider).is_none_or(|at| now.since(*at) >= DAY);
        if over {
            looked.insert(provider.to_owned(), now);
        }
        over
    }
}

/// How one attempt ended, for the audit log.
struct Attempt<'a> {
    app: &'a App,
    provider: &'a ProviderConfig,
    cloud: Cloud,
    peer: &'a str,
}

/// The provider that proves machines of this cloud.
pub fn provider(app: &App, cloud: Cloud) -> Result<Arc<ProviderConfig>, Error> {
    let mut providers = app.plugins.providers(Kind::Identity);
    providers.find(|provider| provider.kind_word == cloud.as_str()).cloned().ok_or_else(|| {
        let name = cloud_name(cloud);
        Error::new(Fault::Unreachable, format!("This server cannot check identities of {name} machines."))
            .detail(format!("No identity provider of type {} is configured; use an agent token.", cloud.as_str()))
    })
}

/// The agent token of the machine that sent these fields from `peer`. Waits for the plugin.
pub fn sign_in(
    app: &App,
    provider: &ProviderConfig,
    cloud: Cloud,
    fields: BTreeMap<String, String>,
    peer: &str,
) -> Result<Uuid, Error> {
    let attempt = Attempt { app, provider, cloud, peer };
    let called = app.plugins.call::<_, Verified>(provider, "verify", &VerifyRequest { fields });
    let verified = called.map_err(|error| attempt.not_proved(error))?;
    if !is_id(&verified.instance_id) {
        let message = "The plugin names the machine by what is no id.".to_owned();
        return Err(attempt.not_proved(CallError::Failed(Refused { message, ..Refused::default() })));
    }
    trust::look_ahead(app, provider);
    let instance = Instance::proven(cloud, &verified.instance_id);
    let Some((agent, name)) = app.store.read(|conn| instance.holders(conn))?.into_iter().next() else {
        return Err(attempt.unknown(&instance));
    };
    let token = tokens::open_agent_token(app.store.sealer(), agent.id, &agent.token_sealed)?;
    attempt.succeeded(&instance, &agent, name, &verified);
    app.clones.signed_in(app, agent.id, peer);
    Ok(token)
}

impl Attempt<'_> {
    /// What the machine is told when the plugin has not proved it.
    fn not_proved(&self, error: CallError) -> Error {
        let cloud = cloud_name(self.cloud);
        let (fault, code, reason) = match &error {
            CallError::Refused(refused) if refused.code == "no_instance" => (Fault::NotFound, &*refused.code, None),
            CallError::Refused(refused) | CallError::Unavailable(refused) => {
                (Fault::Unauthenticated, &*refused.code, Some(&refused.message))
            }
            CallError::Invalid(refused) => (Fault::Invalid, &*refused.code, Some(&refused.message)),
            CallError::Busy => (Fault::Overloaded, "busy", None),
            CallError::Unsupported(_) => (Fault::Unreachable, "unsupported", None),
            CallError::Failed(_) => (Fault::Unreachable, "failed", None),
            CallError::Down(_) => (Fault::Unreachable, "down", None),
            CallError::TimedOut => (Fault::Unreachable, "timed_out", None),
        };
        let (message, verdict) = match fault {
            Fault::NotFound => (format!("The {cloud} identity names no machine."), Verdict::Refused),
            Fault::Unauthenticated | Fault::Invalid => {
                (format!("The {cloud} identity was not accepted."), Verdict::Refused)
            }
            // Why is for the operator; the path of a library is nobody else's business.
            _ => (format!("The {cloud} identity cannot be checked at present; try again."), Verdict::Failed),
        };
        let why = cut(&error.to_string());
        if self.is_news("", code, false) {
            log::warn!("provider {}: a machine at {} was not signed in: {code}: {why}", self.provider.id, self.peer);
            self.note(
                Actor::Anonymous(self.cloud.as_str().to_owned()),
                String::new(),
                verdict,
                format!("{code}: {why}"),
            );
        }
        Error::new(fault, message).detail(reason.map(|reason| cut(reason)).unwrap_or_default())
    }

    fn unknown(&self, instance: &Instance) -> Error {
        if self.is_news(&instance.id, "unknown", false) {
            log::warn!(
                "provider {}: the machine {instance} at {} proved itself, but no agent is bound to it",
                self.provider.id,
                self.peer
            );
            let actor = Actor::Anonymous(self.cloud.as_str().to_owned());
            self.note(actor, instance.to_string(), Verdict::Refused, "no agent is bound to it".to_owned());
        }
        Error::new(
            Fault::NotFound,
            format!("No agent is bound to the {} instance {}.", cloud_name(self.cloud), instance.id),
        )
        .detail("An administrator binds it with `moorline workspace bind`.")
    }

    fn succeeded(&self, instance: &Instance, agent: &Agent, name: String, verified: &Verified) {
        if !self.is_news(&instance.id, &agent.id.to_string(), true) {
            return;
        }
        log::info!("provider {}: {instance} at {} is {name}", self.provider.id, self.peer);
        let claims = verified.claims.iter().filter(|(_, value)| !value.is_empty());
        let claims: String = claims.map(|(claim, value)| format!(", {claim} {value}")).collect();
        let detail = cut(&format!("{instance}, provider {}{claims}", self.provider.id));
        self.note(Actor::Agent(agent.id, agent.name.clone()), name, Verdict::Ok, detail);
    }

    fn is_news(&self, instance: &str, outcome: &str, important: bool) -> bool {
        let outcome = format!("{} {outcome}", self.provider.id);
        self.app.identities.is_news((self.peer, instance, &outcome), Timestamp::now(), important)
    }

    /// Adds a row to the audit log. A full disk does not keep machines out.
    fn note(&self, actor: Actor, target: String, verdict: Verdict, detail: String) {
        let entry = Entry { actor, action: "agent.sign_in", target, ip: self.peer.to_owned(), verdict, detail };
        let written =
            self.app.store.write(move |write| Ok::<_, Error>(audit::insert(write, Timestamp::now(), &entry)?));
        if let Err(error) = written {
            log::warn!("the sign-in of a machine could not be noted: {error}");
        }
    }
}

/// Whether a plugin's id of a machine can be one: it goes into logs, tables and answers.
fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= ID_BYTES && !id.chars().any(char::is_control)
}

/// The beginning of a text, without control characters, which an attacker could write to a log with.
fn cut(text: &str) -> String {
    let mut cut = String::with_capacity(text.len().min(REASON_BYTES));
    for letter in text.chars() {
        if cut.len() + letter.len_utf8() > REASON_BYTES {
            break;
        }
        cut.push(if letter.is_control() { ' ' } else { letter });
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MICROS_PER_SECOND;

    #[test]
    fn notes_the_same_once_an_hour_and_stays_bounded() {
        let identities = Identities::default();
        let at = |second: i64| Timestamp((1_000_000 + second) * MICROS_PER_SECOND);
        assert!(identities.is_news(("a", "i", "ok"), at(0), false));
        assert!(!identities.is_news(("a", "i", "ok"), at(3_599), false));
        assert!(identities.is_news(("a", "i", "ok"), at(3_600), false));
        assert!(identities.is_news(("b", "i", "ok"), at(0), false));
        for index in 0..NOTES {
            identities.is_news(("a", &index.to_string(), "ok"), at(4_000), false);
        }
        assert!(!identities.is_news(("c", "i", "bad"), at(4_000), false));
        assert!(identities.is_news(("c", "i", "ok"), at(4_000), true));
        assert!(identities.is_news(("c", "i", "bad"), at(8_000), false), "old notes make room");
    }

    #[test]
    fn hands_on_short_texts_without_control_characters() {
        assert_eq!(cut("a\nb\u{1b}[0m"), "a b [0m");
        assert_eq!(cut(&"ä".repeat(400)).len(), REASON_BYTES);
        assert!(is_id("i-076e9b91f7c420782") && is_id(&"i".repeat(256)));
        assert!(!is_id("") && !is_id("i\nj") && !is_id(&"i".repeat(257)));
    }
}
