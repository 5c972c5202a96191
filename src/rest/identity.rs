//! Instance identity: an agent proves by a cloud's document which machine it is. No verifier is
//! configured, so every well-formed document is answered with the truth.

use serde::Deserialize;

use super::json::{self, require};
use super::reply::Reply;
use super::request::Call;
use crate::domain::{Error, Fault};

#[derive(Deserialize, Default)]
#[serde(default)]
struct Aws {
    signature: String,
    document: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Azure {
    signature: String,
    encoding: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Google {
    json_web_token: String,
}

/// `POST …/aws-instance-identity`.
pub(super) fn aws(call: &Call<'_>) -> Result<Reply, Error> {
    let body: Aws = json::body(&call.body)?;
    require(&[("signature", &body.signature), ("document", &body.document)])?;
    Err(no_verifier("AWS"))
}

/// `POST …/azure-instance-identity`.
pub(super) fn azure(call: &Call<'_>) -> Result<Reply, Error> {
    let body: Azure = json::body(&call.body)?;
    require(&[("signature", &body.signature), ("encoding", &body.encoding)])?;
    Err(no_verifier("Azure"))
}

/// `POST …/google-instance-identity`.
pub(super) fn google(call: &Call<'_>) -> Result<Reply, Error> {
    let body: Google = json::body(&call.body)?;
    require(&[("json_web_token", &body.json_web_token)])?;
    Err(no_verifier("Google"))
}

/// 401 as for any document that is not believed; agents try again with back-off (v2.24.0 agent/agent.go).
fn no_verifier(cloud: &str) -> Error {
    Error::new(Fault::Unauthenticated, format!("The {cloud} identity was not accepted."))
        .detail("This server has no verifier for it; give the agent a token instead.")
}
