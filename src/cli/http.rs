//! As much of an HTTP client as the admin socket needs: one request, one answer, one connection.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::place::Socket;

/// The server answers verbs within a second or two; a declaration with many new passwords takes
/// 26 ms for each.
const ANSWER_DEADLINE: Duration = Duration::from_secs(120);
/// Largest answer, bytes: a list of some 50,000 workspaces.
const ANSWER_BYTES: u64 = 64 * 1024 * 1024;
const HEADERS: usize = 64;

/// Status and body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Sends a request over a connected socket and reads the whole answer.
pub(super) fn exchange(mut stream: UnixStream, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    stream.set_write_timeout(Some(ANSWER_DEADLINE))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: moorline\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // A server that refuses a large body may answer and close before it has read all of it.
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut bytes = Vec::new();
    let received = stream.take(ANSWER_BYTES).read_to_end(&mut bytes);
    match parse(&bytes) {
        Some(answer) => Ok(answer),
        None => {
            sent?;
            received?;
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer was cut off"))
        }
    }
}

/// Connects and asks; `None`: nobody listens.
pub(super) fn ask(socket: &Socket, method: &str, path: &str, body: &[u8]) -> io::Result<Option<Answer>> {
    match socket.connect() {
        Ok(stream) => exchange(stream, method, path, body).map(Some),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The answer in `bytes`, if it is complete.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = head.parse(bytes).ok()? else { return None };
    let status = head.code?;
    let rest = bytes.get(end..)?;
    let value = |name: &str| {
        let header = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    let body = if value("Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        unchunk(rest)?
    } else if let Some(length) = value("Content-Length") {
        rest.get(..length.parse().ok()?)?.to_vec()
    } else {
        rest.to_vec()
    };
    Some(Answer { status, body })
}

fn unchunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let httparse::Status::Complete((start, size)) = httparse::parse_chunk_size(bytes).ok()? else { return None };
        if size == 0 {
            return Some(body);
        }
        let end = start.checked_add(usize::try_from(size).ok()?)?;
        body.extend_from_slice(bytes.get(start..end)?);
        bytes = bytes.get(end.checked_add(2)?..)?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn reads_every_framing() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nhello",
        ] {
            let answer = parse(text.as_bytes()).unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (200, b"hello".as_slice()), "{text}");
        }
    }

    #[test]
    fn tells_a_cut_answer_from_a_whole_one() {
        for text in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ] {
            assert!(parse(text.as_bytes()).is_none(), "{text}");
        }
    }
}
