//! Google's public keys: imported, fetched, kept.

use std::time::Duration;

use base64::Engine;
use moorline_plugin::schema::{Anchor, HttpRequest, HttpResponse};
use moorline_plugin::{Answer, Host, Refusal};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde::Deserialize;

use crate::token::{BASE64, Token};

/// Where Google publishes the keys.
const URL: &str = "https://www.googleapis.com/oauth2/v3/certs";
/// Under which the fetched set is kept.
const KEPT: &str = "keys";
/// Under which it is kept that a key was looked for in vain.
const ASKED: &str = "asked";
/// Longest time for which a set is used without looking again: Google rotates its keys every other week.
const KEEP_MOST: u64 = 24 * 3_600;
/// Shortest; a server that forbids keeping would be asked for each sign-in.
const KEEP_LEAST: u64 = 60;
/// For so long beyond, a set serves when Google cannot be reached.
const KEEP_STALE: u64 = 7 * 24 * 3_600;
/// A key that is in no set makes the set be fetched anew once in this time.
const ASK_AGAIN: Duration = Duration::from_secs(300);

/// One key of a set.
#[derive(Deserialize)]
struct Key {
    #[serde(default)]
    kid: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Key>,
}

/// The keys that count.
pub(crate) struct KeySet {
    anchors: Vec<Anchor>,
    imported: Vec<Key>,
    url: String,
    offline: bool,
    host: Host,
}

impl KeySet {
    pub(crate) fn new(anchors: Vec<Anchor>, url: Option<String>, offline: bool, host: Host) -> Answer<KeySet> {
        let mut imported = Vec::new();
        for anchor in &anchors {
            let set: Set = serde_json::from_slice(&anchor.data)
                .map_err(|error| Refusal::invalid(format!("The anchor {} is not a key set: {error}.", anchor.name)))?;
            imported.extend(set.keys);
        }
        Ok(KeySet { anchors, imported, url: url.unwrap_or_else(|| URL.to_owned()), offline, host })
    }

    pub(crate) fn imported(&self) -> Vec<Anchor> {
        self.anchors.clone()
    }

    /// Checks the signature of a token by the key that it names.
    pub(crate) fn verify(&self, token: &Token) -> Answer<()> {
        if let Some(key) = find(&self.imported, token) {
            return check(key, token);
        }
        let mut stale = None;
        if let Some((set, until)) = self.kept() {
            match find(&set.keys, token) {
                Some(key) if until > self.host.now() => return check(key, token),
                Some(_) => stale = Some(set),
                // A fresh set without the key: it may be newer than the set, but strangers can make up names.
                None if until > self.host.now() && self.host.cache_get(ASKED).is_some() => return Err(unknown()),
                None => {}
            }
        }
        if self.offline {
            return Err(match stale {
                Some(_) => Refusal::refused("keys_too_old", "The key set is too old; import Google's present one."),
                None => unknown(),
            });
        }
        self.host.cache_put(ASKED, b"1", ASK_AGAIN);
        match (self.fetch(), stale) {
            (Ok(set), _) => check(find(&set.keys, token).ok_or_else(unknown)?, token),
            (Err(refusal), Some(set)) => {
                self.host
                    .warn(&format!("Google's keys cannot be fetched, older ones serve: {}", refusal.refused.message));
                check(find(&set.keys, token).ok_or_else(unknown)?, token)
            }
            (Err(refusal), None) => Err(refusal),
        }
    }

    /// The fetched set, and until when it is fresh.
    fn kept(&self) -> Option<(Set, i64)> {
        let kept = self.host.cache_get(KEPT)?;
        let (until, json) = kept.split_at_checked(8)?;
        Some((serde_json::from_slice(json).ok()?, i64::from_be_bytes(until.try_into().ok()?)))
    }

    fn fetch(&self) -> Answer<Set> {
        let unavailable =
            |why: String| Refusal::unavailable("keys_unreachable", format!("Google's keys cannot be had: {why}."));
        let request = HttpRequest { method: "GET".into(), url: self.url.clone(), ..HttpRequest::default() };
        let response = self.host.http(&request).map_err(|refusal| unavailable(refusal.refused.message))?;
        if response.status != 200 {
            return Err(unavailable(format!("the answer has status {}", response.status)));
        }
        let set: Set = serde_json::from_slice(&response.body).map_err(|error| unavailable(error.to_string()))?;
        let fresh = freshness(&response);
        let until = self.host.now().saturating_add(i64::try_from(fresh).unwrap_or(0));
        let mut kept = until.to_be_bytes().to_vec();
        kept.extend_from_slice(&response.body);
        self.host.cache_put(KEPT, &kept, Duration::from_secs(fresh.saturating_add(KEEP_STALE)));
        Ok(set)
    }
}

/// Seconds for which an answer may be used.
fn freshness(response: &HttpResponse) -> u64 {
    let directives = response.header("cache-control").unwrap_or_default();
    let most = directives.split(',').find_map(|one| one.trim().strip_prefix("max-age=")?.parse::<u64>().ok());
    let age = response.header("age").and_then(|age| age.trim().parse::<u64>().ok()).unwrap_or(0);
    most.unwrap_or(0).saturating_sub(age).clamp(KEEP_LEAST, KEEP_MOST)
}

fn find<'a>(keys: &'a [Key], token: &Token) -> Option<&'a Key> {
    keys.iter().find(|key| !key.kid.is_empty() && key.kid == token.key_id)
}

fn unknown() -> Refusal {
    Refusal::refused("unknown_key", "The token is signed with a key that is not among Google's known ones.")
}

fn check(key: &Key, token: &Token) -> Answer<()> {
    let number = |text: &str| BASE64.decode(text).ok().filter(|bytes| !bytes.is_empty());
    let (Some(n), Some(e)) = (number(&key.n), number(&key.e)) else {
        return Err(Refusal::refused("unknown_key", "The key that signed the token is not an RSA key."));
    };
    // ring takes numbers without leading zeros.
    let bare = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    RsaPublicKeyComponents { n: bare(&n), e: bare(&e) }
        .verify(&RSA_PKCS1_2048_8192_SHA256, &token.signed, &token.signature)
        .map_err(|_| Refusal::refused("bad_signature", "The signature of the token is not good."))
}
