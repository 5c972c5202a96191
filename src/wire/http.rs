//! Heads of HTTP/1.x messages, under rules that leave no room for two readings.
//!
//! A server that stands in front of another one must never understand a request differently from
//! it. So everything that parsers are known to disagree about is refused: lone CR or LF, folded
//! lines, a space before the colon, two lengths, two codings, a length that is not plain digits, a
//! coding that is not exactly `chunked`. What passes is written afresh by the edge, never copied.

use std::fmt;
use std::str;

/// How large a head may be.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes from the first of the request line to the last of the empty line.
    pub bytes: usize,
    /// Header lines.
    pub headers: usize,
}

/// Why a head was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadError {
    /// Not a request: bad request line, header name, header value, or a lone CR or LF.
    Malformed,
    /// The request line alone exceeds the limit.
    TargetTooLong,
    /// The head exceeds the limit of bytes or lines.
    TooLarge,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// A target that is no path, or does not fit the method or the Host header.
    Target,
    /// CONNECT: this is no proxy.
    Connect,
    /// Host missing, repeated or not a host.
    Host,
    /// Content-Length repeated, malformed, or beside Transfer-Encoding.
    Length,
    /// Transfer-Encoding that is not exactly one `chunked`.
    Coding,
    /// Expect with something other than `100-continue`.
    Expectation,
}

impl HeadError {
    /// The status to answer with.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::Target | Self::Host | Self::Length | Self::Coding => 400,
            Self::TargetTooLong => 414,
            Self::TooLarge => 431,
            Self::Version => 505,
            Self::Connect => 405,
            Self::Expectation => 417,
        }
    }
}

impl HeadError {
    /// What to tell the client.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Malformed => "The request is not well-formed HTTP.",
            Self::TargetTooLong => "The request line is too long.",
            Self::TooLarge => "The request head is too large.",
            Self::Version => "Only HTTP/1.0 and HTTP/1.1 are spoken here.",
            Self::Target => "The request target is not a path on this server.",
            Self::Connect => "This server is not a proxy.",
            Self::Host => "The Host header is missing, repeated or malformed.",
            Self::Length => "The Content-Length header is malformed, repeated or contradicted.",
            Self::Coding => "The only transfer coding accepted is a single \"chunked\".",
            Self::Expectation => "The only expectation met here is \"100-continue\".",
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl std::error::Error for HeadError {}

/// A header line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    /// As sent: a token, in the sender's letter case.
    pub name: &'a str,
    /// Without surrounding blanks; no control character but tab; may hold bytes above 0x7F.
    pub value: &'a [u8],
}

impl Field<'_> {
    /// Whether the header has this name, in any letter case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// What follows the head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// Neither Content-Length nor Transfer-Encoding.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// A request head that was understood completely.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head<'a> {
    /// A token; compared with letter case.
    pub method: &'a str,
    /// Path and query beginning with `/`, or `*` (OPTIONS only). ASCII without blanks.
    pub target: &'a str,
    /// HTTP/1.0, so: no chunked answer, and close unless asked not to.
    pub old: bool,
    /// `None` only for HTTP/1.0.
    pub host: Option<&'a str>,
    /// All header lines, in order.
    pub fields: Vec<Field<'a>>,
    /// What follows.
    pub framing: Framing,
    /// Whether the client wants to go on after the answer.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends its body.
    pub expects_continue: bool,
    /// Whether Connection names `upgrade`.
    pub upgrade: bool,
    /// Bytes of the head, an empty line before it included.
    pub size: usize,
}

impl Head<'_> {
    /// Whether a Connection header names this header, which makes it one for this hop only.
    pub fn is_named_by_connection(&self, name: &str) -> bool {
        connection_tokens(&self.fields).any(|token| token.eq_ignore_ascii_case(name.as_bytes()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum At {
    /// Nothing read yet.
    #[default]
    Begin,
    /// CR of an empty line before the request: one is forgiven (RFC 9112, section 2.2).
    LeadCr,
    /// After that empty line.
    First,
    /// Within a line.
    Line,
    /// CR of a line's end was read.
    Cr,
    /// At the start of a header line.
    LineStart,
    /// CR of the empty line that ends the head was read.
    EndCr,
}

/// Looks for the end of a head as bytes arrive, each byte once, so that a head that comes in a
/// thousand pieces costs no more than one that comes whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scanner {
    seen: usize,
    lead: usize,
    lines: usize,
    at: At,
}

impl Scanner {
    /// `buf` holds all bytes since the beginning. Says where the head ends, if it does; refuses what
    /// can never become a head.
    pub fn scan(&mut self, buf: &[u8], limits: HeadLimits) -> Result<Option<usize>, HeadError> {
        for &byte in buf.get(self.seen..).unwrap_or_default() {
            self.seen += 1;
            self.at = match (self.at, byte) {
                (At::Begin, b'\r') => At::LeadCr,
                (At::LeadCr, b'\n') => {
                    self.lead = 2;
                    At::First
                }
                (At::Begin | At::First, _) if is_token_byte(byte) => At::Line,
                (At::Line, b'\r') => At::Cr,
                (At::Line, 1..) if byte != b'\n' => At::Line,
                (At::Cr, b'\n') => {
                    self.lines += 1;
                    At::LineStart
                }
                (At::LineStart, b'\r') => At::EndCr,
                (At::LineStart, _) if is_token_byte(byte) => At::Line,
                (At::EndCr, b'\n') => return Ok(Some(self.seen)),
                _ => return Err(HeadError::Malformed),
            };
            if self.seen - self.lead >= limits.bytes {
                return Err(if self.lines == 0 { HeadError::TargetTooLong } else { HeadError::TooLarge });
            }
        }
        Ok(None)
    }
}

/// Reads a request head from the front of `buf`: `None` while it is incomplete.
pub fn parse_head(buf: &[u8], limits: HeadLimits) -> Result<Option<Head<'_>>, HeadError> {
    match Scanner::default().scan(buf, limits)? {
        Some(end) => parse_whole_head(buf.get(..end).unwrap_or_default(), limits).map(Some),
        None => Ok(None),
    }
}

/// Reads a request head whose end a [`Scanner`] has found.
pub fn parse_whole_head(buf: &[u8], limits: HeadLimits) -> Result<Head<'_>, HeadError> {
    let text = buf.strip_prefix(b"\r\n").unwrap_or(buf);
    let mut lines = [httparse::EMPTY_HEADER; 128];
    let lines = lines.get_mut(..limits.headers.min(128)).unwrap_or_default();
    let mut request = httparse::Request::new(lines);
    match request.parse(text) {
        Ok(httparse::Status::Complete(size)) if size == text.len() => {}
        Ok(_) => return Err(HeadError::Malformed),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(httparse::Error::Version) => return Err(version_error(text)),
        Err(_) => return Err(HeadError::Malformed),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(HeadError::Malformed);
    };
    let fields: Vec<Field<'_>> =
        request.headers.iter().map(|line| Field { name: line.name, value: line.value }).collect();
    let old = minor == 0;

    let host = read_host(&fields, old)?;
    let target = read_target(method, target, host)?;
    let framing = read_framing(&fields, old)?;
    let mut expects_continue = false;
    for field in fields.iter().filter(|field| field.is("expect")) {
        if expects_continue || !field.value.eq_ignore_ascii_case(b"100-continue") {
            return Err(HeadError::Expectation);
        }
        expects_continue = true;
    }
    let (mut close, mut keep, mut upgrade) = (false, false, false);
    for token in connection_tokens(&fields) {
        close |= token.eq_ignore_ascii_case(b"close");
        keep |= token.eq_ignore_ascii_case(b"keep-alive");
        upgrade |= token.eq_ignore_ascii_case(b"upgrade");
    }
    Ok(Head {
        method,
        target,
        old,
        host,
        framing,
        keep_alive: !close && (keep || !old),
        // HTTP/1.0 knows no interim answers.
        expects_continue: expects_continue && !old && framing != Framing::None,
        upgrade: upgrade && !old,
        size: buf.len(),
        fields,
    })
}

/// Whether `host` is a host with an optional port, as the Host header and an authority write it.
pub fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, after)) => {
                let is_address =
                    !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
                (is_address, after)
            }
            None => return false,
        },
        None => {
            let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
            let is_name =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&b));
            (is_name, port)
        }
    };
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|digits| digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()));
    name && is_port
}

/// A response head, as the application server behind the edge writes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResponseHead<'a> {
    /// 200 to 599.
    pub status: u16,
    /// All header lines, in order.
    pub fields: Vec<Field<'a>>,
    /// What follows, unless the request was HEAD or the status forbids a body.
    pub framing: Framing,
    /// Whether the server goes on after it.
    pub keep_alive: bool,
    /// Bytes of the head.
    pub size: usize,
}

/// Reads a response head from the front of `buf`: `None` while it is incomplete.
pub fn parse_response_head(buf: &[u8]) -> Result<Option<ResponseHead<'_>>, HeadError> {
    let mut lines = [httparse::EMPTY_HEADER; 128];
    let mut response = httparse::Response::new(&mut lines);
    let size = match response.parse(buf) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(_) => return Err(HeadError::Malformed),
    };
    let (Some(minor), Some(status @ 200..=599)) = (response.version, response.code) else {
        return Err(HeadError::Malformed);
    };
    let fields: Vec<Field<'_>> =
        response.headers.iter().map(|line| Field { name: line.name, value: line.value }).collect();
    let framing = read_framing(&fields, minor == 0)?;
    let keep_alive = minor == 1 && !connection_tokens(&fields).any(|token| token.eq_ignore_ascii_case(b"close"));
    Ok(Some(ResponseHead { status, fields, framing, keep_alive, size }))
}

/// Whether a byte may stand in a method or header name.
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn version_error(text: &[u8]) -> HeadError {
    let line = text.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ').skip(2);
    match (words.next(), words.next()) {
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            HeadError::Version
        }
        _ => HeadError::Malformed,
    }
}

fn read_host<'a>(fields: &[Field<'a>], old: bool) -> Result<Option<&'a str>, HeadError> {
    let mut hosts = fields.iter().filter(|field| field.is("host"));
    match (hosts.next(), hosts.next()) {
        (Some(field), None) => {
            let host = str::from_utf8(field.value).ok().filter(|host| is_host(host));
            host.map(Some).ok_or(HeadError::Host)
        }
        (None, None) if old => Ok(None),
        _ => Err(HeadError::Host),
    }
}

fn read_target<'a>(method: &str, target: &'a str, host: Option<&str>) -> Result<&'a str, HeadError> {
    if method == "CONNECT" {
        return Err(HeadError::Connect);
    }
    if !target.is_ascii() || target.contains('#') {
        return Err(HeadError::Target);
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok(target);
    }
    // Absolute form, as proxies get it: fine when it means this very host (RFC 9112, section 3.2.2).
    let (scheme, rest) = target.split_once("://").ok_or(HeadError::Target)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let is_here = host.is_some_and(|host| host.eq_ignore_ascii_case(authority));
    match (is_http && is_here, path) {
        (true, "") => Ok("/"),
        (true, _) if path.starts_with('/') => Ok(path),
        _ => Err(HeadError::Target),
    }
}

fn read_framing(fields: &[Field<'_>], old: bool) -> Result<Framing, HeadError> {
    let mut framing = Framing::None;
    for field in fields {
        if field.is("content-length") {
            if framing != Framing::None {
                return Err(HeadError::Length);
            }
            framing = Framing::Length(read_length(field.value).ok_or(HeadError::Length)?);
        } else if field.is("transfer-encoding") {
            match framing {
                Framing::Length(_) => return Err(HeadError::Length),
                Framing::None if !old && field.value.eq_ignore_ascii_case(b"chunked") => framing = Framing::Chunked,
                _ => return Err(HeadError::Coding),
            }
        }
    }
    Ok(framing)
}

fn read_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(value).ok()?.parse().ok()
}

fn connection_tokens<'a>(fields: &'a [Field<'a>]) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(|field| field.is("connection"))
        .flat_map(|field| field.value.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 1024, headers: 8 };

    fn parse(text: &[u8]) -> Result<Head<'_>, HeadError> {
        parse_head(text, LIMITS).map(|head| head.expect("the head is complete"))
    }

    fn with(lines: &str) -> Vec<u8> {
        format!("POST /a HTTP/1.1\r\nHost: h\r\n{lines}\r\n").into_bytes()
    }

    #[test]
    fn reads_a_plain_request() {
        let text = b"GET /a?b HTTP/1.1\r\nHost: h:1\r\nConnection: Upgrade, x-y\r\nUpgrade: websocket\r\n\r\nrest";
        let head = parse(text).unwrap();
        assert_eq!((head.method, head.target, head.host), ("GET", "/a?b", Some("h:1")));
        assert_eq!((head.framing, head.keep_alive, head.upgrade, head.old), (Framing::None, true, true, false));
        assert!(head.is_named_by_connection("X-Y"));
        assert_eq!(head.size, text.len() - 4);
    }

    #[test]
    fn forgives_one_empty_line_before_a_request_and_no_more() {
        assert!(parse(b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n").is_ok());
        assert_eq!(parse(b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"), Err(HeadError::Malformed));
        assert_eq!(parse(b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"), Err(HeadError::Malformed));
    }

    #[test]
    fn accepts_what_ordinary_clients_send() {
        assert_eq!(parse(&with("Content-Length: 5\r\n")).unwrap().framing, Framing::Length(5));
        assert_eq!(parse(&with("Transfer-Encoding: Chunked\r\n")).unwrap().framing, Framing::Chunked);
        assert!(parse(&with("Expect: 100-Continue\r\nContent-Length: 1\r\n")).unwrap().expects_continue);
        assert!(parse(&with("X: caf\u{e9}\r\n")).is_ok());
        assert!(!parse(&with("Connection: close\r\n")).unwrap().keep_alive);
        let old = parse(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        assert!(old.old && !old.keep_alive && old.host.is_none());
        assert!(parse(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap().keep_alive);
        assert_eq!(parse(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").unwrap().target, "*");
        assert_eq!(parse(b"GET http://H/x?y HTTP/1.1\r\nHost: h\r\n\r\n").unwrap().target, "/x?y");
        assert_eq!(parse(b"GET http://h HTTP/1.1\r\nHost: h\r\n\r\n").unwrap().target, "/");
    }

    #[test]
    fn refuses_every_ambiguous_shape() {
        use HeadError::*;
        let in_lines: &[(&str, HeadError)] = &[
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Length),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Length),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Length),
            ("Content-Length: 5\r\ncontent-length: 6\r\n", Length),
            ("Content-Length: 5, 5\r\n", Length),
            ("Content-Length: +5\r\n", Length),
            ("Content-Length: -5\r\n", Length),
            ("Content-Length: 0x5\r\n", Length),
            ("Content-Length: 5x\r\n", Length),
            ("Content-Length: 5 5\r\n", Length),
            ("Content-Length: \r\n", Length),
            ("Content-Length: 99999999999999999999\r\n", Length),
            ("Transfer-Encoding: identity\r\n", Coding),
            ("Transfer-Encoding: gzip, chunked\r\n", Coding),
            ("Transfer-Encoding: chunked, chunked\r\n", Coding),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Coding),
            ("Transfer-Encoding: xchunked\r\n", Coding),
            ("Transfer-Encoding: \"chunked\"\r\n", Coding),
            ("Transfer-Encoding:\r\n", Coding),
            ("Transfer-Encoding: \u{b}chunked\r\n", Malformed),
            ("Transfer-Encoding: chunked\u{b}\r\n", Malformed),
            ("Transfer-Encoding : chunked\r\n", Malformed),
            ("X: a\r\n b\r\n", Malformed),
            ("X: a\r\n\tb\r\n", Malformed),
            ("X: a\nY: b\r\n", Malformed),
            ("X: a\rY: b\r\n", Malformed),
            ("X: a\0b\r\n", Malformed),
            ("X: a\u{1}b\r\n", Malformed),
            ("X: a\u{7f}b\r\n", Malformed),
            ("X Y: a\r\n", Malformed),
            (": a\r\n", Malformed),
            ("X\r\n", Malformed),
            ("Host: h\r\n", Host),
            ("Expect: magic\r\n", Expectation),
            ("Expect: 100-continue\r\nExpect: 100-continue\r\n", Expectation),
        ];
        for (lines, error) in in_lines {
            assert_eq!(parse(&with(lines)), Err(*error), "{lines:?}");
        }
        let whole: &[(&[u8], HeadError)] = &[
            (b"GET / HTTP/1.1\r\n\r\n", Host),
            (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", Host),
            (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Host),
            (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", Host),
            (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Host),
            (b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", Host),
            (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", Host),
            (b"GET http://other/ HTTP/1.1\r\nHost: h\r\n\r\n", Target),
            (b"GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", Target),
            (b"GET http://h?x HTTP/1.1\r\nHost: h\r\n\r\n", Target),
            (b"GET h:80 HTTP/1.1\r\nHost: h\r\n\r\n", Target),
            (b"GET * HTTP/1.1\r\nHost: h\r\n\r\n", Target),
            (b"GET /#f HTTP/1.1\r\nHost: h\r\n\r\n", Target),
            ("GET /\u{e9} HTTP/1.1\r\nHost: h\r\n\r\n".as_bytes(), Target),
            (b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n", Malformed),
            (b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", Connect),
            (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", Malformed),
            (b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", Malformed),
            (b"GET /\tHTTP/1.1\r\nHost: h\r\n\r\n", Malformed),
            (b"GET /\r\nHost: h\r\n\r\n", Malformed),
            (b"GET / HTTP/1.1\nHost: h\n\n", Malformed),
            (b"GET / http/1.1\r\nHost: h\r\n\r\n", Malformed),
            (b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", Version),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Version),
            (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Coding),
            (b"\x16\x03\x01", Malformed),
        ];
        for (text, error) in whole {
            assert_eq!(parse(text), Err(*error), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn bounds_line_head_and_count() {
        let long = format!("GET /{}", "a".repeat(2000));
        assert_eq!(parse_head(long.as_bytes(), LIMITS), Err(HeadError::TargetTooLong));
        assert_eq!(parse_head(&with(&format!("X: {}\r\n", "a".repeat(2000))), LIMITS), Err(HeadError::TooLarge));
        assert_eq!(parse_head(&with(&"X: a\r\n".repeat(8)), LIMITS), Err(HeadError::TooLarge));
        assert!(parse_head(&with(&"X: a\r\n".repeat(7)), LIMITS).is_ok());
    }

    #[test]
    fn reads_responses() {
        let head = parse_response_head(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.status, head.framing, head.keep_alive), (204, Framing::Length(0), true));
        assert_eq!(parse_response_head(b"HTTP/1.1 200 OK\r\nA: "), Ok(None));
        assert!(parse_response_head(b"HTTP/1.1 100 Continue\r\n\r\n").is_err());
        assert!(parse_response_head(b"nonsense").is_err());
    }

    #[test]
    fn knows_hosts() {
        for good in ["a", "a.b:80", "127.0.0.1:1", "[::1]", "[fe80::1]:443", "x_y", "a:"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", ":80", "a:b", "[::1", "[]", "[::1]x", "a/b", "a b", "u@h", "a:123456", "a\\b"] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    fn pieces() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
        use proptest::prelude::*;
        let piece = prop_oneof![
            Just(b"GET / HTTP/1.1\r\n".to_vec()),
            Just(b"Host: h\r\n".to_vec()),
            Just(b"Content-Length: 3\r\n".to_vec()),
            Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"\n".to_vec()),
            Just(b" ".to_vec()),
            prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_agrees_however_the_input_is_cut(input in pieces(), step in 1usize..9) {
            let whole = parse_head(&input, LIMITS);
            let mut scanner = Scanner::default();
            let mut found = Ok(None);
            let mut have = 0;
            while have < input.len() && found == Ok(None) {
                have = (have + step).min(input.len());
                found = scanner.scan(&input[..have], LIMITS);
            }
            let cut = match found {
                Ok(Some(end)) => parse_whole_head(&input[..end], LIMITS).map(Some),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
            proptest::prop_assert_eq!(cut, whole);
            let _ = parse_response_head(&input);
        }
    }
}
