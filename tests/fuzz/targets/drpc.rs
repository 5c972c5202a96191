//! DRPC frames: the verdict does not depend on how they are cut, and what was read can be written
//! and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moorline::wire::drpc::{Decoder, Encoder, Packet};

fuzz_target!(|bytes: &[u8]| {
    let (mut whole, mut pieces) = (Vec::new(), Vec::new());
    let verdict = Decoder::new().receive(bytes, &mut whole);
    let mut decoder = Decoder::new();
    assert_eq!(verdict, bytes.chunks(3).try_for_each(|piece| decoder.receive(piece, &mut pieces)));
    assert_eq!(whole, pieces);

    // Cancel and Metadata are never written by us.
    whole.retain(|packet| !matches!(packet, Packet::Cancel | Packet::Metadata(_)));
    let (mut encoder, mut out, mut again) = (Encoder::new(), Vec::new(), Vec::new());
    for packet in &whole {
        match packet {
            Packet::Invoke(name) => encoder.invoke(name, &mut out),
            Packet::Message(message) => encoder.message(message, &mut out),
            Packet::Error { code, text } => encoder.error(*code, text, &mut out),
            Packet::Close => encoder.close(&mut out),
            _ => encoder.close_send(&mut out),
        }
    }
    assert_eq!(Decoder::new().receive(&out, &mut again), Ok(()));
    assert_eq!(whole, again);
});
