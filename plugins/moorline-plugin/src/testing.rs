//! A host that replays recorded conversations, for tests of a plugin without any network.
//!
//! A recording is a JSON file: [`Recording`]. `moorline plugin test FILE --recording R` plays it against a built library; in a
//! plugin's own tests, [`play`] plays it against the type. How each kind of trouble is written down:
//!
//! | trouble | written as |
//! | --- | --- |
//! | rotation | several steps; each exchange answers with the next token, and `body_has` demands the last one |
//! | 429 | `"status": 429` with a `Retry-After` header; `expect.retry_after` |
//! | 5xx | `"status": 503` |
//! | slow | `delay_ms`: beyond the request's own time-out, the plugin gets the fault `timeout`, as from the server |
//! | no answer | `fault`: `timeout`, `connect`, `dns`, `tls`, `too_large`, `http`; `egress`: the operator does not allow it |
//! | malformed JSON | any text as `body`, any bytes as `body_base64` |
//! | skewed clock | `now` of the case; `wait` of a step, which may be negative |

mod recording;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::abi;
use crate::host::{Host, Services};
use crate::plugin::{Answer, Instance, Refusal};
use crate::schema::{HttpRequest, HttpResponse, Setup};

pub use recording::{Case, Exchange, Expect, FAULTS, Recording, Step};

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
    /// Spent on answers since the last look.
    waited_ms: u32,
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
            let mut wrong = std::mem::take(&mut state.wrong);
            wrong.extend(missing);
            if std::mem::take(&mut state.waited_ms) > abi::CALL_SECONDS * 1_000 {
                let most = abi::CALL_SECONDS;
                wrong.push(format!("the answers take longer than the {most} s of a call; the process would be ended"));
            }
            wrong
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
            let most = request.timeout_ms.unwrap_or(abi::HTTP_MILLISECONDS).clamp(1, abi::HTTP_MILLISECONDS);
            state.now_micros = state.now_micros.saturating_add(i64::from(expected.delay_ms.min(most)) * 1_000);
            state.waited_ms = state.waited_ms.saturating_add(expected.delay_ms.min(most));
            if expected.delay_ms > most {
                return Err(Refusal::unavailable("timeout", "the recorded answer comes too late"));
            }
            match expected.fault.as_str() {
                "" => {}
                "egress" => return Err(Refusal::refused("egress", "the recording does not allow this host")),
                fault => return Err(Refusal::unavailable(fault, "no answer is recorded")),
            }
            let headers = expected.headers.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
            let body = if expected.body_base64.is_empty() { expected.body.into_bytes() } else { expected.body_base64 };
            Ok(HttpResponse { status: expected.status, headers, body })
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
    let mut wrong = Vec::new();
    for case in &recording.cases {
        let replay = Replay::new(case.now);
        let make = |setup: &Setup| P::create(setup.clone(), Host::new(replay.clone()));
        let lines = play_case(case, &replay, make, |instance, method, request| instance.call(method, request));
        wrong.extend(lines.into_iter().map(|line| format!("{}: {line}", case.name)));
    }
    wrong
}

/// Plays a case on an instance, wherever that lives, whose host is `replay`; gives what went wrong, a line each.
pub fn play_case<I>(
    case: &Case,
    replay: &Replay,
    make: impl FnOnce(&Setup) -> Answer<I>,
    call: impl Fn(&I, &str, &[u8]) -> Answer<Vec<u8>>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut steps = case.steps.iter().peekable();
    let first = steps.next_if(|step| step.method == "create");
    if let Some(step) = first {
        replay.wait(step.wait);
        replay.expect(step.http.iter().cloned());
    }
    let made = make(&case.setup);
    if let Some(step) = first {
        let result = made.as_ref().map(|_| b"{}".to_vec()).map_err(Clone::clone);
        wrong.extend(compare(step, result));
    }
    wrong.extend(replay.wrong());
    match made {
        Ok(instance) => {
            for step in steps {
                replay.wait(step.wait);
                replay.expect(step.http.iter().cloned());
                let request = match &step.request {
                    Value::Null => b"{}".to_vec(),
                    request => request.to_string().into_bytes(),
                };
                wrong.extend(compare(step, call(&instance, &step.method, &request)));
                wrong.extend(replay.wrong());
            }
        }
        Err(refusal) if first.is_none() => {
            wrong.push(format!("no instance could be made: {}", refusal.refused.message));
        }
        Err(_) if steps.peek().is_some() => wrong.push("the other steps need an instance".to_owned()),
        Err(_) => {}
    }
    wrong
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
            let (wanted, found) = (step.expect.retry_after, refusal.refused.retry_after);
            if wanted.is_some() && found != wanted {
                let said =
                    |seconds: Option<u64>| seconds.map_or("nothing".to_owned(), |seconds| format!("{seconds} s"));
                let (found, wanted) = (said(found), said(wanted));
                return vec![format!("{method}: retry_after is {found} where {wanted} is expected")];
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
                    None | Some(Value::Null) if value.is_null() => Vec::new(),
                    Some(found) if value.is_null() => vec![format!("{place} is {found} where none is expected")],
                    Some(found) => missing(value, found, &place),
                    None => vec![format!("{place} is missing")],
                }
            })
            .collect(),
        _ if expected == found => Vec::new(),
        _ => vec![format!("{place} is {found} where {expected} is expected")],
    }
}
