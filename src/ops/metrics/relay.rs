//! What the relay counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type ByReason = Family<[(&'static str, &'static str); 1], Counter>;

/// Why a packet was not forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drop {
    /// The coordinator does not know the source's or the destination's key.
    Stranger,
    /// The destination has no connection here.
    NotHere,
    /// Too much waits for the destination: the oldest packet went.
    Full,
    /// The sender is over its rate.
    Rate,
}

impl Drop {
    fn name(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::NotHere => "not_here",
            Self::Full => "full",
            Self::Rate => "rate",
        }
    }
}

/// Why the relay ended a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Its greeting was late or wrong.
    Greeting,
    /// It sent a frame that it must not send.
    Protocol,
    /// Nothing was heard of it for long.
    Silent,
    /// It took nothing of what the relay had to tell it.
    Overrun,
    /// Its key stayed unknown.
    Stranger,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Protocol => "protocol",
            Self::Silent => "silent",
            Self::Overrun => "overrun",
            Self::Stranger => "stranger",
        }
    }
}

/// The relay's counters. Cloning gives other handles to the same ones.
#[derive(Clone, Default)]
pub struct RelayMetrics {
    /// Connections that have said who they are.
    pub connections: Gauge,
    /// Of these, those whose home this relay is.
    pub homes: Gauge,
    /// Packets forwarded.
    pub packets: Counter,
    /// Bytes of these, without heads.
    pub bytes: Counter,
    /// Connections that were not let in because their address has too many of unknown keys.
    pub refused: Counter,
    dropped: ByReason,
    ended: ByReason,
}

impl RelayMetrics {
    /// All at zero.
    pub fn new(registry: &mut Registry) -> RelayMetrics {
        let all = RelayMetrics::default();
        registry.register(
            "relay_connections",
            "Relay connections that have said who they are",
            all.connections.clone(),
        );
        registry.register("relay_homes", "Relay connections of peers whose home this relay is", all.homes.clone());
        registry.register("relay_packets", "Packets forwarded by the relay", all.packets.clone());
        registry.register("relay_bytes", "Bytes of packets forwarded by the relay", all.bytes.clone());
        registry.register(
            "relay_refused",
            "Relay connections refused because their address has too many of unknown keys",
            all.refused.clone(),
        );
        registry.register("relay_dropped", "Packets that the relay dropped, by reason", all.dropped.clone());
        registry.register("relay_ended", "Connections that the relay ended, by reason", all.ended.clone());
        all
    }

    /// So many packets were not forwarded.
    pub fn dropped(&self, why: Drop, count: u64) {
        self.dropped.get_or_create(&[("reason", why.name())]).inc_by(count);
    }

    /// A connection is being ended.
    pub fn ended(&self, why: End) {
        self.ended.get_or_create(&[("reason", why.name())]).inc();
    }

    /// How many packets were not forwarded for this reason.
    pub fn count_dropped(&self, why: Drop) -> u64 {
        self.dropped.get_or_create(&[("reason", why.name())]).get()
    }

    /// How many connections were ended for this reason.
    pub fn count_ended(&self, why: End) -> u64 {
        self.ended.get_or_create(&[("reason", why.name())]).get()
    }
}
