//! Proves machines of a cloud whose metadata service hands out what Amazon's does (`instance-identity/document` and
//! `…/signature`), by asking the cloud itself whether a document is its own:
//!
//!     POST verify_url  {"document": "…", "signature": "…"}
//!     200              {"instance_id": "…", "region": "…", "issued_at": seconds}
//!
//! Take it as a start: what differs at your cloud is in `verify`.

use std::collections::BTreeMap;

use moorline_plugin::schema::{HttpRequest, HttpResponse, Setup, Verified, VerifyRequest};
use moorline_plugin::{Answer, Host, Identity, Refusal};
use serde::Deserialize;
use serde_json::json;

moorline_plugin::declare!(identity Cloud);

/// How long the cloud may take to answer, milliseconds.
const PATIENCE_MS: u32 = 5_000;
/// How old a document may be, seconds.
const LIFE: i64 = 3_600;
/// How far the clocks of the cloud and the server may be apart, seconds.
const SKEW: i64 = 300;
/// When to try again if the cloud does not say, seconds.
const PAUSE: u64 = 30;

/// One provider of the server's configuration.
pub struct Cloud {
    verify_url: String,
    host: Host,
}

/// What the operator writes into the `[[identity]]` table.
#[derive(Deserialize)]
struct Settings {
    verify_url: String,
}

/// What the cloud says of a document that is its own.
#[derive(Deserialize)]
struct Proof {
    instance_id: String,
    #[serde(default)]
    region: String,
    issued_at: i64,
}

impl Identity for Cloud {
    const NAME: &'static str = "@NAME@";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    // The agent speaks as on Amazon's machines, so this is what it comes in by.
    const SERVES: &'static [&'static str] = &["aws"];

    fn create(setup: Setup, host: Host) -> Answer<Cloud> {
        let settings: Settings = serde_json::from_value(setup.settings)
            .map_err(|error| Refusal::invalid(format!("The settings are not good: {error}.")))?;
        Ok(Cloud {
            verify_url: settings.verify_url,
            host,
        })
    }

    fn verify(&self, request: VerifyRequest) -> Answer<Verified> {
        let field = |name: &str| {
            request
                .fields
                .get(name)
                .map(String::as_str)
                .filter(|text| !text.is_empty())
        };
        let (Some(document), Some(signature)) = (field("document"), field("signature")) else {
            return Err(Refusal::refused(
                "malformed",
                "The document or its signature is missing.",
            ));
        };
        let response = self.host.http(&HttpRequest {
            method: "POST".into(),
            url: self.verify_url.clone(),
            headers: vec![("Content-Type".into(), "application/json".into())],
            body: json!({ "document": document, "signature": signature })
                .to_string()
                .into_bytes(),
            timeout_ms: Some(PATIENCE_MS),
        })?;
        match response.status {
            200 => {}
            400 | 403 | 404 => {
                return Err(Refusal::refused(
                    "bad_signature",
                    "The cloud does not vouch for this document.",
                ));
            }
            429 | 503 => {
                return Err(Refusal::unavailable("busy", "The cloud is busy.")
                    .retry_after(pause(&response)));
            }
            status => {
                return Err(Refusal::unavailable(
                    "cloud",
                    format!("The cloud answered with status {status}."),
                ));
            }
        }
        let proof: Proof = serde_json::from_slice(&response.body)
            .map_err(|_| Refusal::unavailable("bad_reply", "The cloud's answer cannot be read."))?;
        let age = self.host.now().saturating_sub(proof.issued_at);
        if age < -SKEW {
            let ahead = age.saturating_neg();
            return Err(Refusal::refused(
                "clock_skew",
                format!("The document comes from {ahead} s ahead of our clock."),
            ));
        }
        if age > LIFE {
            return Err(Refusal::refused(
                "expired",
                format!("The document is {age} s old; {LIFE} are the most."),
            ));
        }
        Ok(Verified {
            instance_id: proof.instance_id,
            claims: BTreeMap::from([("region".into(), proof.region)]),
        })
    }
}

/// How long the cloud wants to be left alone, seconds.
fn pause(response: &HttpResponse) -> u64 {
    response
        .header("retry-after")
        .and_then(|text| text.parse().ok())
        .unwrap_or(PAUSE)
}

#[cfg(test)]
mod tests {
    use moorline_plugin::plugin::OfIdentity;
    use moorline_plugin::testing::{Recording, play};

    /// The same as `moorline plugin test LIBRARY --recording recordings`, without the library.
    #[test]
    fn behaves_as_recorded() {
        let recording =
            Recording::parse(include_str!("../recordings/cases.json")).expect("a recording");
        let wrong = play::<OfIdentity<super::Cloud>>(&recording);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
