//! yamux sessions that talk to each other, or to a peer that sends what it likes.

use std::collections::{BTreeMap, BTreeSet};

use moorline::wire::yamux::frame::{HEADER_BYTES, Header, Kind, flags};
use moorline::wire::yamux::{Event, HELD_BYTES, STREAMS, Session, WINDOW};
use proptest::prelude::*;

/// One end, with all that was done and seen there.
struct End {
    session: Session,
    /// Streams that this end has heard of or opened.
    known: Vec<u32>,
    sent: BTreeMap<u32, Vec<u8>>,
    received: BTreeMap<u32, Vec<u8>>,
    unconsumed: Vec<(u32, usize)>,
    finished: BTreeSet<u32>,
    peer_finished: BTreeSet<u32>,
    /// Streams that either end has abandoned.
    reset: BTreeSet<u32>,
    pongs: Vec<u32>,
    /// On the way to this end.
    wire: Vec<u8>,
}

impl End {
    fn new(session: Session) -> Self {
        Self {
            session,
            known: Vec::new(),
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            unconsumed: Vec::new(),
            finished: BTreeSet::new(),
            peer_finished: BTreeSet::new(),
            reset: BTreeSet::new(),
            pongs: Vec::new(),
            wire: Vec::new(),
        }
    }

    fn pick(&self, index: prop::sample::Index) -> Option<u32> {
        (!self.known.is_empty()).then(|| *index.get(&self.known))
    }

    fn receive(&mut self, count: usize) {
        let rest = self.wire.split_off(count.min(self.wire.len()));
        let bytes = std::mem::replace(&mut self.wire, rest);
        let mut events = Vec::new();
        self.session.receive(&bytes, &mut events).expect("the peer keeps the rules");
        for event in events {
            match event {
                Event::Opened(id) => self.known.push(id),
                Event::Data(id, bytes) => {
                    assert!(!self.peer_finished.contains(&id), "data after the end of stream {id}");
                    self.unconsumed.push((id, bytes.len()));
                    self.received.entry(id).or_default().extend(bytes);
                }
                Event::Finished(id) => assert!(self.peer_finished.insert(id), "stream {id} finished twice"),
                Event::Reset(id) => _ = self.reset.insert(id),
                Event::Pong(opaque) => self.pongs.push(opaque),
                Event::GoAway(code) => panic!("the peer left with {code}"),
            }
        }
    }

    fn consume(&mut self) {
        for (id, count) in self.unconsumed.drain(..) {
            self.session.consumed(id, count);
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Open,
    Send(prop::sample::Index, usize),
    Finish(prop::sample::Index),
    Reset(prop::sample::Index),
    Consume,
    Ping(u32),
    Receive(usize),
}

fn act() -> impl Strategy<Value = (bool, Act)> {
    let index = any::<prop::sample::Index>;
    let act = prop_oneof![
        3 => Just(Act::Open),
        6 => (index(), prop_oneof![0..50usize, 0..400_000usize]).prop_map(|(at, size)| Act::Send(at, size)),
        2 => index().prop_map(Act::Finish),
        1 => index().prop_map(Act::Reset),
        3 => Just(Act::Consume),
        1 => any::<u32>().prop_map(Act::Ping),
        8 => prop_oneof![0..30usize, 0..100_000usize, Just(usize::MAX)].prop_map(Act::Receive),
    ];
    (any::<bool>(), act)
}

/// Everything that is due arrives, until nothing is.
fn settle(ends: &mut [End; 2]) {
    loop {
        let mut moved = false;
        for at in 0..2 {
            ends[at].consume();
            let mut out = Vec::new();
            ends[at].session.take_output(&mut out);
            ends[1 - at].wire.extend(out);
            moved |= !ends[1 - at].wire.is_empty();
            ends[1 - at].receive(usize::MAX);
        }
        if !moved {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn all_arrives_in_order_at_any_pace(acts in prop::collection::vec(act(), 1..80)) {
        let mut ends = [End::new(Session::client()), End::new(Session::server())];
        let mut fill = 0u8;
        let mut pings = [Vec::new(), Vec::new()];
        for (side, act) in acts {
            let at = usize::from(side);
            let end = &mut ends[at];
            match act {
                Act::Open => end.known.extend(end.session.open()),
                Act::Send(index, size) => if let Some(id) = end.pick(index) {
                    let bytes: Vec<u8> = (0..size).map(|_| { fill = fill.wrapping_add(1); fill }).collect();
                    end.session.send(id, &bytes);
                    if !end.finished.contains(&id) {
                        end.sent.entry(id).or_default().extend(bytes);
                    }
                },
                Act::Finish(index) => if let Some(id) = end.pick(index) {
                    end.session.finish(id);
                    end.finished.insert(id);
                },
                Act::Reset(index) => if let Some(id) = end.pick(index) {
                    end.session.reset(id);
                    end.reset.insert(id);
                },
                Act::Consume => end.consume(),
                Act::Ping(opaque) => {
                    end.session.ping(opaque);
                    pings[at].push(opaque);
                }
                Act::Receive(count) => end.receive(count),
            }
            let mut out = Vec::new();
            ends[at].session.take_output(&mut out);
            ends[1 - at].wire.extend(out);
        }
        settle(&mut ends);
        for end in &mut ends {
            for id in end.known.clone() {
                end.session.finish(id);
                end.finished.insert(id);
            }
        }
        settle(&mut ends);
        for end in &mut ends {
            prop_assert_eq!((end.session.streams(), end.session.held()), (0, 0));
        }
        let reset: BTreeSet<u32> = ends[0].reset.union(&ends[1].reset).copied().collect();
        for at in 0..2 {
            let (here, there) = (&ends[at], &ends[1 - at]);
            prop_assert_eq!(&here.pongs, &pings[at]);
            for id in here.known.iter().filter(|id| !reset.contains(id)) {
                let nothing = Vec::new();
                let sent = here.sent.get(id).unwrap_or(&nothing);
                let received = there.received.get(id).unwrap_or(&nothing);
                prop_assert!(sent == received, "stream {}: sent {}, received {}", id, sent.len(), received.len());
                prop_assert!(there.peer_finished.contains(id), "stream {} has no end", id);
            }
        }
    }

    #[test]
    fn hostile_frames_leave_bounds_and_manners_intact(
        frames in prop::collection::vec(hostile(), 1..120),
        piece in 1..400usize,
        consumes in any::<bool>(),
    ) {
        let bytes = frames.concat();
        let mut session = Session::server();
        let mut held: BTreeMap<u32, usize> = BTreeMap::new();
        let mut output = Vec::new();
        for piece in bytes.chunks(piece) {
            let mut events = Vec::new();
            let result = session.receive(piece, &mut events);
            for event in events {
                match event {
                    Event::Opened(id) => {
                        held.insert(id, 0);
                        session.send(id, &vec![1; 300_000]);
                    }
                    Event::Data(id, bytes) => {
                        let held = held.get_mut(&id).expect("data of an open stream");
                        *held += bytes.len();
                        prop_assert!(*held <= WINDOW as usize);
                        if consumes {
                            session.consumed(id, bytes.len());
                            *held = 0;
                        }
                    }
                    Event::Finished(id) => session.finish(id),
                    _ => {}
                }
            }
            session.take_output(&mut output);
            prop_assert!(session.held() <= HELD_BYTES && session.streams() <= STREAMS);
            if result.is_err() {
                prop_assert_eq!(session.streams(), 0);
                break;
            }
        }
        mannered(&output);
    }
}

/// A frame, perhaps absurd, with payload as its header says or not.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![8 => Just(Kind::Data), 8 => Just(Kind::WindowUpdate), 2 => Just(Kind::Ping)];
    let flags = prop_oneof![6 => Just(0u16), 6 => Just(flags::SYN), 2 => Just(flags::FIN), 1 => 0..16u16];
    let length = prop_oneof![6 => 0..200u32, 1 => 0..WINDOW, 1 => any::<u32>()];
    let stream = prop_oneof![9 => (0..8u32).prop_map(|at| 2 * at + 1), 1 => 0..20u32];
    let sane = (kind, flags, stream, length).prop_map(|(kind, flags, stream, length)| {
        let mut bytes = Vec::new();
        Header { kind, flags, stream, length }.encode(&mut bytes);
        if kind == Kind::Data {
            bytes.resize(HEADER_BYTES + (length as usize).min(300_000), 7);
        }
        bytes
    });
    prop_oneof![40 => sane, 1 => prop::collection::vec(any::<u8>(), 0..40)]
}

/// What a session writes is whole frames, with one FIN per stream's life, and data only within it.
fn mannered(mut bytes: &[u8]) {
    let mut open = BTreeSet::new();
    let mut finished = BTreeSet::new();
    while let Some((header, rest)) = bytes.split_first_chunk() {
        let header = Header::decode(*header).expect("a sound header");
        let id = header.stream;
        bytes = rest;
        if header.kind == Kind::Data {
            assert!(open.contains(&id) && !finished.contains(&id), "data outside the life of stream {id}");
            bytes = &bytes[header.length as usize..];
        }
        if header.has(flags::ACK) && header.kind == Kind::WindowUpdate {
            open.insert(id);
            finished.remove(&id);
        }
        if header.has(flags::FIN) {
            assert!(finished.insert(id), "a second FIN on stream {id}");
        }
        if header.has(flags::RST) {
            open.remove(&id);
        }
    }
    assert!(bytes.is_empty(), "half a header");
}
