//! The host's services as methods.

use std::sync::Arc;
use std::time::Duration;

use crate::plugin::{Answer, Refusal};
use crate::schema::{HttpRequest, HttpResponse};

/// What a host can do; the loaded plugin's host is [`crate::entry`]'s, a test's is [`crate::testing::Replay`].
pub trait Services: Send + Sync {
    /// Makes one HTTP request. An answer of any status is `Ok`.
    fn http(&self, request: &HttpRequest) -> Answer<HttpResponse>;
    /// Writes a line to the server's log; see the levels in [`crate::abi`].
    fn log(&self, level: i32, text: &str);
    /// Microseconds since 1970 began, UTC.
    fn now_micros(&self) -> i64;
    /// Fills the buffer with secure random bytes.
    fn random(&self, buffer: &mut [u8]) -> Answer<()>;
    /// The value under a key, if it is still kept.
    fn cache_get(&self, key: &str) -> Option<Vec<u8>>;
    /// Keeps a value for at most this long.
    fn cache_put(&self, key: &str, value: &[u8], keep: Duration);
}

/// The host, as handed to a plugin when it is created. Cloning gives another handle.
#[derive(Clone)]
pub struct Host(Arc<dyn Services>);

impl Host {
    /// A host with these services.
    pub fn new(services: impl Services + 'static) -> Host {
        Host(Arc::new(services))
    }

    /// Makes one HTTP request. An answer of any status is `Ok`; redirects are not followed.
    pub fn http(&self, request: &HttpRequest) -> Answer<HttpResponse> {
        self.0.http(request)
    }

    /// Writes an error to the server's log.
    pub fn error(&self, text: &str) {
        self.0.log(crate::abi::LOG_ERROR, text);
    }

    /// Writes a warning to the server's log.
    pub fn warn(&self, text: &str) {
        self.0.log(crate::abi::LOG_WARN, text);
    }

    /// Writes what an operator may want to know to the server's log.
    pub fn info(&self, text: &str) {
        self.0.log(crate::abi::LOG_INFO, text);
    }

    /// Writes to the server's log for whoever looks for a fault.
    pub fn debug(&self, text: &str) {
        self.0.log(crate::abi::LOG_DEBUG, text);
    }

    /// Seconds since 1970 began, UTC.
    pub fn now(&self) -> i64 {
        self.0.now_micros().div_euclid(1_000_000)
    }

    /// Secure random bytes.
    pub fn random<const N: usize>(&self) -> Result<[u8; N], Refusal> {
        let mut bytes = [0; N];
        self.0.random(&mut bytes)?;
        Ok(bytes)
    }

    /// The value that was kept under a key, if it is still there.
    pub fn cache_get(&self, key: &str) -> Option<Vec<u8>> {
        self.0.cache_get(key)
    }

    /// Keeps a value for at most this long; it may be gone sooner.
    pub fn cache_put(&self, key: &str, value: &[u8], keep: Duration) {
        self.0.cache_put(key, value, keep);
    }
}
