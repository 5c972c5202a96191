//! What the server does for one provider's plugin: HTTP on record, and a small sealed cache.

use std::sync::Arc;

use moorline_plugin::abi::{self, Status};
use moorline_plugin::schema::{HttpRequest, Refused};

use super::http::{self, Fault, Http, Target};
use crate::config::providers::ProviderConfig;
use crate::model::Timestamp;
use crate::store::{Store, egress, plugin_cache};

/// Longest method name that is put on record, characters.
const METHOD_CHARS: usize = 16;
/// Longest path that is put on record, characters.
const PATH_CHARS: usize = 256;

/// What answers the questions of a plugin's process.
pub(super) trait Desk: Send + Sync {
    /// Does what the plugin asks for. May wait; one thread per question.
    fn serve(&self, service: &str, request: &[u8]) -> (Status, Vec<u8>);

    /// Takes a line of the plugin's log; `false`: it belongs in the server's.
    fn note(&self, _level: log::Level, _text: &str) -> bool {
        false
    }
}

/// The server's own.
pub(super) struct ServerDesk {
    provider: Arc<ProviderConfig>,
    /// Whose cache entries are this provider's: an id is unique within its kind only.
    owner: String,
    http: Http,
    store: Store,
}

/// A refusal as a plugin gets it.
pub(super) fn refusal(status: Status, code: &str, message: &str) -> (Status, Vec<u8>) {
    let refused = Refused { code: code.to_owned(), message: message.to_owned(), retry_after: None };
    (status, serde_json::to_vec(&refused).unwrap_or_default())
}

impl Desk for ServerDesk {
    fn serve(&self, service: &str, request: &[u8]) -> (Status, Vec<u8>) {
        match service {
            "http" => self.fetch(request),
            "cache_get" => self.cached(request),
            "cache_put" => self.keep(request),
            _ => (abi::UNSUPPORTED, Vec::new()),
        }
    }
}

impl ServerDesk {
    pub(super) fn new(provider: Arc<ProviderConfig>, store: Store) -> Result<ServerDesk, String> {
        let owner = format!("{}/{}", provider.kind.word(), provider.id);
        Ok(ServerDesk { http: Http::new(&provider)?, owner, provider, store })
    }

    fn fetch(&self, request: &[u8]) -> (Status, Vec<u8>) {
        let request: HttpRequest = match serde_json::from_slice(request) {
            Ok(request) => request,
            Err(error) => return refusal(abi::INVALID, "invalid", &format!("the request is not as agreed: {error}")),
        };
        if let Some(why) = http::fault_of(&request) {
            return refusal(abi::INVALID, "invalid", &why);
        }
        let target = match Target::of(&request.url) {
            Ok(target) => target,
            Err(why) => return refusal(abi::INVALID, "invalid", &why),
        };
        let began = Timestamp::now();
        let row = egress::Begun {
            at: began,
            provider: self.provider.id.clone(),
            method: request.method.chars().take(METHOD_CHARS).collect(),
            host: target.host.clone(),
            port: target.port,
            path: target.path.chars().take(PATH_CHARS).collect(),
        };
        // On record before it leaves: what cannot be written down is not sent.
        let id = match self.store.write(move |write| egress::begin(write, &row).map_err(crate::store::Error::from)) {
            Ok(id) => id,
            Err(error) => {
                log::error!("a request of provider {} was not sent: {error}", self.provider.id);
                return refusal(abi::UNAVAILABLE, "record", "the request cannot be put on record, so it was not sent");
            }
        };
        let sent = request.body.len();
        let outcome = self.http.permit(&target).and_then(|()| self.http.send(request));
        let end = egress::Ended {
            id,
            status: outcome.as_ref().ok().map(|response| response.status),
            fault: outcome.as_ref().err().map(|fault| fault.code.to_owned()).unwrap_or_default(),
            sent,
            received: outcome.as_ref().map_or(0, |response| response.body.len()),
            took: Timestamp::now().since(began),
        };
        self.store.write_then(
            move |write| egress::end(write, &end).map_err(crate::store::Error::from),
            |result| {
                if let Err(error) = result {
                    log::warn!("the end of a request could not be put on record: {error}");
                }
            },
        );
        match outcome {
            Ok(response) => match serde_json::to_vec(&response) {
                Ok(json) => (abi::OK, json),
                Err(error) => refusal(abi::FAILED, "failed", &error.to_string()),
            },
            Err(Fault { code: "egress", why }) => {
                log::warn!("provider {}: {why}", self.provider.id);
                refusal(abi::REFUSED, "egress", &why)
            }
            Err(Fault { code: "invalid", why }) => refusal(abi::INVALID, "invalid", &why),
            Err(Fault { code, why }) => refusal(abi::UNAVAILABLE, code, &why),
        }
    }

    fn cached(&self, key: &[u8]) -> (Status, Vec<u8>) {
        let sealer = self.store.sealer();
        let found = self.store.read(|conn| plugin_cache::get(conn, sealer, &self.owner, key, Timestamp::now()));
        match found {
            Ok(Some(value)) => (abi::OK, value),
            Ok(None) => (abi::UNSUPPORTED, Vec::new()),
            Err(error) => {
                log::warn!("the cache of provider {} cannot be read: {error}", self.provider.id);
                (abi::UNSUPPORTED, Vec::new())
            }
        }
    }

    fn keep(&self, request: &[u8]) -> (Status, Vec<u8>) {
        let Some((seconds, key, value)) = parse_put(request) else { return (abi::INVALID, Vec::new()) };
        let until = Timestamp::now().plus(std::time::Duration::from_secs(u64::from(seconds)));
        let sealed = match plugin_cache::seal(self.store.sealer(), &self.owner, key, value) {
            Ok(sealed) => sealed,
            Err(_) => return (abi::FAILED, Vec::new()),
        };
        let (provider, key) = (self.owner.clone(), key.to_vec());
        let written = self.store.write(move |write| {
            if seconds == 0 {
                plugin_cache::remove(write, &provider, &key)?;
            } else {
                plugin_cache::put(write, &provider, &key, &sealed, until, abi::CACHE_ENTRIES)?;
            }
            Ok::<(), crate::store::Error>(())
        });
        match written {
            Ok(()) => (abi::OK, Vec::new()),
            Err(_) => (abi::UNAVAILABLE, Vec::new()),
        }
    }
}

/// Seconds, length of the key, key, value.
pub(super) fn parse_put(request: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (seconds, rest) = request.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (key, value) = rest.split_at_checked(length)?;
    let fits = key.len() <= abi::CACHE_KEY_BYTES && value.len() <= abi::CACHE_VALUE_BYTES;
    fits.then(|| (u32::from_be_bytes(*seconds), key, value))
}
