//! Instance identity: an agent proves by a cloud's document which machine it is, and is given its token.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::json::{self, require};
use super::later;
use super::reply::Reply;
use super::request::Call;
use crate::domain::{Error, identity};
use crate::store::instances::Cloud;

/// What the paths of the three end with.
const SUFFIX: &str = "-instance-identity";

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

#[derive(Serialize)]
struct SignedIn {
    session_token: String,
}

/// Whether a request tries an identity, so that it counts as an attempt to sign in.
pub(super) fn tries_an_identity(call: &Call<'_>) -> bool {
    call.method == "POST" && call.path.trim_end_matches('/').ends_with(SUFFIX)
}

/// `POST …/aws-instance-identity`.
pub(super) fn aws(call: &Call<'_>) -> Result<Reply, Error> {
    let body: Aws = json::body(&call.body)?;
    require(&[("signature", &body.signature), ("document", &body.document)])?;
    sign_in(call, Cloud::Aws, [("document", body.document), ("signature", body.signature)].into())
}

/// `POST …/azure-instance-identity`.
pub(super) fn azure(call: &Call<'_>) -> Result<Reply, Error> {
    let body: Azure = json::body(&call.body)?;
    require(&[("signature", &body.signature), ("encoding", &body.encoding)])?;
    sign_in(call, Cloud::Azure, [("signature", body.signature), ("encoding", body.encoding)].into())
}

/// `POST …/google-instance-identity`.
pub(super) fn google(call: &Call<'_>) -> Result<Reply, Error> {
    let body: Google = json::body(&call.body)?;
    require(&[("json_web_token", &body.json_web_token)])?;
    sign_in(call, Cloud::Google, [("json_web_token", body.json_web_token)].into())
}

/// Agents do this before each connection, and try for ever until the answer is 200 (coder v2.24.0 agent/agent.go).
fn sign_in(call: &Call<'_>, cloud: Cloud, fields: BTreeMap<&str, String>) -> Result<Reply, Error> {
    let app = Arc::clone(&call.service.app);
    let provider = identity::provider(&app, cloud)?;
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let (peer, config) = (call.peer.clone(), Arc::clone(&provider));
    later::answer(call, &config, move || {
        let token = identity::sign_in(&app, &provider, cloud, fields, &peer)?;
        Reply::json(200, &SignedIn { session_token: token.to_string() })
    })
}
