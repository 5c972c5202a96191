use moorline::wire::websocket::{ByteStream, Error};
use proptest::prelude::*;

use super::cases;

const FIN: u8 = 0x80;

/// A client's frame with the head's first byte as given.
fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..65_536 => {
            bytes.push(0xfe);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0xff);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Verdict, payload, answer.
fn read(pieces: &[&[u8]]) -> (Result<(), Error>, Vec<u8>, Vec<u8>) {
    let (mut stream, mut payload, mut out) = (ByteStream::default(), Vec::new(), Vec::new());
    let result = pieces.iter().try_for_each(|piece| stream.receive(piece, &mut payload, &mut out));
    (result, payload, out)
}

#[test]
fn joins_messages_and_fragments_and_answers_between_them() {
    let bytes = [
        client(FIN | 2, b"one "),
        client(2, b"two "),
        client(FIN | 9, b"ping"),
        client(0, b"three "),
        client(FIN, b""),
        client(FIN | 10, b"stray"),
        client(FIN | 2, b"four"),
        client(FIN | 8, &[0x03, 0xe8, b'x']),
        client(FIN | 2, b"unheard"),
    ]
    .concat();
    let (result, payload, out) = read(&[&bytes]);
    assert_eq!((result, payload.as_slice()), (Ok(()), &b"one two three four"[..]));
    assert_eq!(out, [&[0x8a, 4][..], b"ping", &[0x88, 2, 0x03, 0xe8]].concat());
}

#[test]
fn refuses_what_the_protocol_forbids_and_says_so() {
    let unmasked = vec![0x82, 1, 7];
    let reserved = client(FIN | 0x40 | 2, b"compressed");
    let orphan = client(FIN, b"no message has begun");
    let nested = [client(2, b"a"), client(FIN | 2, b"b")].concat();
    let long_ping = client(FIN | 9, &[0; 126]);
    let cut_ping = client(9, b"a");
    let endless = vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    for bytes in [unmasked, reserved, orphan, nested, long_ping, cut_ping, endless] {
        let (result, _, out) = read(&[&bytes]);
        assert_eq!(result, Err(Error::Protocol), "{bytes:02x?}");
        assert_eq!((out[0], &out[2..4]), (0x88, &[0x03, 0xea][..]), "{bytes:02x?}");
    }
    let (result, _, out) = read(&[&client(FIN | 1, b"text")]);
    assert_eq!(result, Err(Error::Text));
    assert_eq!((out[0], &out[2..4]), (0x88, &[0x03, 0xeb][..]));
}

#[test]
fn asks_for_a_sign_of_life() {
    let mut out = Vec::new();
    ByteStream::default().ping(&mut out);
    assert_eq!(out, [0x89, 0]);
}

#[test]
fn writes_messages_that_every_client_takes() {
    let (mut stream, mut out) = (ByteStream::default(), Vec::new());
    stream.write(&[7; 70_000], &mut out);
    let mut rest = &out[..];
    let mut lengths = Vec::new();
    while !rest.is_empty() {
        assert_eq!((rest[0], rest[1]), (0x82, 126));
        let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        assert!(rest[4..4 + length].iter().all(|byte| *byte == 7));
        lengths.push(length);
        rest = &rest[4 + length..];
    }
    assert_eq!(lengths, [32_768, 32_768, 4_464]);
    out.clear();
    stream.close(1012, "the server is restarting", &mut out);
    assert_eq!(out[..4], [0x88, 26, 0x03, 0xf4]);
    let length = out.len();
    stream.close(1000, "", &mut out);
    stream.write(b"x", &mut out);
    assert_eq!(out.len(), length, "nothing follows a close");
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn the_outcome_does_not_depend_on_how_bytes_are_cut(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..6),
        cuts in prop::collection::vec(1..60_usize, 1..40),
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(|message| client(FIN | 2, message)).collect();
        let (mut pieces, mut rest, mut cut) = (Vec::new(), &bytes[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*cut.next().unwrap()).min(rest.len()));
            pieces.push(now);
            rest = later;
        }
        prop_assert_eq!(read(&pieces), (Ok(()), messages.concat(), Vec::new()));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 1..50_usize) {
        let pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
        prop_assert_eq!(read(&pieces), read(&[&bytes]));
    }
}
