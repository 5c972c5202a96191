//! A host that replays recorded conversations, for tests of a plugin without any network.
//!
//! A recording is a JSON file: [`Recording`]. `moorline plugin test FILE --recording R` plays it against a built library; in a
//! plugin's own tests, [`play`] plays it against the type.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::abi;
use crate::host::{Host, Services};
use crate::plugin::{Answer, Instance, Refusal};
use crate::schema::{HttpRequest, HttpResponse, Setup};

/// Cases, each with an instance of its own.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// In order.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// What the instance is made with.
    pub setup: Setup,
    /// The clock, seconds since 1970 began; it stands still but for [`Step::wait`].
    #[serde(default)]
    pub now: i64,
    /// Calls in order.
    pub steps: Vec<Step>,
}

/// One call.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Seconds that pass before it.
    #[serde(default)]
    pub wait: i64,
    /// The method; `create` looks at what became of making the instance.
    pub method: String,
    /// Its request.
    #[serde(default)]
    pub request: Value,
    /// HTTP requests that it makes, in order, and what comes back; all must be made, and no others.
    #[serde(default)]
    pub http: Vec<Exchange>,
    /// What must come of it.
    pub expect: Expect,
}

/// One HTTP request and what comes back.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// Must be equal.
    pub method: String,
    /// Must be equal.
    pub url: String,
    /// Texts that must stand in the body.
    #[serde(default)]
    pub body_has: Vec<String>,
    /// Headers that must be there with this value (names in any case).
    #[serde(default)]
    pub headers_have: Vec<(String, String)>,
    /// The answer's status; 0 with [`Exchange::fault`].
    #[serde(default)]
    pub status: u16,
    /// The answer's headers.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The answer's body, as text.
    #[serde(default)]
    pub body: String,
    /// Instead of an answer: why there is none, e.g. `timeout`, `connect`, `tls`, `egress`.
    #[serde(default)]
    pub fault: String,
}

/// What must come of a call.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// `ok`, `refused`, `unavailable`, `invalid`, `unsupported` or `failed`.
    pub status: String,
    /// Members that the reply must have, with these values; others are not looked at.
    #[serde(default)]
    pub reply: Value,
    /// The refusal's code.
    #[serde(default)]
    pub code: String,
}

/// The word for a status.
pub fn word(status: abi::Status) -> &'static str {
    match status {
        abi::OK => "ok",
        abi::REFUSED => "refused",
        abi::UNAVAILABLE => "unavailable",
        abi::INVALID => "invalid",
        abi::UNSUPPORTED => "unsupported",
        _ => "failed",
    }
}

#[derive(Default)]
struct State {
    now_micros: i64,
    expected: VecDeque<Exchange>,
    wrong: Vec<String>,
    cache: HashMap<String, (Vec<u8>, i64)>,
    random: u8,
    log: Vec<String>,
}

/// A host that replays. Cloning gives another handle.
#[derive(Clone, Default)]
pub struct Replay(Arc<Mutex<State>>);

impl Replay {
    /// A host whose clock stands at `now` seconds.
    pub fn new(now: i64) -> Replay {
        let replay = Replay::default();
        replay.wait(now);
        replay
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Time passes.
    pub fn wait(&self, seconds: i64) {
        self.with(|state| state.now_micros = state.now_micros.saturating_add(seconds.saturating_mul(1_000_000)));
    }

    /// HTTP requests that are to come.
    pub fn expect(&self, exchanges: impl IntoIterator<Item = Exchange>) {
        self.with(|state| state.expected.extend(exchanges));
    }

    /// What was not as recorded since the last look; forgets it, and what did not come.
    pub fn wrong(&self) -> Vec<String> {
        self.with(|state| {
            let missing = std::mem::take(&mut state.expected);
            let missing = missing.iter().map(|one| format!("{} {} was not asked", one.method, one.url));
            std::mem::take(&mut state.wrong).into_iter().chain(missing.collect::<Vec<_>>()).collect()
        })
    }

    /// What the plugin has logged.
    pub fn logged(&self) -> Vec<String> {
        self.with(|state| state.log.clone())
    }
}

impl Services for Replay {
    fn http(&self, request: &HttpRequest) -> Answer<HttpResponse> {
        self.with(|state| {
            let asked = format!("{} {}", request.method, request.url);
            let Some(expected) = state.expected.pop_front() else {
                state.wrong.push(format!("{asked} was asked, and nothing is recorded for it"));
                return Err(Refusal::unavailable("connect", "nothing is recorded for this request"));
            };
            if request.method != expected.method || request.url != expected.url {
                state.wrong.push(format!("{asked} was asked where {} {} is recorded", expected.method, expected.url));
            }
            let body = String::from_utf8_lossy(&request.body);
            for text in expected.body_has.iter().filter(|text| !body.contains(text.as_str())) {
                state.wrong.push(format!("{asked}: the body does not have {text:?}"));
            }
            for (name, value) in &expected.headers_have {
                let found = request.headers.iter().any(|(n, v)| n.eq_ignore_ascii_case(name) && v == value);
                if !found {
                    state.wrong.push(format!("{asked}: there is no header {name} with that value"));
                }
            }
            if !expected.fault.is_empty() {
                return Err(Refusal::unavailable(&expected.fault, "no answer is recorded"));
            }
            let headers = expected.headers.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
            Ok(HttpResponse { status: expected.status, headers, body: expected.body.into_bytes() })
        })
    }

    fn log(&self, _level: i32, text: &str) {
        self.with(|state| state.log.push(text.to_owned()));
    }

    fn now_micros(&self) -> i64 {
        self.with(|state| state.now_micros)
    }

    /// Bytes that count up, so that a test can foresee them.
    fn random(&self, buffer: &mut [u8]) -> Answer<()> {
        self.with(|state| {
            for byte in buffer {
                *byte = state.random;
                state.random = state.random.wrapping_add(1);
            }
        });
        Ok(())
    }

    fn cache_get(&self, key: &str) -> Option<Vec<u8>> {
        self.with(|state| {
            let (value, until) = state.cache.get(key)?;
            (*until > state.now_micros).then(|| value.clone())
        })
    }

    fn cache_put(&self, key: &str, value: &[u8], keep: Duration) {
        self.with(|state| {
            let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
            state.cache.insert(key.to_owned(), (value.to_vec(), state.now_micros.saturating_add(keep)));
        });
    }
}

/// Plays a recording against a type; gives what went wrong, a line each, with the case's name in front.
pub fn play<P: Instance>(recording: &Recording) -> Vec<String> {
    recording.cases.iter().flat_map(play_case::<P>).collect()
}

fn play_case<P: Instance>(case: &Case) -> Vec<String> {
    let replay = Replay::new(case.now);
    let mut wrong = Vec::new();
    let mut steps = case.steps.iter().peekable();
    let first = steps.next_if(|step| step.method == "create");
    if let Some(step) = first {
        replay.expect(step.http.iter().cloned());
    }
    let made = P::create(case.setup.clone(), Host::new(replay.clone()));
    if let Some(step) = first {
        let result = made.as_ref().map(|_| b"{}".to_vec()).map_err(Clone::clone);
        wrong.extend(compare(step, result).into_iter().chain(replay.wrong()));
    }
    match made {
        Ok(instance) => {
            for step in steps {
                replay.wait(step.wait);
                replay.expect(step.http.iter().cloned());
                let request = match &step.request {
                    Value::Null => b"{}".to_vec(),
                    request => request.to_string().into_bytes(),
                };
                wrong.extend(compare(step, instance.call(&step.method, &request)).into_iter().chain(replay.wrong()));
            }
        }
        Err(refusal) if first.is_none() => {
            wrong.push(format!("no instance could be made: {}", refusal.refused.message));
        }
        Err(_) => {}
    }
    wrong.into_iter().map(|line| format!("{}: {line}", case.name)).collect()
}

/// What is wrong with the outcome of a step.
pub fn compare(step: &Step, outcome: Answer<Vec<u8>>) -> Vec<String> {
    let method = &step.method;
    match outcome {
        Ok(reply) => {
            if step.expect.status != "ok" {
                return vec![format!("{method}: ok where {} is expected", step.expect.status)];
            }
            match serde_json::from_slice::<Value>(&reply) {
                Ok(reply) => missing(&step.expect.reply, &reply, method),
                Err(error) => vec![format!("{method}: the reply is no JSON: {error}")],
            }
        }
        Err(refusal) => {
            let (status, code) = (word(refusal.status), &refusal.refused.code);
            let message = &refusal.refused.message;
            if status != step.expect.status {
                return vec![format!(
                    "{method}: {status} ({code}: {message}) where {} is expected",
                    step.expect.status
                )];
            }
            if !step.expect.code.is_empty() && *code != step.expect.code {
                return vec![format!("{method}: code {code:?} ({message}) where {:?} is expected", step.expect.code)];
            }
            Vec::new()
        }
    }
}

/// Members of `expected` that `found` does not have with the same value.
fn missing(expected: &Value, found: &Value, place: &str) -> Vec<String> {
    match (expected, found) {
        (Value::Null, _) => Vec::new(),
        (Value::Object(expected), Value::Object(found)) => expected
            .iter()
            .flat_map(|(key, value)| {
                let place = format!("{place}.{key}");
                match found.get(key) {
                    Some(found) => missing(value, found, &place),
                    None => vec![format!("{place} is missing")],
                }
            })
            .collect(),
        _ if expected == found => Vec::new(),
        _ => vec![format!("{place} is {found} where {expected} is expected")],
    }
}
