//! What a running server consists of, as handlers see it.

use std::sync::Arc;

use uuid::Uuid;

use super::presence::Presence;
use crate::config::{Settings, limits};
use crate::ops::hub::Hub;
use crate::ops::jobs::Jobs;
use crate::ops::metrics::Metrics;
use crate::store::Store;
use crate::tailnet::derp::Switch;
use crate::tailnet::derp_map::{DerpMap, Live};
use crate::tailnet::keys::Keys;
use crate::tailnet::nodes::Nodes;

/// The parts of a running server. Made once by `cli/serve`, shared by all threads.
pub struct App {
    /// What the operator chose.
    pub settings: Settings,
    /// How clients reach the server: scheme, host, port, no trailing slash.
    pub access_url: String,
    /// Stable id of this file.
    pub deployment_id: Uuid,
    /// The file.
    pub store: Store,
    /// Who wants to know about changes.
    pub hub: Hub,
    /// Which agents are connected at present.
    pub presence: Presence,
    /// What agents last said about their place in the tailnet.
    pub nodes: Nodes,
    /// Node keys that the relay serves.
    pub keys: Keys,
    /// The relay.
    pub relay: Switch,
    /// The relay map as it is now.
    pub derp_map: Live,
    /// The `rpc-N` pool.
    pub jobs: Jobs,
    /// Counters.
    pub metrics: Metrics,
}

/// The shared handle.
pub type Shared = Arc<App>;

impl App {
    /// A server on an open store, with nobody connected. `hub` is the one that the store publishes to.
    pub fn new(settings: Settings, access_url: String, store: Store, hub: Hub, jobs: Jobs) -> App {
        let (keys, metrics) = (Keys::default(), Metrics::new());
        App {
            deployment_id: store.deployment_id(),
            presence: Presence::default(),
            nodes: Nodes::default(),
            relay: Switch::new(keys.clone(), metrics.relay.clone(), limits::RELAY_STRANGERS),
            keys,
            derp_map: Live::new(DerpMap::of(&access_url, &settings)),
            metrics,
            settings,
            access_url,
            store,
            hub,
            jobs,
        }
    }

    /// The one organisation that clients expect every person to be in: derived from the
    /// deployment, so that it never changes and is never stored.
    pub fn organization_id(&self) -> Uuid {
        let mut seed = self.deployment_id.as_bytes().to_vec();
        seed.extend_from_slice(b"organization");
        let digest = super::tokens::hash(&seed);
        let bytes = digest.first_chunk::<16>().copied().unwrap_or_default();
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}
