//! What the server's own peer and an agent know of each other: keys and addresses.

use std::io;
use std::net::Ipv6Addr;

use boringtun::x25519::{PublicKey, StaticSecret};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::model::{NodeKey, Timestamp, hex};
use crate::wire::derp::KEY_BYTES;
use crate::wire::proto::google;
use crate::wire::proto::tailnet::Node as Announced;

/// What the agent has announced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Remote {
    /// Its WireGuard key.
    pub(super) key: NodeKey,
    /// Its disco key.
    pub(super) disco: [u8; 32],
    /// Its home.
    pub(super) region: i32,
}

/// What links need of the peer's own node.
pub(super) struct Own {
    pub(super) secret: StaticSecret,
    /// The public half.
    pub(super) key: NodeKey,
    pub(super) disco: crypto_box::SecretKey,
    pub(super) address: Ipv6Addr,
    pub(super) region: u16,
}

/// Fresh keys: nobody remembers the server's peer from before.
pub(super) fn own(random: &SystemRandom, region: u16, address: Ipv6Addr) -> io::Result<Own> {
    let mut bytes = Zeroizing::new([0; 32]);
    let fill = |bytes: &mut [u8]| random.fill(bytes).map_err(|_| io::Error::other("the system has no randomness"));
    fill(bytes.as_mut())?;
    let secret = StaticSecret::from(*bytes);
    fill(bytes.as_mut())?;
    let disco = crypto_box::SecretKey::from(*bytes);
    let key = NodeKey(PublicKey::from(&secret).to_bytes());
    Ok(Own { secret, key, disco, address, region })
}

/// What agents are told of this node: it is reached through the relay only.
pub(super) fn announcement(own: &Own) -> Announced {
    let (seconds, nanos) = Timestamp::now().to_parts();
    let prefix = format!("{}/128", own.address);
    Announced {
        id: 1,
        as_of: Some(google::Timestamp { seconds, nanos }),
        key: [b"np".as_slice(), &own.key.0].concat(),
        disco: format!("discokey:{}", hex(own.disco.public_key().as_bytes())),
        preferred_derp: i32::from(own.region),
        addresses: vec![prefix.clone()],
        allowed_ips: vec![prefix],
        ..Announced::default()
    }
}

/// What matters of an agent's node; [`super::super::admission`] has looked at it.
pub(super) fn remote(node: &Announced) -> Option<Remote> {
    let key = node.key.strip_prefix(b"np")?.try_into().ok()?;
    let digits = node.disco.strip_prefix("discokey:")?;
    let mut disco = [0; KEY_BYTES];
    if digits.len() != 2 * KEY_BYTES || !digits.is_ascii() {
        return None;
    }
    for (at, byte) in disco.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(Remote { key: NodeKey(key), disco, region: node.preferred_derp })
}
