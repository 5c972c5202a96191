//! Answers: status, headers, body; and the one place where an error becomes an answer.

use std::borrow::Cow;
use std::io::Write as _;

use serde::Serialize;

use super::envelope::Envelope;
use crate::domain::{Error, Fault, Field};

/// An answer, without the headers that every answer carries.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: u16,
    pub content_type: Option<&'static str>,
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    pub body: Vec<u8>,
    /// Bytes of the whole body when `body` is not it: to HEAD, and before a stream.
    pub length: Option<u64>,
}

const JSON: &str = "application/json; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

impl Reply {
    /// One line of JSON.
    pub(super) fn json(status: u16, value: &impl Serialize) -> Result<Reply, Error> {
        let mut body = Vec::with_capacity(256);
        serde_json::to_writer(&mut body, value)
            .map_err(|error| Error::new(Fault::Internal, "The answer cannot be written.").detail(error.to_string()))?;
        Ok(Reply::json_body(status, body))
    }

    /// JSON that is written already.
    pub(super) fn json_body(status: u16, mut body: Vec<u8>) -> Reply {
        body.push(b'\n');
        Reply { status, content_type: Some(JSON), headers: Vec::new(), body, length: None }
    }

    /// Plain text.
    pub(super) fn text(status: u16, text: impl Into<String>) -> Reply {
        Reply { status, content_type: Some(TEXT), headers: Vec::new(), body: text.into().into_bytes(), length: None }
    }

    /// No body.
    pub(super) fn empty(status: u16) -> Reply {
        Reply { status, content_type: None, headers: Vec::new(), body: Vec::new(), length: None }
    }

    /// Adds a header line.
    pub(super) fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    /// `{"message": …}` for things that went well.
    pub(super) fn message(status: u16, message: &str) -> Result<Reply, Error> {
        Reply::json(status, &Body { message, detail: "", validations: &[] })
    }

    /// What an error looks like to the client, and how loud it is in the log.
    pub(super) fn error(error: &Error, envelope: &Envelope) -> Reply {
        let (status, level) = match error.fault {
            Fault::Invalid => (400, log::Level::Debug),
            Fault::Unauthenticated => (401, log::Level::Debug),
            Fault::Forbidden => (403, log::Level::Debug),
            Fault::NotFound => (404, log::Level::Debug),
            Fault::Conflict => (409, log::Level::Debug),
            Fault::TooLarge => (413, log::Level::Debug),
            Fault::TooMany => (429, log::Level::Info),
            Fault::Unreachable => (502, log::Level::Debug),
            Fault::StorageFull => (507, log::Level::Error),
            Fault::Overloaded => (503, log::Level::Warn),
            Fault::Unimplemented => (501, log::Level::Info),
            Fault::Internal => (500, log::Level::Error),
        };
        let Envelope { id, method, path, .. } = envelope;
        log::log!(level, "request {id} {method} {path}: {status} {error}");
        let body = Body { message: &error.message, detail: &error.detail, validations: &error.fields };
        let reply = Reply::json_body(status, serde_json::to_vec(&body).unwrap_or_default());
        match error.fault {
            Fault::TooMany => reply.header("Retry-After", "60"),
            _ => reply,
        }
    }

    /// The bytes for the edge: canonical head with the common headers, then the body.
    pub(super) fn encode(&self, envelope: &Envelope) -> Vec<u8> {
        let mut out = Vec::with_capacity(640 + self.body.len());
        head(&mut out, self.status);
        line(&mut out, "X-Coder-Request-Id", envelope.id.as_hyphenated().encode_lower(&mut [0; 36]));
        line(&mut out, "X-Coder-Build-Version", &envelope.version);
        line(&mut out, "X-Content-Type-Options", "nosniff");
        if !self.headers.iter().any(|(name, _)| *name == "Vary") {
            line(&mut out, "Vary", "Origin, Cookie");
            if let Some(cookie) = &envelope.csrf_cookie {
                line(&mut out, "Set-Cookie", cookie);
            }
        }
        if let Some(rate) = envelope.rate {
            number(&mut out, "X-RateLimit-Limit", u64::from(rate.limit));
            number(&mut out, "X-RateLimit-Remaining", u64::from(rate.remaining));
            number(&mut out, "X-RateLimit-Reset", rate.reset);
        }
        for (name, value) in &self.headers {
            line(&mut out, name, value);
        }
        if let Some(content_type) = self.content_type {
            line(&mut out, "Content-Type", content_type);
        }
        if !matches!(self.status, 204 | 304) {
            let length = self.length.or_else(|| u64::try_from(self.body.len()).ok());
            number(&mut out, "Content-Length", length.unwrap_or(0));
        }
        if envelope.closes {
            line(&mut out, "Connection", "close");
        }
        out.extend_from_slice(b"\r\n");
        if envelope.method != "HEAD" {
            out.extend_from_slice(&self.body);
        }
        out
    }
}

#[derive(Serialize)]
struct Body<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    #[serde(skip_serializing_if = "<[Field]>::is_empty")]
    validations: &'a [Field],
}

/// An answer to something that is not a request of ours: no common headers, no body.
pub(super) fn bare(status: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    head(&mut out, status);
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    out
}

fn head(out: &mut Vec<u8>, status: u16) {
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n", reason(status));
}

fn line(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    // A line break in a value would end the header: none gets through.
    out.extend(value.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
    out.extend_from_slice(b"\r\n");
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    let _ = write!(out, "{name}: {value}\r\n");
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "",
    }
}
