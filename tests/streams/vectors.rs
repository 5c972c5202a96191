//! Bytes recorded from the real client and server, whole conversations of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::driver::{BINARY, Frame, Line, SOON, Server, frames, masked};
use moorline::store::agents::Lifecycle;
use moorline::streams::rpc;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Says each line as a message of its own, and gives the server's yamux frames without their borders:
/// `(flags, stream)` of the empty ones, and the payloads in one.
fn converse(server: &Server, stream: u32, lines: &[&str], last: &str) -> (Vec<(u16, u32)>, Vec<u8>) {
    let agent = rpc::agent(server.app.clone(), server.row(), "2.6".into(), true, String::new());
    let mut line = Line::open(agent);
    for one in lines {
        line.feed(&masked(BINARY, &hex(one)));
    }
    let (mut flags, mut payload) = (Vec::new(), Vec::new());
    let mut read = |bytes: Vec<u8>| {
        let mut all = Vec::new();
        for frame in frames(&bytes) {
            let Frame::Binary(bytes) = frame else { panic!("{frame:?}") };
            all.extend(bytes);
        }
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let length = usize::try_from(u32::from_be_bytes(rest[8..12].try_into().unwrap())).unwrap();
            assert_eq!(u32::from_be_bytes(rest[4..8].try_into().unwrap()), stream);
            if rest[1] == 0 {
                payload.extend(&rest[12..12 + length]);
                rest = &rest[12 + length..];
            } else {
                flags.push((u16::from_be_bytes([rest[2], rest[3]]), stream));
                rest = &rest[12..];
            }
        }
        !payload.is_empty()
    };
    let start = std::time::Instant::now();
    while !read(line.take()) {
        assert!(start.elapsed() < SOON);
        line.letters();
        std::thread::yield_now();
    }
    line.feed(&masked(BINARY, &hex(last)));
    read(line.take());
    (flags, payload)
}

const SYN: &str = "0001000100000001 00000000";

#[test]
fn update_lifecycle_goes_as_recorded() {
    let server = Server::start();
    let (flags, payload) = converse(
        &server,
        1,
        &[
            SYN,
            "000000000000000100000042",
            "030101252f636f6465722e6167656e742e76322e4167656e742f5570646174654c6966656379636c65
             050102110a0f0802120b0880e2cfaa06108094ef3a
             0d010300",
        ],
        "000000000000000100000004 0b010400 000100040000000100000000",
    );
    assert_eq!(flags, [(2, 1), (4, 1)], "one ACK, one FIN");
    assert_eq!(payload, hex("0501010f0802120b0880e2cfaa06108094ef3a 0d010200"));
    let row = server.row();
    assert_eq!(row.lifecycle_state, Lifecycle::Starting);
    assert_eq!(row.started_at.unwrap().0, 1_700_000_000_123_456);
}

#[test]
fn update_stats_goes_as_recorded() {
    let server = Server::start();
    let (flags, payload) = converse(
        &server,
        3,
        &[
            "000100010000000300000000",
            "00000000000000030000002d",
            "030101212f636f6465722e6167656e742e76322e4167656e742f5570646174655374617473 05010200 0d010300",
        ],
        "000000000000000300000004 0b010400 000100040000000300000000",
    );
    assert_eq!(flags, [(2, 3), (4, 3)]);
    assert_eq!(payload, hex("050101050a0308ac02 0d010200"));
}

#[test]
fn a_missing_timing_is_refused_as_recorded() {
    let server = Server::start();
    let name = b"/coder.agent.v2.Agent/ScriptCompleted";
    let mut call = vec![3, 1, 1, u8::try_from(name.len()).unwrap()];
    call.extend(name);
    call.extend([5, 1, 2, 0, 13, 1, 3, 0]);
    let text: String = call.iter().map(|byte| format!("{byte:02x}")).collect();
    let head = format!("0000000000000001{:08x}", call.len());
    let (_, payload) = converse(&server, 1, &[SYN, &head, &text], "000100040000000100000000");
    assert_eq!(payload, hex("0701012100000000000000007363726970742074696d696e67206973207265717569726564"));
}

#[test]
fn an_unimplemented_call_is_answered_as_recorded() {
    let server = Server::start();
    let name = b"/coder.agent.v2.Agent/PushContextState";
    let mut call = vec![3, 1, 1, u8::try_from(name.len()).unwrap()];
    call.extend(name);
    call.extend([5, 1, 2, 0, 13, 1, 3, 0]);
    let text: String = call.iter().map(|byte| format!("{byte:02x}")).collect();
    let head = format!("0000000000000001{:08x}", call.len());
    let (_, payload) = converse(&server, 1, &[SYN, &head, &text], "000100040000000100000000");
    assert_eq!(payload, hex("07010115000000000000000c556e696d706c656d656e746564"));
}

#[test]
fn the_relay_map_comes_as_recorded() {
    let server = Server::start();
    let (_, payload) = converse(
        &server,
        11,
        &[
            "000100010000000b00000000",
            "000000000000000b00000030",
            "030101282f636f6465722e7461696c6e65742e76322e5461696c6e65742f53747265616d444552504d617073 05010200",
            "000000000000000b00000004",
            "0d010300",
        ],
        "000000000000000b00000004 0b010400 000100040000000b00000000",
    );
    // The fact sheet's section 4.5 has 2a for the tag of `nodes`; its section 4.7 and the schema have 32.
    assert_eq!(
        payload,
        hex("05010157 0a00 125308e707124e08e707 1001 1a05636f646572 2214436f64657220456d6265646465642052656c6179
             322a 0a0439393962 10e707 1a11636f6465722e6578616d706c652e636f6d 38ffffffffffffffffff01 48bb03")
    );
}

#[test]
fn frames_may_come_byte_by_byte() {
    let server = Server::start();
    let bytes = hex("000100010000000300000000 00000000000000030000002d
         030101212f636f6465722e6167656e742e76322e4167656e742f5570646174655374617473 05010200 0d010300");
    let agent = rpc::agent(server.app.clone(), server.row(), "2.6".into(), true, String::new());
    let mut line = Line::open(agent);
    for byte in bytes {
        for part in masked(BINARY, &[byte]) {
            line.feed(&[part]);
        }
        // Messages without payload mean nothing.
        line.feed(&masked(BINARY, &[]));
    }
    assert!(!line.take().is_empty());
}
