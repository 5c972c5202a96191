//! WebSocket frames from a client: the outcome does not depend on how they are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moorline::wire::websocket::WebSocket;

const LIMIT: usize = 10_000;

fuzz_target!(|bytes: &[u8]| {
    let (mut out, mut events) = (Vec::new(), Vec::new());
    let verdict = WebSocket::server(LIMIT).receive(bytes, &mut out, &mut events);

    let (mut out_of_pieces, mut events_of_pieces) = (Vec::new(), Vec::new());
    let mut socket = WebSocket::server(LIMIT);
    let verdict_of_pieces =
        bytes.chunks(3).try_for_each(|piece| socket.receive(piece, &mut out_of_pieces, &mut events_of_pieces));
    assert_eq!((verdict, out, events), (verdict_of_pieces, out_of_pieces, events_of_pieces));
});
