//! Tokens: how they are made, what of them is kept.

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use uuid::Uuid;

use super::{Error, Fault};
use crate::model::AgentId;
use crate::store::Sealer;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Characters of a session token's id, before the `-`; clients split there (`tokens rm`).
pub const KEY_ID_CHARS: usize = 10;
/// Characters of a session token's secret: 131 bits.
pub const KEY_SECRET_CHARS: usize = 22;

/// A fresh session token, `ID-SECRET`.
pub struct SessionToken {
    /// Stored as it is.
    pub id: String,
    /// Stored as SHA-256.
    pub secret: String,
}

impl SessionToken {
    /// A random one.
    pub fn mint() -> Result<SessionToken, Error> {
        Ok(SessionToken { id: random_text(KEY_ID_CHARS)?, secret: random_text(KEY_SECRET_CHARS)? })
    }

    /// Splits what a client sent, if it has the shape of a session token.
    pub fn parse(text: &str) -> Option<SessionToken> {
        let (id, secret) = text.split_once('-')?;
        (id.len() == KEY_ID_CHARS && secret.len() == KEY_SECRET_CHARS && !secret.contains('-'))
            .then(|| SessionToken { id: id.to_owned(), secret: secret.to_owned() })
    }

    /// What is stored of the secret.
    pub fn secret_hash(&self) -> Vec<u8> {
        hash(self.secret.as_bytes())
    }
}

impl std::fmt::Display for SessionToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.id, self.secret)
    }
}

/// SHA-256.
pub fn hash(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

/// What is stored of an agent token.
pub fn agent_token_hash(token: Uuid) -> Vec<u8> {
    hash(token.as_bytes())
}

/// Random letters and digits, without modulo bias.
pub fn random_text(length: usize) -> Result<String, Error> {
    let random = SystemRandom::new();
    let mut text = String::with_capacity(length);
    let mut bytes = [0_u8; 64];
    while text.len() < length {
        random.fill(&mut bytes).map_err(|_| Error::new(Fault::Internal, "The system gives no randomness."))?;
        for byte in bytes {
            // 248 = 4 × 62: bytes above it would make the first letters more likely.
            if byte < 248
                && text.len() < length
                && let Some(&letter) = ALPHABET.get(usize::from(byte) % ALPHABET.len())
            {
                text.push(char::from(letter));
            }
        }
    }
    Ok(text)
}

/// A fresh agent token: itself, what is stored for sign-in, and what is stored to show it again.
pub struct AgentToken {
    /// What the machine sends.
    pub token: Uuid,
    /// Column `token_hash`.
    pub hash: Vec<u8>,
    /// Column `token_sealed`.
    pub sealed: Vec<u8>,
}

/// Makes a token for `agent`, sealed for its row.
pub fn mint_agent_token(sealer: &Sealer, agent: AgentId) -> Result<AgentToken, Error> {
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::new(Fault::Internal, "The system gives no randomness."))?;
    // Agents check that their token has the form of a UUID; that costs 6 of 128 bits.
    let token = uuid::Builder::from_random_bytes(bytes).into_uuid();
    let sealed = sealer
        .seal("agents", "token_sealed", agent.as_bytes(), token.as_bytes())
        .map_err(|error| Error::new(Fault::Internal, "The token could not be sealed.").detail(error.to_string()))?;
    Ok(AgentToken { token, hash: agent_token_hash(token), sealed })
}

/// The token of `agent` out of its column `token_sealed`.
pub fn open_agent_token(sealer: &Sealer, agent: AgentId, sealed: &[u8]) -> Result<Uuid, Error> {
    let plain = sealer
        .open_sealed("agents", "token_sealed", agent.as_bytes(), sealed)
        .map_err(|error| Error::new(Fault::Internal, "The token could not be opened.").detail(error.to_string()))?;
    Uuid::from_slice(&plain).map_err(|_| Error::new(Fault::Internal, "The sealed token is damaged."))
}
