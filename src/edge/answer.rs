//! Answers to clients: those of workers, written afresh, and the edge's own errors.

use std::io::Write;

use uuid::Uuid;

use crate::wire::http::{Field, Framing, ResponseHead};

/// What an answer must know about its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// No body in the answer.
    pub(super) head_only: bool,
    /// HTTP/1.0.
    pub(super) old: bool,
    /// The connection goes on.
    pub(super) keep_alive: bool,
}

/// Writes a worker's answer as the client gets it.
pub(super) fn relay(head: &ResponseHead<'_>, body: &[u8], asked: Asked, out: &mut Vec<u8>) {
    out.reserve(head.size + body.len() + 64);
    status_line(head.status, out);
    end_to_end(&head.fields, out);
    let has_body = !matches!(head.status, 204 | 304);
    if has_body {
        // To HEAD, the length is the worker's word on what GET would bring.
        let length = match head.framing {
            Framing::Length(length) if asked.head_only => Some(length),
            _ if asked.head_only => None,
            _ => u64::try_from(body.len()).ok(),
        };
        if let Some(length) = length {
            let _ = write!(out, "Content-Length: {length}\r\n");
        }
    }
    connection(asked, out);
    out.extend_from_slice(b"\r\n");
    if has_body && !asked.head_only {
        out.extend_from_slice(body);
    }
}

/// Writes the head after which a WebSocket begins.
pub(super) fn websocket(head: &ResponseHead<'_>, out: &mut Vec<u8>) {
    status_line(101, out);
    out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\n");
    end_to_end(&head.fields, out);
    out.extend_from_slice(b"\r\n");
}

/// Writes the head after which an endless chunked body begins.
pub(super) fn events(head: &ResponseHead<'_>, out: &mut Vec<u8>) {
    status_line(200, out);
    end_to_end(&head.fields, out);
    // The last chunk ends the connection too: nobody waits for another request on it.
    out.extend_from_slice(b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
}

/// Writes an error of the edge's own.
pub(super) fn error(status: u16, message: &str, version: &str, id: Uuid, asked: Asked, out: &mut Vec<u8>) {
    status_line(status, out);
    let body = serde_json::json!({ "message": message }).to_string();
    let _ = write!(
        out,
        "Content-Type: application/json; charset=utf-8\r\nX-Coder-Build-Version: {version}\r\n\
         X-Coder-Request-Id: {id}\r\nX-Content-Type-Options: nosniff\r\nContent-Length: {}\r\n",
        body.len() + 1
    );
    match status {
        // Overload passes quickly: waiting requests are bounded.
        503 => out.extend_from_slice(b"Retry-After: 1\r\n"),
        405 => out.extend_from_slice(b"Allow: GET, POST, PUT, PATCH, DELETE\r\n"),
        _ => {}
    }
    connection(asked, out);
    out.extend_from_slice(b"\r\n");
    if !asked.head_only {
        out.extend_from_slice(body.as_bytes());
        out.push(b'\n');
    }
}

/// Writes an answer without a body: `OPTIONS *`.
pub(super) fn empty(version: &str, id: Uuid, asked: Asked, out: &mut Vec<u8>) {
    status_line(200, out);
    let _ = write!(out, "X-Coder-Build-Version: {version}\r\nX-Coder-Request-Id: {id}\r\nContent-Length: 0\r\n");
    connection(asked, out);
    out.extend_from_slice(b"\r\n");
}

fn status_line(status: u16, out: &mut Vec<u8>) {
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n", phrase(status));
}

fn connection(asked: Asked, out: &mut Vec<u8>) {
    if !asked.keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if asked.old {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
}

fn end_to_end(fields: &[Field<'_>], out: &mut Vec<u8>) {
    const OWN: [&str; 7] =
        ["connection", "content-length", "keep-alive", "server", "trailer", "transfer-encoding", "upgrade"];
    for field in fields {
        let is_internal = field.name.get(..11).is_some_and(|start| start.eq_ignore_ascii_case("x-moorline-"));
        if !is_internal && !OWN.iter().any(|own| field.is(own)) {
            for part in [field.name.as_bytes(), b": ", field.value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;
    use crate::wire::http::parse_response_head;

    const ASKED: Asked = Asked { head_only: false, old: false, keep_alive: true };
    const FROM_WORKER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\nDate: d\r\nX-Moorline-Takeover: events\r\n\
        Content-Type: t\r\nTransfer-Encoding: chunked\r\n\r\n";

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn keeps_end_to_end_headers_and_measures_the_body() {
        let head = parse_response_head(FROM_WORKER).unwrap().unwrap();
        assert_eq!(
            text(|out| relay(&head, b"abc", ASKED, out)),
            "HTTP/1.1 200 OK\r\nDate: d\r\nContent-Type: t\r\nContent-Length: 3\r\n\r\nabc"
        );
        let old = Asked { old: true, ..ASKED };
        assert!(text(|out| relay(&head, b"", old, out)).ends_with("Connection: keep-alive\r\n\r\n"));
        let close = Asked { keep_alive: false, ..ASKED };
        assert!(text(|out| relay(&head, b"", close, out)).ends_with("Connection: close\r\n\r\n"));
    }

    #[test]
    fn sends_no_body_where_none_may_be() {
        let head = parse_response_head(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").unwrap().unwrap();
        assert_eq!(text(|out| relay(&head, b"", ASKED, out)), "HTTP/1.1 204 No Content\r\n\r\n");
        let head = parse_response_head(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").unwrap().unwrap();
        let asked = Asked { head_only: true, ..ASKED };
        assert_eq!(text(|out| relay(&head, b"", asked, out)), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    }

    #[test]
    fn hands_over_to_streams() {
        let head = parse_response_head(FROM_WORKER).unwrap().unwrap();
        assert_eq!(
            text(|out| websocket(&head, out)),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nDate: d\r\n\
             Content-Type: t\r\n\r\n"
        );
        assert!(text(|out| events(&head, out)).contains("Transfer-Encoding: chunked\r\n"));
    }

    #[test]
    fn errors_are_json() {
        let out = text(|out| error(503, "No \"worker\".", "v2", Uuid::nil(), ASKED, out));
        assert!(out.contains("\r\nRetry-After: 1\r\n"), "{out}");
        assert!(out.ends_with("\r\n\r\n{\"message\":\"No \\\"worker\\\".\"}\n"), "{out}");
    }
}
