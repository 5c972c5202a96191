//! Forms, URLs, and HTTP through the host.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use moorline_plugin::schema::{HttpRequest, HttpResponse};
use moorline_plugin::{Answer, Host, Refusal};

/// Longest part of a provider's own words that is passed on, characters.
const SHOWN_CHARS: usize = 300;

/// An http or https URL, taken apart.
pub(crate) struct Place<'a> {
    scheme: &'a str,
    /// Host, and port where one is given.
    pub(crate) authority: &'a str,
    /// With its slash; without query.
    pub(crate) path: &'a str,
}

impl<'a> Place<'a> {
    pub(crate) fn of(url: &'a str) -> Option<Place<'a>> {
        let (scheme, rest) = url.split_once("://")?;
        if !matches!(scheme, "http" | "https") {
            return None;
        }
        let rest = rest.split(['?', '#']).next().unwrap_or(rest);
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(slash)?;
        let good = !authority.is_empty() && !authority.contains(['@', ' ', '\\']);
        good.then_some(Place { scheme, authority, path })
    }

    /// Scheme and authority.
    pub(crate) fn base(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    /// Host and port, also where the port is the usual one.
    pub(crate) fn with_port(&self) -> String {
        let host_end = self.authority.rfind(']').unwrap_or(0);
        if self.authority.get(host_end..).is_some_and(|rest| rest.contains(':')) {
            return self.authority.to_owned();
        }
        format!("{}:{}", self.authority, if self.scheme == "http" { 80 } else { 443 })
    }
}

/// Escapes as forms do.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                let _ = std::fmt::Write::write_fmt(&mut out, format_args!("%{byte:02X}"));
            }
        }
    }
    out
}

/// `a=1&b=2`.
pub(crate) fn form(pairs: &[(&str, String)]) -> String {
    pairs.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect::<Vec<_>>().join("&")
}

/// Adds to the query of a URL, before its fragment.
pub(crate) fn with_query(url: &str, pairs: &[(&str, String)]) -> String {
    let (front, fragment) = match url.split_once('#') {
        Some((front, fragment)) => (front, format!("#{fragment}")),
        None => (url, String::new()),
    };
    let join = match front.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    format!("{front}{join}{}{fragment}", form(pairs))
}

/// Undoes [`form`]; what is not properly escaped stays as it is.
pub(crate) fn parse_form(text: &str) -> Vec<(String, String)> {
    let pairs = text.trim().split('&').filter(|part| !part.is_empty());
    pairs
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (unescape(name), unescape(value))
        })
        .collect()
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.filter(|_| byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(value) => {
                bytes.push(value);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(if byte == b'+' { b' ' } else { byte });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The value of the header `Authorization` for a client or a user of this name.
pub(crate) fn basic(name: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", escape(name), escape(secret))))
}

/// A request without body.
pub(crate) fn request(method: &str, url: &str) -> HttpRequest {
    let accept = ("Accept".to_owned(), "application/json".to_owned());
    HttpRequest { method: method.to_owned(), url: url.to_owned(), headers: vec![accept], ..HttpRequest::default() }
}

/// A form to post.
pub(crate) fn post(url: &str, pairs: &[(&str, String)]) -> HttpRequest {
    let mut request = request("POST", url);
    request.headers.push(("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned()));
    request.body = form(pairs).into_bytes();
    request
}

/// Adds a header.
pub(crate) fn with(mut request: HttpRequest, name: &str, value: impl Into<String>) -> HttpRequest {
    request.headers.push((name.to_owned(), value.into()));
    request
}

/// Adds the token as bearer.
pub(crate) fn bearer(request: HttpRequest, token: &str) -> HttpRequest {
    with(request, "Authorization", format!("Bearer {token}"))
}

/// Sends a request; no answer is a refusal for now.
pub(crate) fn send(host: &Host, request: &HttpRequest) -> Answer<HttpResponse> {
    host.http(request).map_err(|mut refusal| {
        refusal.refused.message = format!("The provider cannot be reached: {}", refusal.refused.message);
        refusal
    })
}

/// When the provider may be asked again, as it says itself: seconds from now.
pub(crate) fn retry_after(response: &HttpResponse, now: i64) -> Option<u64> {
    if let Some(seconds) = response.header("retry-after").and_then(|text| text.trim().parse().ok()) {
        return Some(seconds);
    }
    let reset = |name: &str| response.header(name)?.trim().parse::<i64>().ok();
    let at = reset("x-ratelimit-reset").or_else(|| reset("ratelimit-reset"))?;
    // Some give an instant, some the seconds that are left.
    u64::try_from(if at > 1_000_000_000 { at.saturating_sub(now) } else { at }).ok()
}

/// Whether the provider limits the rate rather than refuses.
pub(crate) fn is_rate_limited(response: &HttpResponse) -> bool {
    let none_left = |name: &str| response.header(name).is_some_and(|left| left.trim() == "0");
    response.status == 429
        || (response.status == 403
            && (none_left("x-ratelimit-remaining")
                || none_left("ratelimit-remaining")
                || response.header("retry-after").is_some()))
}

/// A provider's own words, cut.
pub(crate) fn cut(text: &str) -> String {
    let clean: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    clean.chars().take(SHOWN_CHARS).collect()
}

/// Refuses for now what came with an odd status.
pub(crate) fn odd_status(response: &HttpResponse, now: i64) -> Refusal {
    let message = format!("The provider answered with status {}.", response.status);
    let code = if response.status == 429 { "rate_limited" } else { "provider_error" };
    let refusal = Refusal::unavailable(code, message);
    match retry_after(response, now) {
        Some(seconds) => refusal.retry_after(seconds),
        None => refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_urls_apart() {
        let place = Place::of("https://git.example.com:8443/login?x#y");
        let place = place.map(|place| (place.base(), place.path.to_owned(), place.with_port()));
        let expected = ("https://git.example.com:8443".into(), "/login".into(), "git.example.com:8443".into());
        assert_eq!(place, Some(expected));
        assert_eq!(Place::of("http://[::1]/").map(|place| place.with_port()), Some("[::1]:80".into()));
        for wrong in ["", "git.example.com", "ftp://a/", "https://", "https://user@a/", "https://a b/"] {
            assert!(Place::of(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn adds_to_queries() {
        let pairs = [("a", "b c&d".to_owned())];
        assert_eq!(with_query("https://x/y", &pairs), "https://x/y?a=b+c%26d");
        assert_eq!(with_query("https://x/y?z=1#f", &pairs), "https://x/y?z=1&a=b+c%26d#f");
        assert_eq!(parse_form("a=b+c%26d&e=%zz"), [("a".into(), "b c&d".into()), ("e".into(), "%zz".into())]);
    }
}
