//! Disco, by which peers probe the paths between them: of it, what a peer needs that is reached through the
//! relay only.
//!
//! A packet is `magic (6) | sender's disco key (32) | nonce (24) | box (16 + message)`. A message is
//! `kind | version | body`, and may be longer than that: receivers look at no version, and at nothing behind
//! the fields that they know (disco/disco.go of coder/tailscale, as in v2.24.0).

use std::net::{Ipv4Addr, SocketAddrV4};

use crypto_box::SalsaBox;
use crypto_box::aead::{Aead, AeadInPlace};

use super::derp::{DISCO_MAGIC, KEY_BYTES};

/// Random bytes before the box.
pub const NONCE_BYTES: usize = 24;
/// What marks one ping, and its answer.
pub const TX_BYTES: usize = 12;
/// Before the box.
const HEAD_BYTES: usize = DISCO_MAGIC.len() + KEY_BYTES + NONCE_BYTES;

const PING: u8 = 1;
const PONG: u8 = 2;
/// The address that stands for "through the relay"; the port is the region's id.
const THROUGH_RELAY: Ipv4Addr = Ipv4Addr::new(127, 3, 3, 40);

/// What one peer has sealed for another.
pub struct Seal {
    shared: SalsaBox,
    own: [u8; KEY_BYTES],
}

impl Seal {
    /// Between the owner of `secret` and the one of the public key `peer`.
    pub fn new(secret: &crypto_box::SecretKey, peer: [u8; KEY_BYTES]) -> Seal {
        Seal { shared: SalsaBox::new(&crypto_box::PublicKey::from(peer), secret), own: *secret.public_key().as_bytes() }
    }

    /// The mark of a ping; `None` if the packet is anything else, or not from that peer.
    pub fn ping(&self, packet: &[u8]) -> Option<[u8; TX_BYTES]> {
        let (head, sealed) = packet.split_at_checked(HEAD_BYTES)?;
        let (_, nonce) = head.split_last_chunk::<NONCE_BYTES>()?;
        let message = self.shared.decrypt(nonce.into(), sealed).ok()?;
        match message.as_slice() {
            [PING, _, body @ ..] => body.first_chunk().copied(),
            _ => None,
        }
    }

    /// Appends the answer to a ping that came through the relay of `region`.
    pub fn pong(&self, tx: [u8; TX_BYTES], region: u16, nonce: [u8; NONCE_BYTES], out: &mut Vec<u8>) {
        let through = SocketAddrV4::new(THROUGH_RELAY, region);
        let mut message = vec![PONG, 0];
        message.extend_from_slice(&tx);
        message.extend_from_slice(&through.ip().to_ipv6_mapped().octets());
        message.extend_from_slice(&through.port().to_be_bytes());
        // NaCl puts the tag before the text. Sealing fails only for texts of many gigabytes.
        let tag = self.shared.encrypt_in_place_detached((&nonce).into(), &[], &mut message).unwrap_or_default();
        for part in [DISCO_MAGIC.as_slice(), &self.own, &nonce, tag.as_slice(), &message] {
            out.extend_from_slice(part);
        }
    }
}

/// The disco key of a packet's sender, if it looks like one.
pub fn sender(packet: &[u8]) -> Option<[u8; KEY_BYTES]> {
    packet.strip_prefix(&DISCO_MAGIC)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    /// Keys and packets of vector 11.2: outputs of the release's own packages.
    const PING_PACKET: &str = "5453f09f92ac605a725d2a4adfeeb1a29e17edd621c1b7593ee8cdbc44ac6c4ab6e2f805d23c101112131415161718191a1b1c1d1e1f2021222324252627b58b7a59b956103609571be22d20d555229d1e634b552f6ce0d0490118f3aff407e65d75b7ceff708bc02c414f7a2dabec9b64c5cc21f8a19e302897f849";
    const PONG_PACKET: &str = "5453f09f92acdc2cca31e8e43bbd91dff7e475cca3347eb478107d5bd765aba4ae4a30c35d44303132333435363738393a3b3c3d3e3f4041424344454647b0c4ab4475cb106cb4e9f97e87bc132d9518b17ed39cbda5d3dcc1d7647cc89d41d1c1db2e71e41dc2b3d624aa3e209d";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn secret(first: u8) -> crypto_box::SecretKey {
        crypto_box::SecretKey::from(std::array::from_fn::<u8, KEY_BYTES, _>(|at| first + u8::try_from(at).unwrap()))
    }

    #[test]
    fn answers_a_ping_as_the_real_client_does() {
        let (a, b) = (secret(0xa0), secret(0xc0));
        let ping = bytes(PING_PACKET);
        assert_eq!(sender(&ping), Some(*a.public_key().as_bytes()));
        let seal = Seal::new(&b, *a.public_key().as_bytes());
        let tx = seal.ping(&ping).unwrap();
        assert_eq!(tx, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        let mut pong = Vec::new();
        seal.pong(tx, 999, std::array::from_fn(|at| 0x30 + u8::try_from(at).unwrap()), &mut pong);
        assert_eq!(pong, bytes(PONG_PACKET));
        assert!(Seal::new(&a, *b.public_key().as_bytes()).ping(&pong).is_none(), "not a ping");
    }

    #[test]
    fn takes_nothing_that_is_not_sealed_by_the_peer() {
        let (a, b) = (secret(0xa0), secret(0xc0));
        let seal = Seal::new(&b, *a.public_key().as_bytes());
        let mut ping = bytes(PING_PACKET);
        for length in 0..ping.len() {
            assert!(seal.ping(&ping[..length]).is_none());
        }
        *ping.last_mut().unwrap() ^= 1;
        assert!(seal.ping(&ping).is_none());
        assert!(sender(b"TS").is_none());
    }
}
