//! A request as handlers see it: tiny_http's parts plus what the edge said about the connection.

use std::cell::OnceCell;
use std::io::Read;

use subtle::ConstantTimeEq;
use tiny_http::Header;
use uuid::Uuid;

use super::Service;
use super::limiter::Rate;
use crate::config::limits;

/// Internal headers: set by the edge, stripped by it from what clients send.
const SECRET: &str = "X-Moorline-Secret";
const REQUEST_ID: &str = "X-Moorline-Request-Id";
const PEER: &str = "X-Moorline-Peer";
const SCHEME: &str = "X-Moorline-Scheme";
const UPGRADE: &str = "X-Moorline-Upgrade";
const HTTP: &str = "X-Moorline-Http";
const OPERATOR: &str = "X-Moorline-Operator";

/// One request.
pub(super) struct Call<'a> {
    /// The server.
    pub service: &'a Service,
    /// `GET`, …
    pub method: String,
    /// Runs of slashes collapsed, still percent-encoded.
    pub path: String,
    /// Decoded query parameters.
    pub query: Query,
    /// The whole body.
    pub body: Vec<u8>,
    /// Made by the edge; also the key of a stream's arrival.
    pub id: Uuid,
    /// Address of the client; empty on the admin socket.
    pub peer: String,
    /// Whether the client speaks TLS.
    pub secure: bool,
    /// `Upgrade` of a client that asked for one.
    pub upgrade: Option<String>,
    /// Whether the client speaks HTTP/1.0.
    pub http_1_0: bool,
    /// The system user on the admin socket.
    pub operator: Option<String>,
    /// Decoded path parameters, in order.
    pub params: Vec<String>,
    /// See [`super::auth::csrf_token`].
    pub csrf: OnceCell<String>,
    /// Where the caller stands with its requests per minute, once that was counted.
    pub rate: Option<Rate>,
    headers: &'a [Header],
}

/// Why a request is not looked at.
pub(super) enum Unusable {
    /// It does not come from the edge.
    Stranger,
    /// Its body is larger than any route takes.
    TooLarge,
    /// Its body did not arrive.
    Cut(std::io::Error),
}

/// Whether a request comes from the edge.
fn is_known(service: &Service, request: &tiny_http::Request) -> bool {
    let sent = request.headers().iter().find(|header| header.field.equiv(SECRET));
    sent.is_some_and(|sent| bool::from(sent.value.as_str().as_bytes().ct_eq(service.secret.as_bytes())))
}

/// Reads the whole body of a request that comes from the edge.
pub(super) fn body_of(service: &Service, request: &mut tiny_http::Request) -> Result<Vec<u8>, Unusable> {
    if !is_known(service, request) {
        return Err(Unusable::Stranger);
    }
    // The edge has the limit of each route; this one bounds what a fault of it could cost.
    let from_operator = request.headers().iter().any(|header| header.field.equiv(OPERATOR));
    let most = if from_operator { limits::ADMIN_BODY_BYTES } else { limits::LOGS_BODY_BYTES };
    let length = request.body_length().unwrap_or(0);
    if length > most {
        return Err(Unusable::TooLarge);
    }
    let mut body = Vec::with_capacity(length);
    let readable = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    request.as_reader().take(readable).read_to_end(&mut body).map_err(Unusable::Cut)?;
    if body.len() > most { Err(Unusable::TooLarge) } else { Ok(body) }
}

impl<'a> Call<'a> {
    /// Takes a request apart.
    pub(super) fn new(service: &'a Service, request: &'a tiny_http::Request, body: Vec<u8>) -> Call<'a> {
        let (path, query) = match request.url().split_once('?') {
            Some((path, query)) => (collapse(path), Query::parse(query)),
            None => (collapse(request.url()), Query::default()),
        };
        let mut call = Call {
            service,
            method: request.method().to_string(),
            path,
            query,
            body,
            id: Uuid::nil(),
            peer: String::new(),
            secure: false,
            upgrade: None,
            http_1_0: false,
            operator: None,
            params: Vec::new(),
            csrf: OnceCell::new(),
            rate: None,
            headers: request.headers(),
        };
        call.id = call.header(REQUEST_ID).and_then(|id| Uuid::try_parse(id).ok()).unwrap_or_else(Uuid::new_v4);
        call.peer = call.header(PEER).unwrap_or_default().to_owned();
        call.secure = call.header(SCHEME) == Some("https");
        call.upgrade = call.header(UPGRADE).map(str::to_owned);
        call.http_1_0 = call.header(HTTP) == Some("1.0");
        call.operator = call.header(OPERATOR).map(str::to_owned);
        call
    }

    /// The first header of this name.
    pub(super) fn header(&self, name: &'static str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every header of this name.
    pub(super) fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |header| header.field.equiv(name)).map(|header| header.value.as_str())
    }

    /// The first cookie of this name.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        self.all("Cookie").flat_map(|line| line.split(';')).find_map(|pair| {
            let (key, value) = pair.trim().split_once('=')?;
            (key == name).then(|| value.trim_matches('"'))
        })
    }

    /// The path parameter at `index`; empty when the route has none there.
    pub(super) fn param(&self, index: usize) -> &str {
        self.params.get(index).map_or("", String::as_str)
    }
}

fn collapse(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter != '/' || !out.ends_with('/') {
            out.push(letter);
        }
    }
    out
}

/// Query parameters in their order.
#[derive(Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Splits at `&`; a part that is not properly encoded is left out, as Go leaves it out.
    pub(super) fn parse(text: &str) -> Query {
        let decode = |part: &str| percent_decode(&part.replace('+', " "));
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decode(key)?, decode(value)?))
        };
        Query(text.split('&').filter(|part| !part.is_empty()).filter_map(pair).collect())
    }

    /// The first value of a parameter; `Some("")` for one without value.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter.
    pub(super) fn all<'q>(&'q self, key: &'q str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All of them, in order.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The first value of a parameter, empty when absent.
    pub(super) fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or("")
    }
}

/// Undoes percent-encoding; `None` when it is malformed or does not give UTF-8.
pub(super) fn percent_decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail.split_first_chunk::<2>()?;
        let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collapses_runs_of_slashes() {
        assert_eq!(collapse("//api///v2/x//"), "/api/v2/x/");
    }

    #[test]
    fn decodes_queries_as_go_does() {
        let query = Query::parse("follow&after=1&q=owner%3Ame+x&bad=%zz&after=2&&empty=");
        assert_eq!(query.get("follow"), Some(""));
        assert_eq!(query.get("after"), Some("1"));
        assert_eq!(query.get("q"), Some("owner:me x"));
        assert_eq!((query.get("bad"), query.get("empty"), query.get("nosuch")), (None, Some(""), None));
        assert_eq!((percent_decode("%+1"), percent_decode("%4"), percent_decode("%ff")), (None, None, None));
    }
}
