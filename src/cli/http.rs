//! As much of an HTTP client as the admin socket needs: one request, one answer, one connection.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::place::Socket;
use crate::wire::exchange::{Answer, answer, request};

/// The server answers verbs within a second or two; a declaration with many new passwords takes
/// 26 ms for each.
const ANSWER_DEADLINE: Duration = Duration::from_secs(120);
/// Largest answer, bytes: a list of some 50,000 workspaces.
const ANSWER_BYTES: u64 = 64 * 1024 * 1024;

/// Sends a request over a connected socket and reads the whole answer.
pub(super) fn exchange(mut stream: UnixStream, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    stream.set_write_timeout(Some(ANSWER_DEADLINE))?;
    // A server that refuses a large body may answer and close before it has read all of it.
    let sent = stream.write_all(&request(method, path, "moorline", body));
    let mut bytes = Vec::new();
    let received = stream.take(ANSWER_BYTES).read_to_end(&mut bytes);
    match answer(&bytes) {
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
