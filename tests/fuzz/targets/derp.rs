//! Bytes of a relay connection, plain and inside a WebSocket: the outcome does not depend on how
//! they are cut, and no greeting opens that was not sealed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moorline::ops::spare::Spare;
use moorline::wire::derp::{Pieces, SecretKey, Sink, TooLong, kind};
use moorline::wire::websocket::ByteStream;

/// Takes what a relay takes.
#[derive(Default)]
struct Seen {
    spare: Spare,
    frames: Vec<(u8, Vec<u8>)>,
}

impl Sink for Seen {
    type Fault = TooLong;

    fn most(&self, kind: u8) -> Option<usize> {
        match kind {
            kind::CLIENT_INFO => Some(8_192),
            kind::SEND_PACKET => Some(65_568),
            kind::PING => Some(1_000),
            kind::NOTE_PREFERRED => Some(1),
            _ => None,
        }
    }

    fn spare(&mut self) -> &mut Spare {
        &mut self.spare
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> Result<(), TooLong> {
        self.frames.push((kind, payload.to_vec()));
        Ok(())
    }
}

fn frames(bytes: &[u8], cut: usize) -> (Result<(), TooLong>, Vec<(u8, Vec<u8>)>) {
    let (mut seen, mut pieces) = (Seen::default(), Pieces::default());
    let verdict = bytes.chunks(cut.max(1)).try_for_each(|piece| pieces.receive(piece, &mut seen));
    (verdict, seen.frames)
}

fuzz_target!(|bytes: &[u8]| {
    let whole = frames(bytes, bytes.len());
    assert_eq!(frames(bytes, 3), whole);

    let socket = |cut: usize| {
        let (mut stream, mut payload, mut out) = (ByteStream::default(), Vec::new(), Vec::new());
        let verdict = bytes.chunks(cut.max(1)).try_for_each(|piece| stream.receive(piece, &mut payload, &mut out));
        (verdict, payload, out)
    };
    assert_eq!(socket(3), socket(bytes.len()));

    let secret = SecretKey::new(&[7; 32].into());
    assert!(secret.open(bytes).is_err());
});
