//! The instance identity document.

use std::collections::BTreeMap;

use moorline_plugin::{Answer, Refusal};
use serde_json::Value;

/// Members that the audit log may keep.
const CLAIMS: [&str; 4] = ["accountId", "region", "availabilityZone", "privateIp"];
/// Longest value of a claim that is handed on, bytes.
const CLAIM_BYTES: usize = 128;

/// What is read of it.
pub(crate) struct Document {
    /// E.g. `i-076e9b91f7c420782`.
    pub(crate) instance_id: String,
    /// As it claims, or empty.
    pub(crate) region: String,
    /// Shown to the operator.
    pub(crate) claims: BTreeMap<String, String>,
}

impl Document {
    /// The metadata service's error pages arrive here too, since the agent does not look at its statuses.
    pub(crate) fn parse(text: &str) -> Answer<Document> {
        let refuse = |message: &str| Refusal::refused("malformed", message);
        let value: Value = serde_json::from_str(text).map_err(|_| {
            refuse("The document is not JSON; the machine's metadata service may have answered with an error page.")
        })?;
        let members = value.as_object().ok_or_else(|| refuse("The document is not a JSON object."))?;
        // The real server takes the name in any case; of several, the last counts.
        let id = members.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case("instanceId")).map(|(_, id)| id);
        let instance_id = match id {
            Some(Value::String(id)) if !id.is_empty() => id.clone(),
            Some(_) => return Err(refuse("The document's instanceId is not a text.")),
            None => return Err(refuse("The document has no instanceId.")),
        };
        let claims: BTreeMap<String, String> = CLAIMS
            .iter()
            .filter_map(|name| {
                let text = members.get(*name)?.as_str()?;
                Some(((*name).to_owned(), text.get(..CLAIM_BYTES).unwrap_or(text).to_owned()))
            })
            .collect();
        let region = claims.get("region").cloned().unwrap_or_default();
        Ok(Document { instance_id, region, claims })
    }
}
