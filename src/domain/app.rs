//! What a running server consists of, as handlers see it.

use std::io;
use std::sync::Arc;

use uuid::Uuid;

use super::absent::Absent;
use super::clones::Clones;
use super::external_auth::Links;
use super::identity::Identities;
use super::presence::Presence;
use super::programs::Programs;
use super::signed_terminal::SignedTerminals;
use super::synthetic::Ids;
use super::trust;
use crate::config::regions::EMBEDDED_ID;
use crate::config::{Settings, limits};
use crate::model::{AgentId, Timestamp, UserId};
use crate::ops::budget::Budget;
use crate::ops::hub::Hub;
use crate::ops::jobs::Jobs;
use crate::ops::metrics::Metrics;
use crate::ops::places::Places;
use crate::plugins::Plugins;
use crate::store::Store;
use crate::tailnet::Tailnet;
use crate::tailnet::derp::Switch;
use crate::tailnet::derp_map::{DerpMap, Live};
use crate::tailnet::keys::Keys;
use crate::tailnet::peer::Peer;
use crate::tailnet::resume::ResumeKey;

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
    /// Who sees whom.
    pub tailnet: Tailnet,
    /// Lets clients keep their place in it.
    pub resume: ResumeKey,
    /// Opens terminals to those who bring no session.
    pub terminals: SignedTerminals,
    /// Node keys that the relay serves.
    pub keys: Keys,
    /// The relay.
    pub relay: Switch,
    /// The server's own place in the tailnet.
    pub peer: Peer,
    /// Peers that have lost their connection and may come back.
    pub absent: Absent,
    /// The relay map as it is now.
    pub derp_map: Live,
    /// Providers of machine identity and external sign-in.
    pub plugins: Plugins,
    /// Machines that signed in by their cloud's word.
    pub identities: Identities,
    /// Agents that two machines may be.
    pub clones: Clones,
    /// What is known of people's sign-ins at external providers.
    pub links: Links,
    /// Live streams of people, by person and by what they are about.
    pub watchers: Places<Uuid>,
    /// Answers that agents are giving to the server, and the memory of all of them.
    pub answers: Places<AgentId>,
    /// See above.
    pub answers_memory: Budget,
    /// Terminals of people.
    pub shells: Places<UserId>,
    /// The programs that machines and people download.
    pub programs: Programs,
    /// The `rpc-N` pool.
    pub jobs: Jobs,
    /// Counters.
    pub metrics: Metrics,
    /// When it began to serve.
    pub started_at: Timestamp,
}

/// The shared handle.
pub type Shared = Arc<App>;

impl App {
    /// A server on an open store, with nobody connected. `hub` is the one that the store publishes to.
    pub fn new(settings: Settings, access_url: String, store: Store, hub: Hub, jobs: Jobs) -> io::Result<App> {
        let (keys, metrics) = (Keys::default(), Metrics::new());
        let plugins = Plugins::new(&settings.providers, &store, &settings.program);
        if let Err(error) = trust::install(&store, &plugins) {
            log::error!("the imported trust anchors cannot be read: {error}");
        }
        let tailnet = Tailnet::new(keys.clone());
        let relay = Switch::new(keys.clone(), metrics.relay.clone(), limits::RELAY_STRANGERS);
        Ok(App {
            peer: Peer::start(tailnet.clone(), relay.clone(), EMBEDDED_ID, metrics.peer.clone())?,
            deployment_id: store.deployment_id(),
            presence: Presence::default(),
            absent: Absent::default(),
            tailnet,
            terminals: SignedTerminals::new(&store.sealer().derive("signed terminal token")),
            resume: ResumeKey::new(&store.sealer().derive("tailnet resume token")),
            relay,
            keys,
            derp_map: Live::new(DerpMap::of(&access_url, &settings)),
            plugins,
            identities: Identities::default(),
            clones: Clones::default(),
            links: Links::new(&settings.providers),
            watchers: Places::default(),
            answers: Places::default(),
            answers_memory: Budget::new(limits::ANSWERS_MEMORY),
            shells: Places::default(),
            programs: Programs::new(settings.bin_dir.clone()),
            metrics,
            started_at: Timestamp::now(),
            settings,
            access_url,
            store,
            hub,
            jobs,
        })
    }

    /// The ids of what clients expect to exist and nobody made.
    pub fn ids(&self) -> Ids {
        Ids::of(self.deployment_id)
    }

    /// The one organisation that clients expect every person to be in.
    pub fn organization_id(&self) -> Uuid {
        self.ids().organization
    }
}
