use moorline::wire::websocket::{Error, Event, WebSocket, accept_key};
use proptest::prelude::*;

use super::{hex, mutants};

const LIMIT: usize = 1000;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// The last, or only, fragment.
const FIN: u8 = 0x80;

/// A client's frame with the head's first byte as given.
fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = head(first, 0x80, payload.len());
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A server's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [head(first, 0, payload.len()), payload.to_vec()].concat()
}

fn head(first: u8, masked: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(masked | length as u8),
        126..65_536 => {
            bytes.push(masked | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(masked | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes
}

fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// What a fresh socket makes of `bytes`: verdict, events, answer.
fn receive(bytes: &[u8]) -> (Result<(), Error>, Vec<Event>, Vec<u8>) {
    let (mut out, mut events) = (Vec::new(), Vec::new());
    let result = WebSocket::server(LIMIT).receive(bytes, &mut out, &mut events);
    (result, events, out)
}

/// The error, which must have been told to the peer by a close frame with the error's code.
#[track_caller]
fn refused(bytes: &[u8]) -> Error {
    let mut socket = WebSocket::server(LIMIT);
    let (mut out, mut events) = (Vec::new(), Vec::new());
    let error = socket.receive(bytes, &mut out, &mut events).unwrap_err();
    assert!(socket.is_closed());
    assert_eq!(out, frame(FIN | CLOSE, &close(error.code(), &error.to_string())));
    assert_eq!(socket.receive(bytes, &mut out, &mut events), Ok(()), "what comes after is not looked at");
    assert_eq!(events, []);
    error
}

#[test]
fn reads_the_examples_of_the_rfc() {
    let hello = || vec![Event::Text("Hello".to_owned())];
    assert_eq!(receive(&hex("818537fa213d7f9f4d5158")), (Ok(()), hello(), vec![]));
    assert_eq!(receive(&hex("898537fa213d7f9f4d5158")), (Ok(()), vec![], hex("8a0548656c6c6f")));
    assert_eq!(receive(&hex("8a8537fa213d7f9f4d5158")), (Ok(()), vec![Event::Pong(b"Hello".to_vec())], vec![]));
    assert_eq!(receive(&[client(TEXT, b"Hel"), client(FIN, b"lo")].concat()), (Ok(()), hello(), vec![]));
}

#[test]
fn writes_the_examples_of_the_rfc() {
    let mut socket = WebSocket::server(LIMIT);
    let mut out = Vec::new();
    socket.text("Hello", &mut out);
    socket.ping(b"Hello", &mut out);
    assert_eq!(out, hex("810548656c6c6f 890548656c6c6f"));
    for (size, head) in [(0, "8200"), (125, "827d"), (126, "827e007e"), (65_536, "827f0000000000010000")] {
        let mut out = Vec::new();
        socket.binary(&vec![0; size], &mut out);
        assert_eq!((&out[..out.len() - size], out.len()), (hex(head).as_slice(), size + hex(head).len()));
    }
}

#[test]
fn accept_key_is_what_the_rfc_says() {
    assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ==").unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn refuses_keys_that_are_not_16_bytes() {
    for key in
        ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25j", "dGhlIHNhbXBsZSBub25jZSE=", "not base64 at all!!!!!=="]
    {
        assert_eq!(accept_key(key), None, "{key}");
    }
}

#[test]
fn answers_pings_between_fragments() {
    let bytes =
        [client(BINARY, b"a"), client(FIN | PING, b"p"), client(CONTINUATION, b"b"), client(FIN, b"c")].concat();
    let whole = (Ok(()), vec![Event::Binary(b"abc".to_vec())], frame(FIN | PONG, b"p"));
    assert_eq!(receive(&bytes), whole);
    let mut socket = WebSocket::server(LIMIT);
    let (mut out, mut events) = (Vec::new(), Vec::new());
    for byte in &bytes {
        socket.receive(&[*byte], &mut out, &mut events).unwrap();
    }
    assert_eq!((Ok(()), events, out), whole);
}

#[test]
fn accepts_empty_messages() {
    let bytes = [client(FIN | BINARY, b""), client(FIN | TEXT, b"")].concat();
    assert_eq!(receive(&bytes), (Ok(()), vec![Event::Binary(vec![]), Event::Text(String::new())], vec![]));
}

#[test]
fn splits_utf8_over_fragments_but_refuses_bad_text() {
    let bytes = [client(TEXT, &[0xc3]), client(FIN, &[0xa9])].concat();
    assert_eq!(receive(&bytes), (Ok(()), vec![Event::Text("é".to_owned())], vec![]));
    assert_eq!(refused(&client(FIN | TEXT, &[0xff])), Error::NotUtf8);
    assert_eq!(refused(&[client(TEXT, &[0xc3]), client(FIN, &[0x28])].concat()), Error::NotUtf8);
    assert_eq!(refused(&client(FIN | CLOSE, &[0x03, 0xe8, 0xff])), Error::NotUtf8);
}

#[test]
fn refuses_messages_over_the_limit() {
    assert!(receive(&client(FIN | BINARY, &[0; LIMIT])).0.is_ok());
    assert_eq!(refused(&client(FIN | BINARY, &[0; LIMIT + 1])), Error::TooBig(LIMIT));
    assert_eq!(refused(&[client(TEXT, &[b'a'; LIMIT]), client(FIN, b"b")].concat()), Error::TooBig(LIMIT));
    // At the head, whatever it claims.
    assert_eq!(refused(&hex("82ff ffffffffffffffff 00000000")), Error::TooBig(LIMIT));
    assert_eq!(refused(&hex("82ff 0000000000000400 00000000")), Error::TooBig(LIMIT));
}

#[test]
fn refuses_what_the_rfc_forbids() {
    for (bytes, what) in [
        (frame(FIN | BINARY, b"x"), "not masked"),
        (client(FIN | PING, &[0; 126]), "a control frame of 126 bytes"),
        (client(PING, b""), "a fragmented control frame"),
        (client(FIN, b"x"), "a continuation of nothing"),
        ([client(TEXT, b"x"), client(FIN | TEXT, b"y")].concat(), "a message within a message"),
        (client(FIN | 0x40 | BINARY, b"x"), "a reserved bit, compression for one"),
        (client(FIN | CLOSE, &[3]), "half a close code"),
    ] {
        assert_eq!(refused(&bytes), Error::Protocol, "{what}");
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        assert_eq!(refused(&client(FIN | opcode, b"")), Error::Protocol, "opcode {opcode}");
    }
}

#[test]
fn hands_on_what_came_before_an_error() {
    let (result, events, _) = receive(&[client(FIN | TEXT, b"ok"), client(FIN | 3, b"")].concat());
    assert_eq!((result, events), (Err(Error::Protocol), vec![Event::Text("ok".to_owned())]));
}

#[test]
fn answers_a_close_with_the_same_code() {
    let mut socket = WebSocket::server(LIMIT);
    let (mut out, mut events) = (Vec::new(), Vec::new());
    let bytes = [client(FIN | CLOSE, &close(1001, "bye")), client(FIN | TEXT, b"too late")].concat();
    socket.receive(&bytes, &mut out, &mut events).unwrap();
    assert_eq!(events, [Event::Closed { code: Some(1001), reason: "bye".to_owned() }]);
    assert_eq!(out, frame(FIN | CLOSE, &close(1001, "bye")));
    assert!(socket.is_closed());
    out.clear();
    socket.binary(b"x", &mut out);
    socket.text("x", &mut out);
    socket.ping(b"x", &mut out);
    socket.close(1000, "", &mut out);
    assert_eq!(out, b"", "nothing is written after the close");
}

#[test]
fn answers_a_close_without_code() {
    let closed = Event::Closed { code: None, reason: String::new() };
    assert_eq!(receive(&client(FIN | CLOSE, b"")), (Ok(()), vec![closed], frame(FIN | CLOSE, b"")));
}

#[test]
fn closes_first_and_waits_for_the_answer() {
    let mut socket = WebSocket::server(LIMIT);
    let (mut out, mut events) = (Vec::new(), Vec::new());
    socket.close(1012, "restart", &mut out);
    socket.close(1000, "again", &mut out);
    socket.binary(b"x", &mut out);
    assert_eq!(out, frame(FIN | CLOSE, &close(1012, "restart")));
    assert!(!socket.is_closed());
    out.clear();
    // On its way when we closed: still delivered, and pings are not answered any more.
    let bytes =
        [client(FIN | BINARY, b"late"), client(FIN | PING, b"p"), client(FIN | CLOSE, &close(1012, ""))].concat();
    socket.receive(&bytes, &mut out, &mut events).unwrap();
    let closed = Event::Closed { code: Some(1012), reason: String::new() };
    assert_eq!(events, [Event::Binary(b"late".to_vec()), closed]);
    assert_eq!(out, b"");
    assert!(socket.is_closed());
}

#[test]
fn closes_within_a_fragmented_message() {
    let mut socket = WebSocket::server(LIMIT);
    let (mut out, mut events) = (Vec::new(), Vec::new());
    socket.receive(&client(BINARY, b"a"), &mut out, &mut events).unwrap();
    socket.close(1011, "", &mut out);
    socket.receive(&client(FIN, b"b"), &mut out, &mut events).unwrap();
    assert_eq!(events, [Event::Binary(b"ab".to_vec())]);
}

#[test]
fn cuts_reasons_at_a_border() {
    for (reason, kept) in [("a".repeat(200), 123), ("é".repeat(100), 122), ("ab".to_owned(), 2)] {
        let mut out = Vec::new();
        WebSocket::server(LIMIT).close(1011, &reason, &mut out);
        assert_eq!(out, frame(FIN | CLOSE, &close(1011, &reason[..kept])));
    }
    let mut out = Vec::new();
    WebSocket::server(LIMIT).ping(&[0; 200], &mut out);
    assert_eq!(out.len(), 2 + 125);
}

#[test]
fn idle_socket_is_small() {
    assert!(size_of::<WebSocket>() <= 48, "{} bytes", size_of::<WebSocket>());
}

#[test]
fn mutants_do_not_panic() {
    let bytes = [
        client(BINARY, b"ab"),
        client(FIN | PING, b"p"),
        client(FIN, b"cd"),
        client(FIN | TEXT, "é".as_bytes()),
        client(FIN | CLOSE, &close(1000, "x")),
    ]
    .concat();
    mutants(&bytes, |mutant| {
        let _ = receive(mutant);
    });
}

#[derive(Clone, Debug)]
enum Sent {
    Message(bool, Vec<Vec<u8>>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

fn sent() -> impl Strategy<Value = Sent> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
    let text = prop::collection::vec("[a-zé€😀]{0,20}".prop_map(String::into_bytes), 1..5);
    prop_oneof![
        prop::collection::vec(bytes(200), 1..5).prop_map(|parts| Sent::Message(false, parts)),
        text.prop_map(|parts| Sent::Message(true, parts)),
        bytes(126).prop_map(Sent::Ping),
        bytes(126).prop_map(Sent::Pong),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn reads_messages_in_pieces_of_any_size(
        all in prop::collection::vec(sent(), 0..12),
        sizes in prop::collection::vec(1..300usize, 1..20),
    ) {
        let (mut bytes, mut expected, mut pongs) = (Vec::new(), Vec::new(), Vec::new());
        for sent in all {
            match sent {
                Sent::Message(text, parts) => {
                    for (at, part) in parts.iter().enumerate() {
                        let fin = if at + 1 == parts.len() { FIN } else { 0 };
                        let opcode = match (at, text) { (0, true) => TEXT, (0, false) => BINARY, _ => CONTINUATION };
                        bytes.extend(client(fin | opcode, part));
                    }
                    let whole = parts.concat();
                    expected.push(if text { Event::Text(String::from_utf8(whole).unwrap()) } else { Event::Binary(whole) });
                }
                Sent::Ping(payload) => {
                    bytes.extend(client(FIN | PING, &payload));
                    pongs.extend(frame(FIN | PONG, &payload));
                }
                Sent::Pong(payload) => {
                    bytes.extend(client(FIN | PONG, &payload));
                    expected.push(Event::Pong(payload));
                }
            }
        }
        let mut socket = WebSocket::server(LIMIT);
        let (mut out, mut events, mut rest) = (Vec::new(), Vec::new(), bytes.as_slice());
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, tail) = rest.split_at((*size).min(rest.len()));
            socket.receive(piece, &mut out, &mut events).unwrap();
            rest = tail;
        }
        prop_assert_eq!(events, expected);
        prop_assert_eq!(out, pongs);
    }

    #[test]
    fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let whole = receive(&bytes);
        let mut socket = WebSocket::server(LIMIT);
        let (mut out, mut events) = (Vec::new(), Vec::new());
        let pieces = bytes.iter().try_for_each(|byte| socket.receive(&[*byte], &mut out, &mut events));
        prop_assert_eq!(whole.0, pieces);
        prop_assert_eq!(whole.1, events);
        prop_assert_eq!(whole.2, out);
    }
}
