//! Tokens: how they are made, what of them is kept.

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use uuid::Uuid;

use super::{Error, Fault};

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
