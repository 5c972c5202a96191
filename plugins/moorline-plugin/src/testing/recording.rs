//! How recorded conversations are written down.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema::{Setup, base64_bytes};

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
    /// The clock, seconds since 1970 began; it stands still but for [`Step::wait`] and [`Exchange::delay_ms`].
    #[serde(default)]
    pub now: i64,
    /// Calls in order.
    pub steps: Vec<Step>,
}

/// One call.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Seconds that pass before it; negative: the clock is set back.
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
    /// The answer's body, if it is not text.
    #[serde(default, with = "base64_bytes")]
    pub body_base64: Vec<u8>,
    /// Milliseconds until the answer comes. The clock goes on by them; if the request waits less, there is no answer.
    #[serde(default)]
    pub delay_ms: u32,
    /// Instead of an answer: why there is none; one of [`FAULTS`].
    #[serde(default)]
    pub fault: String,
}

/// What must come of a call.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// `ok`, `refused`, `unavailable`, `invalid`, `unsupported` or `failed`.
    pub status: String,
    /// Members that the reply must have, with these values (`null`: must not have); others are not looked at.
    #[serde(default)]
    pub reply: Value,
    /// The refusal's code.
    #[serde(default)]
    pub code: String,
    /// When the refusal says that it makes sense to try again.
    #[serde(default)]
    pub retry_after: Option<u64>,
}

/// Why there can be no answer to a request.
pub const FAULTS: [&str; 8] = ["timeout", "connect", "dns", "tls", "too_large", "http", "record", "egress"];
/// What may be expected of a call.
const STATUSES: [&str; 6] = ["ok", "refused", "unavailable", "invalid", "unsupported", "failed"];

impl Recording {
    /// Reads a recording; says what cannot be meant.
    pub fn parse(text: &str) -> Result<Recording, String> {
        let recording: Recording = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if recording.cases.is_empty() {
            return Err("it has no cases".to_owned());
        }
        for case in &recording.cases {
            case.check().map_err(|why| format!("case {:?}: {why}", case.name))?;
        }
        Ok(recording)
    }
}

impl Case {
    fn check(&self) -> Result<(), String> {
        if self.steps.is_empty() {
            return Err("it has no steps".to_owned());
        }
        for (number, step) in self.steps.iter().enumerate() {
            let (status, method) = (step.expect.status.as_str(), step.method.as_str());
            if !STATUSES.contains(&status) {
                return Err(format!("{method}: the status {status:?} is none of {}", STATUSES.join(", ")));
            }
            if method == "create" && number > 0 {
                return Err("create: only the first step can be that".to_owned());
            }
            for exchange in &step.http {
                let (fault, answered) = (exchange.fault.as_str(), exchange.status != 0);
                if !fault.is_empty() && !FAULTS.contains(&fault) {
                    return Err(format!("{method}: the fault {fault:?} is none of {}", FAULTS.join(", ")));
                }
                if answered != fault.is_empty() {
                    return Err(format!("{method}: {} needs a status or a fault", exchange.url));
                }
            }
        }
        Ok(())
    }
}
