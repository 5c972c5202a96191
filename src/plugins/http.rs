//! The one place from which anything is fetched: by plugins, from hosts that the operator has named.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use moorline_plugin::abi;
use moorline_plugin::schema::{HttpRequest, HttpResponse};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Proxy, http};

use crate::config::providers::ProviderConfig;

/// Time to reach a server, of the whole.
const CONNECT: Duration = Duration::from_secs(5);
/// Largest head of a response, bytes.
const HEAD_BYTES: usize = 32 * 1024;
/// Connections that are kept for the next request of the same provider.
const KEPT: usize = 2;

/// Methods that a plugin may use. `CONNECT` would make a tunnel of a request, `TRACE` gives headers away.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
/// Longest URL, bytes.
const URL_BYTES: usize = 16 * 1024;
/// Most headers of a request, and their bytes in all.
const HEADERS: (usize, usize) = (64, 32 * 1024);
/// Headers that are the host's: they say where a request goes, how long it is, or what becomes of its connection, so a plugin that
/// sets them reaches another site behind an allowed address, or smuggles a second request.
const OWN_HEADERS: [&str; 11] = [
    "host",
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What is wrong with a request, whatever its address.
pub(super) fn fault_of(request: &HttpRequest) -> Option<String> {
    if request.body.len() > abi::HTTP_BODY_BYTES {
        return Some(format!("the body has more than {} bytes", abi::HTTP_BODY_BYTES));
    }
    if request.url.len() > URL_BYTES {
        return Some(format!("the URL has more than {URL_BYTES} bytes"));
    }
    if !METHODS.contains(&request.method.as_str()) {
        return Some(format!("the method is none of {}", METHODS.join(", ")));
    }
    let bytes: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if request.headers.len() > HEADERS.0 || bytes > HEADERS.1 {
        return Some(format!("there are more than {} headers or {} bytes of them", HEADERS.0, HEADERS.1));
    }
    let own = request.headers.iter().find(|(name, _)| OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)));
    own.map(|(name, _)| format!("the header {} is the host's", name.to_ascii_lowercase()))
}

/// Where a request goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    /// Without query, which may hold secrets.
    pub(super) path: String,
    plain: bool,
}

impl Target {
    /// Takes a URL apart; says why it is not one to ask for.
    pub(super) fn of(url: &str) -> Result<Target, String> {
        let uri: http::Uri = url.parse().map_err(|_| "the URL cannot be read".to_owned())?;
        let plain = match uri.scheme_str() {
            Some("https") => false,
            Some("http") => true,
            _ => return Err("only http and https URLs are fetched".to_owned()),
        };
        let authority = uri.authority().ok_or("the URL has no host")?;
        if authority.as_str().contains('@') {
            return Err("the URL holds a user name".to_owned());
        }
        let port = authority.port_u16().unwrap_or(if plain { 80 } else { 443 });
        Ok(Target { host: authority.host().to_ascii_lowercase(), port, path: uri.path().to_owned(), plain })
    }

    /// As it stands in the list of allowed places.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// A provider's way out.
pub(super) struct Http {
    agent: Agent,
    allowed: Vec<String>,
    /// Places that may be asked without TLS, because the operator has written so.
    plain: Vec<String>,
}

/// No answer, and why.
#[derive(Debug)]
pub(super) struct Fault {
    /// One word.
    pub(super) code: &'static str,
    /// One sentence part.
    pub(super) why: String,
}

impl Http {
    /// For one provider. A CA file that cannot be read is an error.
    pub(super) fn new(provider: &ProviderConfig) -> Result<Http, String> {
        let roots = roots(provider.ca.as_deref())?;
        let proxy = match provider.proxy.as_deref() {
            None => Proxy::try_from_env(),
            Some("") => None,
            Some(url) => Some(Proxy::new(url).map_err(|error| format!("the proxy {url:?} is not good: {error}"))?),
        };
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .tls_config(tls)
            .timeout_connect(Some(CONNECT))
            .max_response_header_size(HEAD_BYTES)
            .max_idle_connections(KEPT)
            .max_idle_connections_per_host(KEPT)
            .user_agent(concat!("moorline/", env!("CARGO_PKG_VERSION")))
            .allow_non_standard_methods(false)
            .build();
        Ok(Http { agent: config.new_agent(), allowed: provider.allowed(), plain: provider.plain() })
    }

    /// Whether the operator lets this provider go there.
    pub(super) fn permit(&self, target: &Target) -> Result<(), Fault> {
        let place = target.place();
        if !self.allowed.contains(&place) {
            let why = format!("{place} is not among the hosts that this provider may reach; add it to its `egress`");
            return Err(Fault { code: "egress", why });
        }
        if target.plain && !target.is_loopback() && !self.plain.contains(&place) {
            return Err(Fault { code: "egress", why: format!("{place} is not asked without TLS") });
        }
        Ok(())
    }

    /// Sends a permitted request and takes the whole answer.
    pub(super) fn send(&self, request: HttpRequest) -> Result<HttpResponse, Fault> {
        let most = abi::HTTP_MILLISECONDS;
        let time = Duration::from_millis(u64::from(request.timeout_ms.unwrap_or(most).clamp(1, most)));
        let invalid = |why: String| Fault { code: "invalid", why };
        let mut builder = http::Request::builder().method(request.method.as_str()).uri(&request.url);
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let made = builder.body(request.body).map_err(|error| invalid(error.to_string()))?;
        let made = self.agent.configure_request(made).timeout_global(Some(time)).build();
        let response = self.agent.run(made).map_err(|error| fault(&error))?;
        let (head, body) = response.into_parts();
        let limit = u64::try_from(abi::HTTP_BODY_BYTES).unwrap_or(u64::MAX);
        let body = body.into_with_config().limit(limit).read_to_vec().map_err(|error| fault(&error))?;
        let headers = head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        Ok(HttpResponse { status: head.status.as_u16(), headers, body })
    }
}

fn fault(error: &ureq::Error) -> Fault {
    let code = match error {
        ureq::Error::Timeout(_) => "timeout",
        ureq::Error::HostNotFound => "dns",
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => "tls",
        ureq::Error::BodyExceedsLimit(_) => "too_large",
        ureq::Error::Io(io) if is_tls(io) => "tls",
        ureq::Error::Io(_) | ureq::Error::ConnectionFailed => "connect",
        _ => "http",
    };
    Fault { code, why: error.to_string() }
}

/// rustls hands its errors through as I/O errors.
fn is_tls(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// What the system trusts, and what the operator adds.
fn roots(ca: Option<&Path>) -> Result<Vec<Certificate<'static>>, String> {
    let mut all: Vec<CertificateDer<'static>> = rustls_native_certs::load_native_certs().certs;
    if let Some(path) = ca {
        let own: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        let own = own.map_err(|error| format!("the CA file {} cannot be read: {error}", path.display()))?;
        if own.is_empty() {
            return Err(format!("the CA file {} holds no certificate", path.display()));
        }
        all.extend(own);
    }
    Ok(all.iter().map(|der| Certificate::from_der(der).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn refuses_requests_that_could_be_taken_for_others() {
        let request = HttpRequest { method: "GET".into(), url: "https://a/".into(), ..HttpRequest::default() };
        assert_eq!(fault_of(&request), None);
        for method in ["CONNECT", "TRACE", "get", "GET / HTTP/1.1\r\nX: ", ""] {
            let request = HttpRequest { method: method.into(), ..request.clone() };
            assert!(fault_of(&request).unwrap().contains("method"), "{method}");
        }
        for name in ["Host", "host", "Content-Length", "TRANSFER-ENCODING", "Connection", "Upgrade"] {
            let request = HttpRequest { headers: vec![(name.into(), "x".into())], ..request.clone() };
            assert!(fault_of(&request).unwrap().contains("the host's"), "{name}");
        }
        let many = HttpRequest { headers: vec![("a".into(), "b".into()); 65], ..request.clone() };
        let large = HttpRequest { headers: vec![("a".into(), "b".repeat(32 * 1024))], ..request.clone() };
        let long = HttpRequest { url: format!("https://a/{}", "b".repeat(16 * 1024)), ..request.clone() };
        let body = HttpRequest { body: vec![0; abi::HTTP_BODY_BYTES + 1], ..request };
        assert!([many, large, long, body].iter().all(|request| fault_of(request).is_some()));
    }

    #[test]
    fn takes_targets_apart() {
        let target = Target::of("https://API.example.com/user?token=secret").unwrap();
        assert_eq!((target.place().as_str(), target.path.as_str()), ("api.example.com:443", "/user"));
        assert_eq!(Target::of("http://[::1]:8080").unwrap().place(), "[::1]:8080");
        for url in ["ftp://a/", "https://u:p@a/", "/a", "https://", "file:///etc/passwd"] {
            assert!(Target::of(url).is_err(), "{url}");
        }
    }
}
