//! Signed tokens that open one terminal: for a client that may not carry its session token to where the
//! terminal is. They end with the session with which they were asked for.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::credential::Credential;
use crate::model::{AgentId, Timestamp, UserId};

/// How long a token opens something; the real server's figure (coderd/workspaceapps/token.go, v2.24.0).
const LIFETIME: Duration = Duration::from_secs(60);
/// Bytes of a token that is looked at; ours have about 280.
const TOKEN_BYTES: usize = 1_024;

/// Makes and checks tokens.
pub struct SignedTerminals {
    key: hmac::Key,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    agent: AgentId,
    user: UserId,
    /// Id of the session token.
    session: String,
    as_admin: bool,
    /// Seconds since the epoch.
    exp: i64,
}

impl SignedTerminals {
    /// With a key that is secret and stays the same over restarts.
    pub fn new(key: &[u8; 64]) -> SignedTerminals {
        SignedTerminals { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// A token for terminals of `agent`, as whoever has `credential`.
    pub fn mint(&self, credential: &Credential, agent: AgentId, now: Timestamp) -> String {
        let claims = Claims {
            agent,
            user: credential.user,
            session: credential.key.clone(),
            as_admin: credential.as_admin,
            exp: now.plus(LIFETIME).to_parts().0,
        };
        // A struct of plain fields is always JSON.
        let claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).unwrap_or_default());
        let signature = hmac::sign(&self.key, claims.as_bytes());
        format!("{claims}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Who may open a terminal of `agent` with this token; what they may at present is another question.
    pub fn verify(&self, text: &str, agent: AgentId, now: Timestamp) -> Option<Credential> {
        if text.len() > TOKEN_BYTES {
            return None;
        }
        let (claims, signature) = text.split_once('.')?;
        hmac::verify(&self.key, claims.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let good = claims.agent == agent && now.to_parts().0 < claims.exp;
        good.then_some(Credential { user: claims.user, key: claims.session, as_admin: claims.as_admin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_terminals_of_its_agent_for_a_minute() {
        let (signed, other) = (SignedTerminals::new(&[1; 64]), SignedTerminals::new(&[2; 64]));
        let credential = Credential { user: UserId::random(), key: "a".repeat(10), as_admin: false };
        let (agent, now) = (AgentId::random(), Timestamp::now());
        let token = signed.mint(&credential, agent, now);
        assert_eq!(signed.verify(&token, agent, now.plus(Duration::from_secs(58))), Some(credential.clone()));
        assert_eq!(signed.verify(&token, agent, now.plus(Duration::from_secs(61))), None);
        assert_eq!(signed.verify(&token, AgentId::random(), now), None);
        assert_eq!(other.verify(&token, agent, now), None);
        for cut in 0..token.len() {
            assert_eq!(signed.verify(token.get(..cut).unwrap_or(""), agent, now), None);
        }
        assert_eq!(signed.verify(&format!("x{token}"), agent, now), None);
    }
}
