//! What the server remembers: how providers show themselves, what was found out about tokens a moment ago, who
//! waits for what, which sign-ins are under way. All of it may be lost at any time.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moorline_plugin::schema::{Device, Kind, Provider};
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::{Error, Fault, Standing};
use crate::config::providers::ProviderConfig;
use crate::model::UserId;
use crate::ops::lock::lock;
use crate::ops::places::{Place, Places};

/// How long what a plugin says of itself is kept; its library may be replaced meanwhile.
const SHOWN_FOR: Duration = Duration::from_secs(600);
/// The same for a guess, because the plugin did not answer.
const GUESS_FOR: Duration = Duration::from_secs(10);
/// Bytes of an operator's expression once compiled.
const EXPRESSION_BYTES: usize = 1024 * 1024;
/// Findings that are kept; about 1 KiB each. Beyond it the stale ones are thrown out, then nothing is kept.
const FINDINGS: usize = 4_096;
/// Sign-ins of one person under way; the oldest gives way.
const SIGN_INS_PER_USER: usize = 8;
/// Sign-ins under way in all; about 300 bytes each.
const SIGN_INS: usize = 4_096;
/// Time between leaving for the provider and coming back.
const SIGN_IN_LIFE: Duration = Duration::from_secs(600);
/// Questions that one person's pages and programs may have a provider asked per minute, beside those of git.
const QUESTIONS_PER_MINUTE: u32 = 60;
/// Longest pause that a provider's own word is followed for.
const PAUSE_MOST: Duration = Duration::from_secs(3_600);
/// Refreshes per provider that wait to be tried again, each on one of its four threads: the others stay free.
const PATIENT: usize = 2;
/// How long a stopping server waits for refresh tokens that are with their providers.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// A link: provider and person.
pub(super) type Key = (String, UserId);

/// Who wants to know how a person stands with a provider. Called on a thread that may wait.
pub(super) type Then = Box<dyn FnOnce(Result<Standing, Error>) + Send>;

/// What a provider limits by itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Need {
    Validate,
    Refresh,
}

/// What was found out about the tokens of a link.
#[derive(Clone)]
pub(super) struct Finding {
    pub(super) version: i64,
    pub(super) until: Instant,
    pub(super) outcome: Result<Standing, Error>,
}

/// A person is away at the provider.
pub(super) struct Away {
    pub(super) user: UserId,
    pub(super) provider: String,
    /// What the PKCE challenge was made of.
    pub(super) verifier: Option<String>,
    since: Instant,
}

#[derive(Default)]
struct State {
    shown: HashMap<String, (Provider, Instant)>,
    flights: HashMap<Key, Vec<Then>>,
    findings: HashMap<Key, Finding>,
    pauses: HashMap<(String, Need), Instant>,
    questions: HashMap<Key, (Instant, u32)>,
    away: HashMap<String, Away>,
    devices: HashMap<Key, (Device, Instant)>,
    /// Links whose last refresh failed, so that a row of failures is one entry of the audit log.
    failing: HashSet<Key>,
}

#[derive(Default)]
struct Stopping {
    now: bool,
    /// Refresh tokens that are on their way.
    sent: usize,
}

/// See the module.
pub struct Links {
    expressions: HashMap<String, Regex>,
    state: Mutex<State>,
    stopping: Mutex<Stopping>,
    changed: Condvar,
    patience: Places<String>,
    /// Programs that wait for somebody to sign in, by person.
    pub listeners: Places<UserId>,
}

/// A refresh token is on its way while this lives.
pub(super) struct Sent<'a>(&'a Links);

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        lock(&self.0.stopping).sent -= 1;
        self.0.changed.notify_all();
    }
}

impl Links {
    /// Nothing is known yet.
    pub fn new(providers: &[Arc<ProviderConfig>]) -> Links {
        let mut expressions = HashMap::new();
        for provider in providers.iter().filter(|provider| provider.kind == Kind::ExternalAuth) {
            let expression = provider.settings.get("regex").and_then(Value::as_str).unwrap_or_default();
            if expression.is_empty() {
                continue;
            }
            match RegexBuilder::new(expression).size_limit(EXPRESSION_BYTES).build() {
                Ok(expression) => drop(expressions.insert(provider.id.clone(), expression)),
                Err(error) => log::error!("the regex of provider {} fits nothing: {error}", provider.id),
            }
        }
        Links {
            expressions,
            state: Mutex::default(),
            stopping: Mutex::default(),
            changed: Condvar::new(),
            patience: Places::default(),
            listeners: Places::default(),
        }
    }

    pub(super) fn expression(&self, provider: &str) -> Option<&Regex> {
        self.expressions.get(provider)
    }

    pub(super) fn shown(&self, provider: &str) -> Option<Provider> {
        let state = lock(&self.state);
        state.shown.get(provider).filter(|(_, until)| *until > Instant::now()).map(|(shown, _)| shown.clone())
    }

    pub(super) fn keep_shown(&self, provider: &str, shown: Provider, is_known: bool) {
        let until = Instant::now() + if is_known { SHOWN_FOR } else { GUESS_FOR };
        lock(&self.state).shown.insert(provider.to_owned(), (shown, until));
    }

    /// What is known of the tokens of this version.
    pub(super) fn finding(&self, key: &Key, version: i64) -> Option<Result<Standing, Error>> {
        let state = lock(&self.state);
        let found = state.findings.get(key)?;
        (found.version == version && found.until > Instant::now()).then(|| found.outcome.clone())
    }

    /// Joins those who wait for this link; says whether the caller is the first and has to see to it. `most` may
    /// wait; who is too many gets `then` back.
    pub(super) fn join(&self, key: &Key, then: Then, most: usize) -> Result<bool, Then> {
        let mut state = lock(&self.state);
        match state.flights.get_mut(key) {
            Some(waiting) if waiting.len() >= most => Err(then),
            Some(waiting) => {
                waiting.push(then);
                Ok(false)
            }
            None => {
                state.flights.insert(key.clone(), vec![then]);
                Ok(true)
            }
        }
    }

    /// Ends the wait: keeps the finding, and gives all who waited.
    pub(super) fn land(&self, key: &Key, finding: Option<Finding>) -> Vec<Then> {
        let mut state = lock(&self.state);
        if let Some(finding) = finding {
            let now = Instant::now();
            if state.findings.len() >= FINDINGS {
                state.findings.retain(|_, finding| finding.until > now);
            }
            if state.findings.len() < FINDINGS || state.findings.contains_key(key) {
                state.findings.insert(key.clone(), finding);
            }
        }
        state.flights.remove(key).unwrap_or_default()
    }

    /// A refresh failed; says whether the one before did not.
    pub(super) fn begins_to_fail(&self, key: &Key) -> bool {
        let mut state = lock(&self.state);
        state.failing.len() < FINDINGS && state.failing.insert(key.clone())
    }

    /// A refresh went well.
    pub(super) fn is_well(&self, key: &Key) {
        lock(&self.state).failing.remove(key);
    }

    pub(super) fn forget(&self, key: &Key) {
        let mut state = lock(&self.state);
        state.findings.remove(key);
        state.devices.remove(key);
    }

    /// The provider wants to be left in peace for this long, by all of its people.
    pub(super) fn pause(&self, provider: &str, need: Need, seconds: u64) {
        let pause = Duration::from_secs(seconds).min(PAUSE_MOST);
        log::warn!("provider {provider} limits its rate: {need:?} is left for {} s", pause.as_secs());
        lock(&self.state).pauses.insert((provider.to_owned(), need), Instant::now() + pause);
    }

    /// How long it still does.
    pub(super) fn paused(&self, provider: &str, need: Need) -> Option<Duration> {
        let until = *lock(&self.state).pauses.get(&(provider.to_owned(), need))?;
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// Counts a question that a page or program of a person has a provider asked.
    pub(super) fn spend(&self, provider: &ProviderConfig, user: UserId) -> Result<(), Error> {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let minute = Duration::from_secs(60);
        if state.questions.len() >= FINDINGS {
            state.questions.retain(|_, (since, _)| now.duration_since(*since) < minute);
        }
        let (since, count) = state.questions.entry((provider.id.clone(), user)).or_insert((now, 0));
        if now.duration_since(*since) >= minute {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        if *count <= QUESTIONS_PER_MINUTE {
            return Ok(());
        }
        let message = format!(
            "You have asked the external auth provider {} more than {QUESTIONS_PER_MINUTE} times in a minute. Wait a minute.",
            provider.id
        );
        Err(Error::new(Fault::TooMany, message))
    }

    /// A person leaves for the provider.
    pub(super) fn leave(&self, state_word: &str, user: UserId, provider: &str, verifier: Option<String>) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.away.retain(|_, away| now.duration_since(away.since) < SIGN_IN_LIFE);
        let oldest = |away: &HashMap<String, Away>, of: Option<UserId>| {
            let mine = away.iter().filter(|(_, one)| of.is_none_or(|user| one.user == user));
            mine.min_by_key(|(_, one)| one.since).map(|(word, _)| word.clone())
        };
        let own = state.away.values().filter(|away| away.user == user).count();
        let too_many = if own >= SIGN_INS_PER_USER {
            oldest(&state.away, Some(user))
        } else if state.away.len() >= SIGN_INS {
            oldest(&state.away, None)
        } else {
            None
        };
        if let Some(word) = too_many {
            state.away.remove(&word);
        }
        let away = Away { user, provider: provider.to_owned(), verifier, since: now };
        state.away.insert(state_word.to_owned(), away);
    }

    /// A person comes back; once.
    pub(super) fn come_back(&self, state_word: &str, user: UserId, provider: &str) -> Option<Away> {
        let mut state = lock(&self.state);
        let is_theirs = |away: &&Away| away.user == user && away.provider == provider;
        state.away.get(state_word).filter(is_theirs)?;
        state.away.remove(state_word).filter(|away| away.since.elapsed() < SIGN_IN_LIFE)
    }

    /// The device sign-in that is under way.
    pub(super) fn device(&self, key: &Key) -> Option<Device> {
        let state = lock(&self.state);
        state.devices.get(key).filter(|(_, until)| *until > Instant::now()).map(|(device, _)| device.clone())
    }

    pub(super) fn keep_device(&self, key: &Key, device: &Device) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.devices.retain(|_, (_, until)| *until > now);
        if state.devices.len() < SIGN_INS {
            let life = Duration::from_secs(u64::try_from(device.expires_in).unwrap_or(0)).min(SIGN_IN_LIFE * 2);
            state.devices.insert(key.clone(), (device.clone(), now + life));
        }
    }

    pub(super) fn drop_device(&self, key: &Key) {
        lock(&self.state).devices.remove(key);
    }

    /// A place among those who wait to try again.
    pub(super) fn patience(&self, provider: &str) -> Option<Place<String>> {
        self.patience.take(provider.to_owned(), PATIENT)
    }

    /// Waits, less if the server stops; says whether to go on.
    pub(super) fn rest(&self, time: Duration) -> bool {
        let stopping = lock(&self.stopping);
        let waited = self.changed.wait_timeout_while(stopping, time, |stopping| !stopping.now);
        !waited.unwrap_or_else(PoisonError::into_inner).0.now
    }

    /// A refresh token is about to leave; not when the server stops.
    pub(super) fn send(&self) -> Option<Sent<'_>> {
        let mut stopping = lock(&self.stopping);
        if stopping.now {
            return None;
        }
        stopping.sent += 1;
        drop(stopping);
        Some(Sent(self))
    }

    /// No refresh token leaves any more; those that have left are given some time to come back.
    pub fn stop(&self) {
        let mut stopping = lock(&self.stopping);
        stopping.now = true;
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(stopping, STOP_PATIENCE, |stopping| stopping.sent > 0);
        let sent = waited.unwrap_or_else(PoisonError::into_inner).0.sent;
        if sent > 0 {
            log::warn!("{sent} refreshes at external providers were cut off by the stop");
        }
    }
}
