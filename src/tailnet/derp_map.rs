//! The relay map: where agents and clients find relays.
//!
//! The embedded region is this server itself. An agent puts host, port and scheme of its own
//! server URL in place of ours (codersdk/agentsdk/agentsdk.go RewriteDERPMap, v2.24.0); clients take
//! ours as it is, so it comes from the access URL. Further regions come from the configuration.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Map, Value, json};

use crate::config::Settings;
use crate::config::regions::{self, EMBEDDED_ID, FIRST_STUN_ID};
use crate::wire::proto::tailnet as proto;

/// The embedded region's id; stable, since clients find a new home when it changes.
pub const REGION_ID: i64 = EMBEDDED_ID as i64;
const REGION_CODE: &str = "coder";
const REGION_NAME: &str = "Coder Embedded Relay";
const NODE_NAME: &str = "999b";
/// No STUN on a node.
const NO_STUN: i32 = -1;

/// The map.
#[derive(Clone, PartialEq, Debug)]
pub struct DerpMap {
    regions: BTreeMap<i64, proto::derp_map::Region>,
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
    pub fn of(access_url: &str, settings: &Settings) -> DerpMap {
        let mut all = vec![embedded(access_url)];
        all.extend(settings.derp_regions.iter().map(configured));
        if settings.disable_direct_connections {
            // A public address is of no use to peers that may not connect directly.
            for region in &mut all {
                region.nodes.retain(|node| !node.stun_only);
                region.nodes.iter_mut().for_each(|node| node.stun_port = NO_STUN);
            }
            all.retain(|region| !region.nodes.is_empty());
        } else {
            all.extend((FIRST_STUN_ID..).zip(&settings.stun_addresses).map(stun));
        }
        DerpMap { regions: all.into_iter().map(|region| (region.region_id, region)).collect() }
    }

    /// What people call each region.
    pub fn region_names(&self) -> HashMap<i32, String> {
        let name = |region: &proto::derp_map::Region| {
            Some((i32::try_from(region.region_id).ok()?, region.region_name.clone()))
        };
        self.regions.values().filter_map(name).collect()
    }

    /// As REST and the `derp-map` stream show it, with Go's capital member names and without the
    /// members that are zero (fork tailcfg/derpmap.go).
    pub fn json(&self) -> Value {
        let regions: Map<String, Value> =
            self.regions.iter().map(|(id, region)| (id.to_string(), region_json(region))).collect();
        json!({ "Regions": regions })
    }

    /// As agents get it. `home_params` is present though empty: agents dereference it without a
    /// check and crash when it is missing (tailnet/convert.go DERPMapFromProto, v2.24.0).
    pub fn proto(&self) -> proto::DerpMap {
        proto::DerpMap { home_params: Some(proto::derp_map::HomeParams::default()), regions: self.regions.clone() }
    }
}

/// This server's own region.
fn embedded(access_url: &str) -> proto::derp_map::Region {
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
    let node = proto::derp_map::region::Node {
        name: NODE_NAME.into(),
        region_id: REGION_ID,
        host_name: host.to_owned(),
        stun_port: NO_STUN,
        derp_port: port.and_then(|port| port.parse::<u16>().ok()).map_or(default, i32::from),
        force_http: plain_http,
        ..Default::default()
    };
    proto::derp_map::Region {
        region_id: REGION_ID,
        embedded_relay: true,
        region_code: REGION_CODE.into(),
        region_name: REGION_NAME.into(),
        avoid: false,
        nodes: vec![node],
    }
}

/// A region of the configuration.
fn configured(region: &regions::Region) -> proto::derp_map::Region {
    let region_id = i64::from(region.id);
    let node = |node: &regions::Node| proto::derp_map::region::Node {
        name: node.name.clone(),
        region_id,
        host_name: node.host.clone(),
        cert_name: node.cert_name.clone(),
        ipv4: node.ipv4.clone(),
        ipv6: node.ipv6.clone(),
        stun_port: if node.stun_port == 0 { NO_STUN } else { i32::from(node.stun_port) },
        stun_only: node.stun_only,
        derp_port: i32::from(node.port),
        force_http: node.force_http,
        ..Default::default()
    };
    proto::derp_map::Region {
        region_id,
        embedded_relay: false,
        region_code: region.code.clone(),
        region_name: region.name.clone(),
        avoid: region.avoid,
        nodes: region.nodes.iter().map(node).collect(),
    }
}

/// A STUN server's own region, named as the real server names it (tailnet/derpmap.go STUNRegions).
fn stun((id, (host, port)): (u16, &(String, u16))) -> proto::derp_map::Region {
    let region_id = i64::from(id);
    let node = proto::derp_map::region::Node {
        name: format!("{id}stun0"),
        region_id,
        host_name: host.clone(),
        stun_port: i32::from(*port),
        stun_only: true,
        ..Default::default()
    };
    proto::derp_map::Region {
        region_id,
        embedded_relay: false,
        region_code: format!("coder_stun_{id}"),
        region_name: format!("Coder STUN {id}"),
        avoid: false,
        nodes: vec![node],
    }
}

fn region_json(region: &proto::derp_map::Region) -> Value {
    let mut json = json!({
        "EmbeddedRelay": region.embedded_relay,
        "RegionID": region.region_id,
        "RegionCode": region.region_code,
        "RegionName": region.region_name,
    });
    if let Some(json) = json.as_object_mut() {
        if region.avoid {
            json.insert("Avoid".into(), true.into());
        }
        json.insert("Nodes".into(), region.nodes.iter().map(node_json).collect());
    }
    json
}

fn node_json(node: &proto::derp_map::region::Node) -> Value {
    let mut json = Map::new();
    let mut put = |name: &str, value: Value, is_zero: bool| {
        if !is_zero {
            json.insert(name.to_owned(), value);
        }
    };
    put("Name", node.name.as_str().into(), false);
    put("RegionID", node.region_id.into(), false);
    put("HostName", node.host_name.as_str().into(), false);
    put("CertName", node.cert_name.as_str().into(), node.cert_name.is_empty());
    put("IPv4", node.ipv4.as_str().into(), node.ipv4.is_empty());
    put("IPv6", node.ipv6.as_str().into(), node.ipv6.is_empty());
    put("STUNPort", node.stun_port.into(), node.stun_port == 0);
    put("STUNOnly", node.stun_only.into(), !node.stun_only);
    put("DERPPort", node.derp_port.into(), node.derp_port == 0);
    put("ForceHTTP", node.force_http.into(), !node.force_http);
    Value::Object(json)
}
