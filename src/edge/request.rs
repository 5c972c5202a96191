//! A client's request, written afresh for the workers.
//!
//! Nothing of the client's framing survives, nor any header that is for one hop or that only the
//! edge may set. So what the worker's own parser makes of the bytes does not matter to security.

use std::io::Write;
use std::net::IpAddr;

use uuid::Uuid;

use crate::wire::http::{Framing, Head};

/// What the edge knows about a request beside its head.
pub(super) struct Origin<'a> {
    pub(super) secret: &'a str,
    pub(super) id: Uuid,
    /// `None` on the administrator's socket.
    pub(super) peer: Option<IpAddr>,
    pub(super) secure: bool,
    /// Who is on the administrator's socket.
    pub(super) operator: Option<&'a str>,
}

/// Headers that are never handed on: for one hop only, or written anew.
const OWN_HEADERS: [&str; 15] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // Evaluated here; the outcome is in X-Moorline-Peer and X-Moorline-Scheme.
    "x-forwarded-for",
    "x-forwarded-proto",
];

/// Writes all of the head but its length and its end; see [`end_head`].
pub(super) fn begin_head(head: &Head<'_>, origin: &Origin<'_>, out: &mut Vec<u8>) {
    out.reserve(head.size + 320);
    let mut line = |parts: &[&[u8]]| {
        for part in parts {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(b"\r\n");
    };
    line(&[head.method.as_bytes(), b" ", head.target.as_bytes(), b" HTTP/1.1"]);
    line(&[b"Host: ", head.host.unwrap_or_default().as_bytes()]);
    line(&[b"X-Moorline-Secret: ", origin.secret.as_bytes()]);
    let mut id = Uuid::encode_buffer();
    line(&[b"X-Moorline-Request-Id: ", origin.id.hyphenated().encode_lower(&mut id).as_bytes()]);
    line(&[b"X-Moorline-Scheme: ", if origin.secure { b"https" } else { b"http" }]);
    if head.old {
        line(&[b"X-Moorline-Http: 1.0"]);
    }
    if let Some(operator) = origin.operator {
        line(&[b"X-Moorline-Operator: ", operator.as_bytes()]);
    }
    for field in &head.fields {
        if is_own(field.name) || (has_connection(head) && head.is_named_by_connection(field.name)) {
            continue;
        }
        out.extend_from_slice(field.name.as_bytes());
        out.extend_from_slice(b": ");
        // tiny_http drops the connection over a byte that is not ASCII. Browsers may send such cookies
        // of other sites on the same domain; none of ours has any.
        out.extend(field.value.iter().map(|&byte| if byte.is_ascii() { byte } else { b'?' }));
        out.extend_from_slice(b"\r\n");
    }
    if head.upgrade {
        let upgrades: Vec<&[u8]> =
            head.fields.iter().filter(|field| field.is("upgrade")).map(|field| field.value).collect();
        if !upgrades.is_empty() {
            out.extend_from_slice(b"X-Moorline-Upgrade: ");
            out.extend(upgrades.join(&b", "[..]).into_iter().map(|byte| if byte.is_ascii() { byte } else { b'?' }));
            out.extend_from_slice(b"\r\n");
        }
    }
    // Writing to memory cannot fail.
    let _ = match origin.peer {
        Some(peer) => write!(out, "X-Moorline-Peer: {peer}\r\n"),
        None => write!(out, "X-Moorline-Peer: \r\n"),
    };
}

/// Ends a head before a body of this length.
pub(super) fn end_head(framing: Framing, length: usize, out: &mut Vec<u8>) {
    let _ = match framing {
        Framing::None => write!(out, "\r\n"),
        Framing::Length(_) | Framing::Chunked => write!(out, "Content-Length: {length}\r\n\r\n"),
    };
}

fn has_connection(head: &Head<'_>) -> bool {
    head.fields.iter().any(|field| field.is("connection"))
}

fn is_own(name: &str) -> bool {
    name.get(..11).is_some_and(|start| start.eq_ignore_ascii_case("x-moorline-"))
        || OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;
    use crate::wire::http::{HeadLimits, parse_head};

    fn rewrite(text: &str) -> String {
        let head = parse_head(text.as_bytes(), HeadLimits { bytes: 4096, headers: 50 }).unwrap().unwrap();
        let origin = Origin {
            secret: "5ec",
            id: Uuid::nil(),
            peer: Some("1.2.3.4".parse().unwrap()),
            secure: true,
            operator: None,
        };
        let mut out = Vec::new();
        begin_head(&head, &origin, &mut out);
        end_head(head.framing, 7, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn keeps_end_to_end_headers_and_drops_all_others() {
        let out = rewrite(
            "POST /a?b HTTP/1.1\r\nHost: h\r\nAuthorization: x\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: 5\r\n\
             X-Hop: 1\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nX-MOORLINE-Operator: root\r\n\
             x-moorline-peer: 6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\nProxy-Authorization: y\r\nCookie: caf\u{e9}\r\n\r\n",
        );
        assert_eq!(
            out,
            "POST /a?b HTTP/1.1\r\nHost: h\r\nX-Moorline-Secret: 5ec\r\n\
             X-Moorline-Request-Id: 00000000-0000-0000-0000-000000000000\r\nX-Moorline-Scheme: https\r\n\
             Authorization: x\r\nCookie: caf??\r\nX-Moorline-Peer: 1.2.3.4\r\nContent-Length: 7\r\n\r\n"
        );
    }

    #[test]
    fn a_connection_header_cannot_take_away_what_the_edge_says() {
        let out = rewrite("GET / HTTP/1.1\r\nHost: h\r\nConnection: Host, X-Moorline-Peer, Content-Length\r\n\r\n");
        assert!(out.contains("\r\nHost: h\r\n") && out.contains("X-Moorline-Peer: 1.2.3.4"));
    }

    #[test]
    fn an_upgrade_is_told_in_a_header_of_ours() {
        let out = rewrite(
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: x\r\n\
             Sec-WebSocket-Key: k\r\n\r\n",
        );
        assert!(out.contains("X-Moorline-Upgrade: websocket, x\r\n") && out.contains("Sec-WebSocket-Key: k\r\n"));
        assert!(!out.contains("\r\nUpgrade:") && !out.contains("Connection:"));
        let without = rewrite("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n");
        assert!(!without.contains("Upgrade"));
    }
}
