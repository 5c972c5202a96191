//! The relay map: where agents and clients find the relay.
//!
//! One region with one node, this server itself. An agent puts host, port and scheme of its own
//! server URL in place of ours (codersdk/agentsdk/agentsdk.go RewriteDERPMap, v2.24.0); clients take
//! ours as it is, so it comes from the access URL.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value, json};

use crate::config::Settings;
use crate::wire::proto::tailnet as proto;

/// The embedded region's id; stable, since clients find a new home when it changes.
pub const REGION_ID: i64 = 999;
const REGION_CODE: &str = "coder";
const REGION_NAME: &str = "Coder Embedded Relay";
const NODE_NAME: &str = "999b";
/// No STUN on the node: nobody learns a public address from us yet.
const NO_STUN: i32 = -1;

/// The map, in the few words that can differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DerpMap {
    host: String,
    port: i32,
    plain_http: bool,
}

/// The map as it is now. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Live(Arc<RwLock<Arc<DerpMap>>>);

impl Live {
    /// Begins with `map`.
    pub fn new(map: DerpMap) -> Live {
        Live(Arc::new(RwLock::new(Arc::new(map))))
    }

    /// The map at this moment.
    pub fn now(&self) -> Arc<DerpMap> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts `map` in place; says whether it differs. Whoever calls tells [`crate::ops::hub::Topic::DerpMap`].
    pub fn set(&self, map: DerpMap) -> bool {
        let mut present = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let differs = **present != map;
        *present = Arc::new(map);
        differs
    }
}

impl DerpMap {
    /// The map of a server that is reached at `access_url` (scheme, host, port; validated at start).
    pub fn of(access_url: &str, _settings: &Settings) -> DerpMap {
        let plain_http = access_url.starts_with("http://");
        let rest = access_url.split_once("://").map_or(access_url, |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let default = if plain_http { 80 } else { 443 };
        let port = port.and_then(|port| port.parse::<u16>().ok()).map_or(default, i32::from);
        DerpMap { host: host.to_owned(), port, plain_http }
    }

    /// What people call each region.
    pub fn region_names(&self) -> HashMap<i32, String> {
        HashMap::from([(i32::try_from(REGION_ID).unwrap_or(0), REGION_NAME.to_owned())])
    }

    /// As REST and the `derp-map` stream show it, with Go's capital member names and without the
    /// members that are zero (fork tailcfg/derpmap.go).
    pub fn json(&self) -> Value {
        let mut node = json!({
            "Name": NODE_NAME,
            "RegionID": REGION_ID,
            "HostName": self.host,
            "STUNPort": NO_STUN,
            "DERPPort": self.port,
        });
        if self.plain_http
            && let Some(node) = node.as_object_mut()
        {
            node.insert("ForceHTTP".into(), Value::Bool(true));
        }
        json!({
            "Regions": {
                REGION_ID.to_string(): {
                    "EmbeddedRelay": true,
                    "RegionID": REGION_ID,
                    "RegionCode": REGION_CODE,
                    "RegionName": REGION_NAME,
                    "Nodes": [node],
                },
            },
        })
    }

    /// As agents get it. `home_params` is present though empty: agents dereference it without a
    /// check and crash when it is missing (tailnet/convert.go DERPMapFromProto, v2.24.0).
    pub fn proto(&self) -> proto::DerpMap {
        let node = proto::derp_map::region::Node {
            name: NODE_NAME.into(),
            region_id: REGION_ID,
            host_name: self.host.clone(),
            stun_port: NO_STUN,
            derp_port: self.port,
            force_http: self.plain_http,
            ..Default::default()
        };
        let region = proto::derp_map::Region {
            region_id: REGION_ID,
            embedded_relay: true,
            region_code: REGION_CODE.into(),
            region_name: REGION_NAME.into(),
            avoid: false,
            nodes: vec![node],
        };
        proto::DerpMap {
            home_params: Some(proto::derp_map::HomeParams::default()),
            regions: BTreeMap::from([(REGION_ID, region)]),
        }
    }
}
