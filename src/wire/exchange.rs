//! One HTTP request and its whole answer, on a connection that is used for nothing else.

/// Header lines of an answer.
const HEADERS: usize = 64;

/// Status and body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Body, however it was framed.
    pub body: Vec<u8>,
}

/// Longest head that is looked for while an answer comes, bytes.
const HEAD_BYTES: usize = 128 * 1024;
/// Looks at what seems to be the end of an answer in chunks. There is one end; an agent that sends many makes work.
const LOOKS: u8 = 32;

/// The bytes of a request after whose answer the server closes. All parts are the program's own, but for ids.
pub fn request(method: &str, path: &str, host: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// An answer on its way. Agents of old releases do not close the connection after it (v2.10.0), so its own framing
/// says when it is whole.
#[derive(Default)]
pub struct Coming {
    bytes: Vec<u8>,
    framing: Option<Framing>,
    looks: u8,
}

enum Framing {
    /// Whole with so many bytes, head included.
    Length(usize),
    Chunks,
    /// Whole when the connection ends.
    Close,
}

impl Coming {
    /// Where bytes are to be appended.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes so far.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing more is to be expected, though the connection is open.
    pub fn is_whole(&mut self) -> bool {
        if self.framing.is_none() && self.bytes.len() <= HEAD_BYTES {
            self.framing = framing(&self.bytes);
        }
        match self.framing {
            Some(Framing::Length(length)) => self.bytes.len() >= length,
            Some(Framing::Chunks) if self.bytes.ends_with(b"0\r\n\r\n") && self.looks < LOOKS => {
                self.looks += 1;
                answer(&self.bytes).is_some()
            }
            _ => false,
        }
    }

    /// The answer, if it is complete.
    pub fn answer(&self) -> Option<Answer> {
        answer(&self.bytes)
    }
}

/// How an answer says where it ends, once its head is there.
fn framing(bytes: &[u8]) -> Option<Framing> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = head.parse(bytes).ok()? else { return None };
    if value(&head, "Transfer-Encoding").is_some() {
        return Some(Framing::Chunks);
    }
    let length = value(&head, "Content-Length").and_then(|length| end.checked_add(length.parse().ok()?));
    Some(length.map_or(Framing::Close, Framing::Length))
}

fn value<'b>(head: &httparse::Response<'_, 'b>, name: &str) -> Option<&'b str> {
    let header = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(header.value).ok()
}

/// The answer in `bytes`, if it is complete.
pub fn answer(bytes: &[u8]) -> Option<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = head.parse(bytes).ok()? else { return None };
    let status = head.code?;
    let rest = bytes.get(end..)?;
    let body = if value(&head, "Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        unchunk(rest)?
    } else if let Some(length) = value(&head, "Content-Length") {
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
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

    use super::*;

    #[test]
    fn reads_every_framing() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nhello",
        ] {
            let got = answer(text.as_bytes()).unwrap();
            assert_eq!((got.status, got.body.as_slice()), (200, b"hello".as_slice()), "{text}");
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
            assert!(answer(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn knows_the_end_of_an_answer_before_the_connection_ends() {
        for (text, whole) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n0\r\n\r\nhe\r\n0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\n\r\nhello", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhello", false),
        ] {
            let mut coming = Coming::default();
            for (at, byte) in text.bytes().enumerate() {
                coming.buffer().push(byte);
                let last = at + 1 == text.len();
                assert_eq!(coming.is_whole(), last && whole, "{:?}", &text[..=at]);
            }
        }
    }

    #[test]
    fn stops_looking_for_an_end_that_is_none() {
        let mut coming = Coming::default();
        coming.buffer().extend_from_slice(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n");
        for _ in 0..1_000 {
            coming.buffer().extend_from_slice(b"0\r\n\r\n");
            assert!(!coming.is_whole());
        }
        assert_eq!(coming.looks, LOOKS);
    }
}
