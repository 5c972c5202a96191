//! The greetings: who a client is, proven by a NaCl box, and what the server answers.

use std::fmt;

use crypto_box::SalsaBox;
use crypto_box::aead::{Aead, AeadInPlace};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{HEAD_BYTES, KEY_BYTES, MAGIC, VERSION, frame, kind};
use crate::model::NodeKey;

/// Random bytes before a box.
const NONCE_BYTES: usize = 24;
/// What a box is longer than its content.
const TAG_BYTES: usize = 16;

/// The relay's own key.
pub struct SecretKey {
    secret: crypto_box::SecretKey,
    public: NodeKey,
}

/// What a client says of itself: an object whose members are for meshes and probes. All of them may be
/// missing (derp/derp_server.go recvClientKey).
#[derive(Deserialize)]
struct Said {}

/// A client's greeting, opened.
pub struct ClientInfo {
    /// Who it is: it has the private half.
    pub key: NodeKey,
    /// What both sides can seal for each other.
    pub greeting: Greeting,
}

/// Makes the answer to a client's greeting.
pub struct Greeting(SalsaBox);

/// A client's greeting that cannot be opened or understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreadable {
    /// Too short for key, nonce and box.
    Short,
    /// It was not sealed for this server by that key.
    Sealed,
    /// What was sealed is not the JSON that it should be.
    Json,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "The greeting is too short.",
            Self::Sealed => "The greeting was not sealed by the key that it names for this relay.",
            Self::Json => "The greeting is not the JSON object that it should be.",
        })
    }
}

#[derive(Serialize)]
struct ServerSays {
    version: u8,
    #[serde(rename = "TokenBucketBytesPerSecond", skip_serializing_if = "is_zero")]
    bytes_per_second: u64,
    #[serde(rename = "TokenBucketBytesBurst", skip_serializing_if = "is_zero")]
    burst: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl SecretKey {
    /// The key whose private half these random bytes are.
    pub fn new(bytes: &Zeroizing<[u8; KEY_BYTES]>) -> SecretKey {
        let secret = crypto_box::SecretKey::from(**bytes);
        let public = NodeKey(*secret.public_key().as_bytes());
        SecretKey { secret, public }
    }

    /// Its public half.
    pub fn public(&self) -> NodeKey {
        self.public
    }

    /// Writes what a server says first.
    pub fn server_key(&self, out: &mut Vec<u8>) {
        let mut payload = [0; MAGIC.len() + KEY_BYTES];
        let (magic, key) = payload.split_at_mut(MAGIC.len());
        magic.copy_from_slice(&MAGIC);
        key.copy_from_slice(&self.public.0);
        frame(kind::SERVER_KEY, &payload, out);
    }

    /// Opens a client's greeting.
    pub fn open(&self, payload: &[u8]) -> Result<ClientInfo, Unreadable> {
        let (key, rest) = payload.split_first_chunk::<KEY_BYTES>().ok_or(Unreadable::Short)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(Unreadable::Short)?;
        let seal = SalsaBox::new(&crypto_box::PublicKey::from(*key), &self.secret);
        let json = seal.decrypt(nonce.into(), sealed).map_err(|_| Unreadable::Sealed)?;
        let Said {} = serde_json::from_slice(&json).map_err(|_| Unreadable::Json)?;
        Ok(ClientInfo { key: NodeKey(*key), greeting: Greeting(seal) })
    }
}

impl Greeting {
    /// Writes the server's answer. A client holds itself to the rate, unless that is 0.
    pub fn server_info(&self, nonce: [u8; NONCE_BYTES], bytes_per_second: u64, burst: u64, out: &mut Vec<u8>) {
        let says = ServerSays { version: VERSION, bytes_per_second, burst };
        let json = serde_json::to_vec(&says).unwrap_or_default();
        self.sealed(kind::SERVER_INFO, &[], nonce, json, out);
    }

    /// Writes a frame: what is in clear, the nonce, the box.
    fn sealed(&self, kind: u8, clear: &[u8], nonce: [u8; NONCE_BYTES], mut text: Vec<u8>, out: &mut Vec<u8>) {
        // NaCl puts the tag before the text. Sealing fails only for texts of many gigabytes.
        let tag = self.0.encrypt_in_place_detached((&nonce).into(), &[], &mut text).unwrap_or_default();
        let mut payload = Vec::with_capacity(clear.len() + NONCE_BYTES + TAG_BYTES + text.len() + HEAD_BYTES);
        for part in [clear, &nonce, tag.as_slice(), &text] {
            payload.extend_from_slice(part);
        }
        frame(kind, &payload, out);
    }

    /// Writes a client's greeting to the relay with the public key `relay`, as clients do.
    pub fn client_info(own: &SecretKey, relay: &NodeKey, nonce: [u8; NONCE_BYTES], json: &[u8], out: &mut Vec<u8>) {
        let seal = Greeting(SalsaBox::new(&crypto_box::PublicKey::from(relay.0), &own.secret));
        seal.sealed(kind::CLIENT_INFO, &own.public.0, nonce, json.to_vec(), out);
    }
}
