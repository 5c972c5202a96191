use moorline::wire::yamux::frame::{HEADER_BYTES, Header, Kind, flags};
use moorline::wire::yamux::{
    Error, Event, HELD_BYTES, INTERNAL_ERROR, NORMAL, PROTOCOL_ERROR, STREAMS, Session, WINDOW,
};

use super::{hex, mutants};

fn frame(kind: Kind, flags: u16, stream: u32, length: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    Header { kind, flags, stream, length }.encode(&mut bytes);
    bytes
}

fn data(stream: u32, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(Kind::Data, flags, stream, payload.len().try_into().unwrap());
    bytes.extend_from_slice(payload);
    bytes
}

fn syn(stream: u32) -> Vec<u8> {
    frame(Kind::WindowUpdate, flags::SYN, stream, 0)
}

fn fin(stream: u32) -> Vec<u8> {
    frame(Kind::WindowUpdate, flags::FIN, stream, 0)
}

fn rst(stream: u32) -> Vec<u8> {
    frame(Kind::WindowUpdate, flags::RST, stream, 0)
}

fn ack(stream: u32) -> Vec<u8> {
    frame(Kind::WindowUpdate, flags::ACK, stream, 0)
}

fn receive(session: &mut Session, bytes: &[u8]) -> Result<Vec<Event>, Error> {
    let mut events = Vec::new();
    session.receive(bytes, &mut events).map(|()| events)
}

fn output(session: &mut Session) -> Vec<u8> {
    let mut out = Vec::new();
    session.take_output(&mut out);
    out
}

/// A server on which the peer has opened `streams`.
fn server(streams: &[u32]) -> Session {
    let mut session = Session::server();
    for id in streams {
        receive(&mut session, &syn(*id)).unwrap();
    }
    output(&mut session);
    session
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    Unknown,
    Open,
    PeerFinished,
    WeFinished,
    Forgotten,
}

/// What the rules say of one frame for stream 1: events, or why the session ends; and whether the
/// stream is known afterwards.
fn verdict(kind: Kind, flags: u16, payload: &[u8], state: State) -> (Result<Vec<Event>, Error>, bool) {
    let has = |flag| flags & flag != 0;
    let known = !matches!(state, State::Unknown | State::Forgotten);
    let mut events = Vec::new();
    match (has(flags::SYN), known) {
        (true, true) => return (Err(Error::Duplicate(1)), false),
        (true, false) if has(flags::RST) => return (Ok(vec![]), false),
        (true, false) => events.push(Event::Opened(1)),
        (false, false) => return (Ok(vec![]), false),
        (false, true) => {}
    }
    if has(flags::FIN) && state == State::PeerFinished {
        return (Err(Error::SecondFin(1)), false);
    }
    if has(flags::RST) {
        events.push(Event::Reset(1));
        return (Ok(events), false);
    }
    if kind == Kind::Data && !payload.is_empty() && state != State::PeerFinished {
        events.push(Event::Data(1, payload.to_vec()));
    }
    if has(flags::FIN) {
        events.push(Event::Finished(1));
    }
    (Ok(events), !(has(flags::FIN) && state == State::WeFinished))
}

#[test]
fn every_stream_frame_in_every_state_has_its_verdict() {
    for state in [State::Unknown, State::Open, State::PeerFinished, State::WeFinished, State::Forgotten] {
        for kind in [Kind::Data, Kind::WindowUpdate] {
            for flags in 0..32 {
                for payload in [b"".as_slice(), b"abc"] {
                    let mut session = server(if state == State::Unknown { &[] } else { &[1] });
                    if matches!(state, State::PeerFinished | State::Forgotten) {
                        receive(&mut session, &fin(1)).unwrap();
                    }
                    if matches!(state, State::WeFinished | State::Forgotten) {
                        session.finish(1);
                    }
                    output(&mut session);

                    let bytes = match kind {
                        Kind::Data => data(1, flags, payload),
                        _ => frame(kind, flags, 1, payload.len().try_into().unwrap()),
                    };
                    let (expected, known) = verdict(kind, flags, payload, state);
                    let case = format!("{kind:?} with flags {flags:#x} and {payload:?} when {state:?}");
                    assert_eq!(receive(&mut session, &bytes), expected, "{case}");
                    assert_eq!(session.streams(), usize::from(known), "{case}");

                    let answered = output(&mut session);
                    match expected {
                        Ok(events) if events.contains(&Event::Opened(1)) => assert_eq!(answered, ack(1), "{case}"),
                        Ok(_) => {
                            assert!(answered.is_empty(), "{case}");
                            // The next frame is where it should be.
                            assert_eq!(receive(&mut session, &syn(9)), Ok(vec![Event::Opened(9)]), "{case}");
                        }
                        Err(error) => {
                            assert_eq!(answered, frame(Kind::GoAway, 0, 0, PROTOCOL_ERROR), "{case}");
                            assert_eq!(receive(&mut session, &syn(9)), Err(error), "{case}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn pings_are_answered_whatever_else_they_carry() {
    for flags in 0..32 {
        let mut session = server(&[]);
        let events = receive(&mut session, &frame(Kind::Ping, flags, 3, 77)).unwrap();
        if flags & flags::SYN != 0 {
            assert_eq!((events, output(&mut session)), (vec![], frame(Kind::Ping, flags::ACK, 0, 77)));
        } else {
            assert_eq!((events, output(&mut session)), (vec![Event::Pong(77)], vec![]));
        }
    }
}

#[test]
fn go_away_ends_the_session_unless_normal() {
    for code in [PROTOCOL_ERROR, INTERNAL_ERROR, 3, u32::MAX] {
        let mut session = server(&[1]);
        let mut events = Vec::new();
        let result = session.receive(&frame(Kind::GoAway, 0, 0, code), &mut events);
        assert_eq!((result, events), (Err(Error::GoneAway(code)), vec![Event::GoAway(code)]));
        assert_eq!((output(&mut session), session.streams()), (vec![], 0));
    }
    let mut session = server(&[1]);
    assert_eq!(receive(&mut session, &frame(Kind::GoAway, 0, 0, NORMAL)), Ok(vec![Event::GoAway(NORMAL)]));
    assert_eq!(receive(&mut session, &data(1, 0, b"on")), Ok(vec![Event::Data(1, b"on".to_vec())]));
    assert_eq!(Session::server().open(), None);
}

#[test]
fn refuses_other_versions_and_kinds() {
    for version in 1..=255 {
        let bytes = [[version].as_slice(), &[0; HEADER_BYTES - 1]].concat();
        assert_eq!(receive(&mut server(&[]), &bytes), Err(Error::Version(version)));
    }
    for kind in 4..=255 {
        let bytes = [[0, kind].as_slice(), &[0; HEADER_BYTES - 2]].concat();
        let mut session = server(&[]);
        assert_eq!(receive(&mut session, &bytes), Err(Error::Kind(kind)));
        assert_eq!(output(&mut session), frame(Kind::GoAway, 0, 0, PROTOCOL_ERROR));
    }
}

#[test]
fn refuses_ids_of_our_half() {
    for id in [0, 2, u32::MAX - 1] {
        assert_eq!(receive(&mut server(&[]), &syn(id)), Err(Error::WrongSide(id)));
    }
}

#[test]
fn accepts_ids_out_of_order_up_to_the_last() {
    let mut session = server(&[5, 3, u32::MAX, 1]);
    assert_eq!(session.streams(), 4);
    session.send(3, b"x");
    assert_eq!(output(&mut session), data(3, 0, b"x"));
}

#[test]
fn refuses_data_beyond_the_window_at_its_header() {
    let full = vec![0; WINDOW as usize];
    let mut session = server(&[1]);
    assert!(receive(&mut session, &data(1, 0, &full)).is_ok());
    assert_eq!(session.held(), full.len());
    assert_eq!(receive(&mut session, &frame(Kind::Data, 0, 1, 1)), Err(Error::WindowExceeded(1)));
    assert_eq!(output(&mut session), frame(Kind::GoAway, 0, 0, PROTOCOL_ERROR));

    let mut session = server(&[1]);
    assert_eq!(receive(&mut session, &frame(Kind::Data, 0, 1, WINDOW + 1)), Err(Error::WindowExceeded(1)));
}

#[test]
fn data_behind_a_fin_is_skipped_but_paid_for() {
    let mut session = server(&[1]);
    receive(&mut session, &fin(1)).unwrap();
    assert_eq!(receive(&mut session, &data(1, 0, &[0; 100])), Ok(vec![]));
    assert_eq!(session.held(), 0);
    assert_eq!(receive(&mut session, &frame(Kind::Data, 0, 1, WINDOW)), Err(Error::WindowExceeded(1)));
}

#[test]
fn credit_comes_back_at_half_a_window() {
    let half = WINDOW / 2;
    let mut session = server(&[1]);
    receive(&mut session, &data(1, 0, &vec![0; WINDOW as usize])).unwrap();
    session.consumed(1, half as usize - 1);
    assert!(output(&mut session).is_empty());
    session.consumed(1, 1);
    assert_eq!(output(&mut session), frame(Kind::WindowUpdate, 0, 1, half));
    assert!(receive(&mut session, &data(1, 0, &vec![0; half as usize])).is_ok());
    // More than was received gives no more credit than that.
    session.consumed(1, usize::MAX);
    assert_eq!(output(&mut session), frame(Kind::WindowUpdate, 0, 1, WINDOW));
    assert_eq!(session.held(), 0);
}

#[test]
fn no_credit_goes_to_a_peer_that_has_finished() {
    let mut session = server(&[1]);
    receive(&mut session, &data(1, flags::FIN, &vec![0; WINDOW as usize])).unwrap();
    session.consumed(1, WINDOW as usize);
    assert!(output(&mut session).is_empty());
    assert_eq!(session.held(), 0);
}

#[test]
fn ends_when_the_caller_keeps_too_much() {
    let full = vec![0; WINDOW as usize];
    let mut session = Session::server();
    let windows = HELD_BYTES / full.len();
    for at in 0..=windows {
        let id = u32::try_from(2 * at + 1).unwrap();
        let result = receive(&mut session, &data(id, flags::SYN, &full));
        assert_eq!(result.is_err(), at == windows);
    }
    let out = output(&mut session);
    assert!(out.ends_with(&frame(Kind::GoAway, 0, 0, INTERNAL_ERROR)));
    assert_eq!((session.held(), session.streams()), (0, 0));
}

#[test]
fn sends_what_credit_allows_and_queues_the_rest() {
    let bytes: Vec<u8> = (0..WINDOW + 1000).map(|at| at.to_le_bytes()[0]).collect();
    let (now, later) = bytes.split_at(WINDOW as usize);
    let mut session = server(&[1]);
    session.send(1, &bytes);
    session.finish(1);
    session.send(1, b"after finish: ignored");
    assert_eq!(output(&mut session), data(1, 0, now));
    assert_eq!(session.queued(1), 1000);
    receive(&mut session, &frame(Kind::WindowUpdate, 0, 1, 300)).unwrap();
    assert_eq!(output(&mut session), data(1, 0, &later[..300]));
    receive(&mut session, &frame(Kind::WindowUpdate, 0, 1, 5000)).unwrap();
    assert_eq!(output(&mut session), [data(1, 0, &later[300..]), fin(1)].concat(), "FIN comes last");
    assert_eq!((session.queued(1), session.streams()), (0, 1));
    receive(&mut session, &fin(1)).unwrap();
    assert_eq!(session.streams(), 0);
}

#[test]
fn stream_lives_until_what_is_queued_is_gone() {
    let mut session = server(&[1]);
    session.send(1, &vec![0; WINDOW as usize + 1]);
    session.finish(1);
    receive(&mut session, &fin(1)).unwrap();
    output(&mut session);
    assert_eq!(session.streams(), 1);
    receive(&mut session, &frame(Kind::WindowUpdate, 0, 1, 1)).unwrap();
    assert_eq!(output(&mut session), [data(1, 0, &[0]), fin(1)].concat());
    assert_eq!(session.streams(), 0);
}

#[test]
fn finishes_once() {
    let mut session = server(&[1]);
    session.finish(1);
    session.finish(1);
    assert_eq!(output(&mut session), fin(1));
}

#[test]
fn refuses_credit_beyond_32_bits() {
    let mut session = server(&[1]);
    let most = u32::MAX - WINDOW;
    assert!(receive(&mut session, &frame(Kind::WindowUpdate, 0, 1, most)).is_ok());
    assert_eq!(receive(&mut session, &frame(Kind::WindowUpdate, 0, 1, 1)), Err(Error::CreditOverflow(1)));
    assert_eq!(receive(&mut server(&[]), &frame(Kind::WindowUpdate, 1, 1, most + 1)), Err(Error::CreditOverflow(1)));
}

#[test]
fn resets_streams_beyond_the_backlog_and_goes_on() {
    let ids: Vec<u32> = (0..STREAMS).map(|at| u32::try_from(2 * at + 1).unwrap()).collect();
    let mut session = server(&ids);
    let next = 2 * u32::try_from(STREAMS).unwrap() + 1;
    assert_eq!(receive(&mut session, &data(next, flags::SYN, b"skipped")), Ok(vec![]));
    assert_eq!(output(&mut session), rst(next));
    assert_eq!(receive(&mut session, &rst(1)), Ok(vec![Event::Reset(1)]));
    assert_eq!(receive(&mut session, &syn(next + 2)), Ok(vec![Event::Opened(next + 2)]));
}

#[test]
fn resets_new_streams_after_going_away() {
    let mut session = server(&[1]);
    session.go_away(NORMAL);
    assert_eq!(output(&mut session), frame(Kind::GoAway, 0, 0, NORMAL));
    assert_eq!(receive(&mut session, &syn(3)), Ok(vec![]));
    assert_eq!(output(&mut session), rst(3));
    assert_eq!(receive(&mut session, &data(1, 0, b"x")), Ok(vec![Event::Data(1, b"x".to_vec())]));
}

#[test]
fn reset_drops_what_is_queued_and_what_still_arrives() {
    let mut session = server(&[1]);
    session.send(1, &vec![0; WINDOW as usize + 1]);
    output(&mut session);
    let frame = data(1, 0, b"half of it");
    let (first, second) = frame.split_at(HEADER_BYTES + 4);
    assert_eq!(receive(&mut session, first), Ok(vec![Event::Data(1, b"half".to_vec())]));
    session.reset(1);
    session.reset(1);
    assert_eq!(output(&mut session), rst(1));
    assert_eq!((session.streams(), session.queued(1), session.held()), (0, 0, 0));
    assert_eq!(receive(&mut session, &[second, &syn(3)].concat()), Ok(vec![Event::Opened(3)]));
}

#[test]
fn calls_for_unknown_streams_do_nothing() {
    let mut session = server(&[1]);
    session.send(3, b"x");
    session.finish(3);
    session.reset(3);
    session.consumed(3, 5);
    assert_eq!((output(&mut session), session.queued(3)), (vec![], 0));
}

#[test]
fn payload_is_handed_on_as_it_arrives() {
    let mut session = server(&[1]);
    let mut events = Vec::new();
    for byte in data(1, flags::FIN, b"ab") {
        session.receive(&[byte], &mut events).unwrap();
    }
    assert_eq!(events, [Event::Data(1, b"a".to_vec()), Event::Data(1, b"b".to_vec()), Event::Finished(1)]);
}

#[test]
fn output_is_appended() {
    let mut session = server(&[]);
    session.ping(1);
    let mut out = vec![9];
    session.take_output(&mut out);
    assert_eq!(out, hex("09 000200010000000000000001"));
}

#[test]
fn idle_session_is_small() {
    assert!(size_of::<Session>() <= 144, "{} bytes", size_of::<Session>());
}

#[test]
fn client_opens_odd_ids() {
    let (mut client, mut server) = (Session::client(), Session::server());
    assert_eq!((client.open(), client.open()), (Some(1), Some(3)));
    assert_eq!(receive(&mut server, &output(&mut client)), Ok(vec![Event::Opened(1), Event::Opened(3)]));
    assert_eq!(receive(&mut client, &output(&mut server)), Ok(vec![]));
}

#[test]
fn mutants_do_not_panic() {
    let conversation = [
        syn(1),
        data(1, 0, b"hello"),
        frame(Kind::WindowUpdate, 0, 1, 300),
        frame(Kind::Ping, flags::SYN, 0, 1),
        data(3, flags::SYN | flags::FIN, b"x"),
        fin(1),
        frame(Kind::GoAway, 0, 0, 0),
    ]
    .concat();
    mutants(&conversation, |mutant| {
        let mut session = Session::server();
        let mut events = Vec::new();
        let _ = session.receive(mutant, &mut events);
        session.finish(1);
        session.consumed(1, 5);
        output(&mut session);
    });
}
