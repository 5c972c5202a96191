//! Resume tokens: with one, a client that dials again keeps its peer id, and so its tunnels.
//!
//! A token is a compact JWS as the real server makes it (tailnet/resume.go, v2.24.0), with one claim
//! more: the user, so that nobody else can take over the peer id with it. The key comes from the
//! server's key file, so tokens survive restarts.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::{MICROS_PER_SECOND, Timestamp, UserId};

/// How long a token is good for; the real server's figure.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// When the client asks for the next one.
pub const REFRESH: Duration = Duration::from_secs(12 * 3600);
/// Bytes of a token that is looked at; ours have about 250.
const TOKEN_BYTES: usize = 1_024;
/// The one key that there is. A replaced key file makes older tokens invalid, and clients then get a
/// fresh peer id.
const KEY_ID: &str = "1";

/// A token for a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// What the client sends as `resume_token`.
    pub text: String,
    /// When it asks for the next one.
    pub refresh_in: Duration,
    /// When this one ends.
    pub expires_at: Timestamp,
}

/// Makes and checks tokens.
pub struct ResumeKey {
    key: hmac::Key,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: Uuid,
    /// Seconds since the epoch.
    exp: i64,
    user: UserId,
}

impl ResumeKey {
    /// With a key that is secret and stays the same over restarts.
    pub fn new(key: &[u8; 64]) -> ResumeKey {
        ResumeKey { key: hmac::Key::new(hmac::HMAC_SHA512, key) }
    }

    /// A token by which `user` may come back as `peer`.
    pub fn mint(&self, user: UserId, peer: Uuid, now: Timestamp) -> Token {
        let (exp, _) = now.plus(LIFETIME).to_parts();
        let claims = format!(r#"{{"sub":"{peer}","exp":{exp},"user":"{user}"}}"#);
        let header = format!(r#"{{"alg":"HS512","kid":"{KEY_ID}"}}"#);
        Token {
            text: self.sign(&header, &claims),
            refresh_in: REFRESH,
            expires_at: Timestamp(exp.saturating_mul(MICROS_PER_SECOND)),
        }
    }

    /// The peer id that `user` may have by this token; `None` when it names no key, which counts as no
    /// token at all (coderd/workspaceagents.go handleResumeToken, v2.24.0). The refusal is the `detail`
    /// of the answer.
    pub fn verify(&self, text: &str, user: UserId, now: Timestamp) -> Result<Option<Uuid>, &'static str> {
        if text.len() > TOKEN_BYTES {
            return Err("The token is too long.");
        }
        let (signed, signature) = text.rsplit_once('.').ok_or("The token has not three parts.")?;
        let (header, claims) = signed.split_once('.').ok_or("The token has not three parts.")?;
        let header: Header = part(header).ok_or("The token's header cannot be read.")?;
        if header.alg != "HS512" {
            return Err("The token is not signed with HS512.");
        }
        match header.kid.as_deref() {
            None | Some("") => return Ok(None),
            Some(KEY_ID) => {}
            Some(_) => return Err("The token names a key that this server does not have."),
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "The token's signature cannot be read.")?;
        hmac::verify(&self.key, signed.as_bytes(), &signature)
            .map_err(|_| "The token was not signed by this server, or with an earlier key.")?;
        let claims: Claims = part(claims).ok_or("The token's claims cannot be read.")?;
        if now.to_parts().0 >= claims.exp {
            return Err("The token has expired.");
        }
        if claims.user != user {
            return Err("The token was made for another user.");
        }
        Ok(Some(claims.sub))
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let mut text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = hmac::sign(&self.key, text.as_bytes());
        text.push('.');
        text.push_str(&URL_SAFE_NO_PAD.encode(signature));
        text
    }
}

fn part<T: for<'a> Deserialize<'a>>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    /// The same token as the real server makes it: key of 64 zero bytes, no user.
    const RECORDED: &str = "eyJhbGciOiJIUzUxMiIsImtpZCI6IjEifQ.eyJzdWIiOiJhYWFhYWFhYS1iYmJiLTRjY2MtOGRkZC1lZWVlZWVlZWVlZWUiLCJleHAiOjE3OTU1NjYzMDN9.8DQn-m1my_Is0D2zeCuPd_WsloXbCE-mlZWSqeWdgNXp0UlbMoTDYatYXEjMBlinCuMItgLIXNUhQPbVtK0J-w";
    const HEADER: &str = r#"{"alg":"HS512","kid":"1"}"#;
    const NOW: Timestamp = Timestamp(1_795_479_903 * MICROS_PER_SECOND + 5);

    fn key() -> ResumeKey {
        ResumeKey::new(&[0; 64])
    }

    fn peer() -> Uuid {
        "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee".parse().unwrap()
    }

    #[test]
    fn signs_as_the_real_server_does() {
        let claims = r#"{"sub":"aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee","exp":1795566303}"#;
        assert_eq!(key().sign(HEADER, claims), RECORDED);
        let refused = key().verify(RECORDED, UserId::random(), NOW);
        assert_eq!(refused, Err("The token's claims cannot be read."), "it is bound to nobody");
    }

    #[test]
    fn gives_the_peer_back_to_its_user_for_a_day() {
        let user = UserId::random();
        let token = key().mint(user, peer(), NOW);
        assert_eq!(token.refresh_in, Duration::from_secs(12 * 3600));
        assert_eq!(token.expires_at, Timestamp(1_795_566_303 * MICROS_PER_SECOND));
        assert!(token.text.starts_with("eyJhbGciOiJIUzUxMiIsImtpZCI6IjEifQ."), "the recorded header");
        assert!(token.text.len() < 300);
        // Another process with the same key file.
        assert_eq!(key().verify(&token.text, user, NOW), Ok(Some(peer())));
        let last = Timestamp(token.expires_at.0 - 1);
        assert_eq!(key().verify(&token.text, user, last), Ok(Some(peer())));
        assert_eq!(key().verify(&token.text, user, token.expires_at), Err("The token has expired."));
        let other = UserId::random();
        assert_eq!(key().verify(&token.text, other, NOW), Err("The token was made for another user."));
        let replaced = ResumeKey::new(&[1; 64]);
        let why = "The token was not signed by this server, or with an earlier key.";
        assert_eq!(replaced.verify(&token.text, user, NOW), Err(why));
    }

    #[test]
    fn a_token_without_key_id_is_none() {
        let user = UserId::random();
        for header in [r#"{"alg":"HS512"}"#, r#"{"alg":"HS512","kid":""}"#] {
            assert_eq!(key().verify(&key().sign(header, "{}"), user, NOW), Ok(None));
        }
    }

    #[test]
    fn refuses_what_is_no_token_of_ours() {
        let user = UserId::random();
        let claims = format!(r#"{{"sub":"{}","exp":9999999999,"user":"{user}"}}"#, peer());
        let why = |text: &str| key().verify(text, user, NOW).unwrap_err();
        for text in ["", "a", "a.b", "not a token"] {
            assert!(why(text).starts_with("The token has not three parts.") || why(text).contains("header"), "{text}");
        }
        assert_eq!(why("a.b.c"), "The token's header cannot be read.");
        assert_eq!(why(&key().sign(r#"{"alg":"none","kid":"1"}"#, &claims)), "The token is not signed with HS512.");
        let foreign = key().sign(r#"{"alg":"HS512","kid":"2"}"#, &claims);
        assert_eq!(why(&foreign), "The token names a key that this server does not have.");
        assert_eq!(why(&key().sign(HEADER, r#"{"sub":"x"}"#)), "The token's claims cannot be read.");
        assert_eq!(why(&"a".repeat(TOKEN_BYTES + 1)), "The token is too long.");
        let good = key().sign(HEADER, &claims);
        assert_eq!(key().verify(&good, user, NOW), Ok(Some(peer())));
        let (unsigned, _) = good.rsplit_once('.').unwrap();
        assert!(key().verify(&format!("{unsigned}."), user, NOW).is_err(), "no signature");
        assert!(key().verify(&format!("{good}.x"), user, NOW).is_err(), "four parts");
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(!matches!(key().verify(&changed, user, NOW), Ok(Some(_))), "byte {at}");
            assert!(!matches!(key().verify(&good[..at], user, NOW), Ok(Some(_))), "length {at}");
        }
    }
}
