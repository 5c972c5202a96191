//! yamux frames from a client. The first byte says how they are cut and how the server behaves.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use moorline::wire::yamux::{Event, HELD_BYTES, STREAMS, Session, WINDOW};

fuzz_target!(|input: &[u8]| {
    let Some((manner, bytes)) = input.split_first() else { return };
    let (consumes, sends, resets) = (manner & 0x80 != 0, manner & 0x40 != 0, manner & 0x20 != 0);
    let mut session = Session::server();
    let mut held: BTreeMap<u32, usize> = BTreeMap::new();
    let mut out = Vec::new();
    for piece in bytes.chunks(usize::from(manner & 0x1f) + 1) {
        let mut events = Vec::new();
        let verdict = session.receive(piece, &mut events);
        for event in events {
            match event {
                Event::Opened(id) => {
                    held.insert(id, 0);
                    if sends {
                        session.send(id, &[0; 300_000]);
                    }
                }
                Event::Data(id, bytes) => {
                    let held = held.get_mut(&id).expect("data belongs to an open stream");
                    *held += bytes.len();
                    assert!(*held <= WINDOW as usize);
                    if consumes {
                        session.consumed(id, bytes.len());
                        *held = 0;
                    }
                }
                Event::Finished(id) if resets => session.reset(id),
                Event::Finished(id) => session.finish(id),
                Event::Reset(_) | Event::Pong(_) | Event::GoAway(_) => {}
            }
        }
        assert!(session.held() <= HELD_BYTES && session.streams() <= STREAMS);
        out.clear();
        session.take_output(&mut out);
        if verdict.is_err() {
            assert_eq!(session.streams(), 0);
            return;
        }
    }
});
