//! The relay map.

use serde_json::{Value, json};

use crate::config::Settings;

/// The relay map.
pub struct DerpMap(Value);

impl DerpMap {
    /// The map of a server that is reached at `access_url`.
    pub fn of(access_url: &str, _settings: &Settings) -> DerpMap {
        let (scheme, rest) = access_url.split_once("://").unwrap_or(("http", access_url));
        let (host, port) = rest.rsplit_once(':').unwrap_or((rest, if scheme == "https" { "443" } else { "80" }));
        let mut node = json!({"Name": "999b", "RegionID": 999, "HostName": host, "STUNPort": -1,
            "DERPPort": port.parse::<u16>().unwrap_or(0)});
        if scheme == "http"
            && let Some(node) = node.as_object_mut()
        {
            node.insert("ForceHTTP".into(), true.into());
        }
        DerpMap(json!({"Regions": {"999": {"EmbeddedRelay": true, "RegionID": 999, "RegionCode": "coder",
            "RegionName": "Embedded Relay", "Nodes": [node]}}}))
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        self.0.clone()
    }
}
