use std::cell::RefCell;

use moorline::model::NodeKey;
use moorline::ops::spare::Spare;
use moorline::wire::derp::{self, Gone, Greeting, Pieces, SecretKey, Sink, TooLong, Unreadable, kind};
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::{cases, hex, mutants};

/// The private key whose bytes count up from `first`.
fn secret(first: u8) -> SecretKey {
    SecretKey::new(&Zeroizing::new(std::array::from_fn(|at| first + at as u8)))
}

fn counting<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|at| first + at as u8)
}

const CLIENT_INFO: &str = "0200000068358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254404142434445464748494a4b4c4d4e4f50515253545556575ced510ea521fd8c93b5fb572cdc3b83c51736ebbff954bbcd71a150815a3b3a0d6425f015948ec55275cfc4f82af696";

#[test]
fn speaks_as_the_recorded_peers_do() {
    let (relay, one, other) = (secret(0x00), secret(0x20), secret(0x60));
    let made = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        out
    };
    assert_eq!(
        made(&|out| relay.server_key(out)),
        hex("010000002844455250f09f94918f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f")
    );
    let json = br#"{"version":2,"CanAckPings":true}"#;
    assert_eq!(made(&|out| Greeting::client_info(&one, &relay.public(), counting(0x40), json, out)), hex(CLIENT_INFO));
    let client = relay.open(&hex(CLIENT_INFO)[5..]).unwrap();
    assert_eq!(client.key, one.public());
    assert_eq!(
        made(&|out| client.greeting.server_info(counting(0x80), 0, 0, out)),
        hex(
            "0300000035808182838485868788898a8b8c8d8e8f909192939495969723b71f196cfadb1ff1607d3771abb6ad38a15b673d7b2bf55da90ef8a1"
        )
    );
    assert_eq!(made(&|out| derp::frame(kind::NOTE_PREFERRED, &[1], out)), hex("070000000101"));
    assert_eq!(
        made(&|out| derp::send_packet(&other.public(), b"hello", out)),
        hex("0400000025675dd574ed7789310b3d2e7681f3790b466c773b1521fecf36577958371ea52f68656c6c6f")
    );
    assert_eq!(
        made(&|out| derp::recv_packet(&one.public(), b"hello", out)),
        hex("0500000025358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd16625468656c6c6f")
    );
    assert_eq!(made(&|out| derp::frame(kind::KEEP_ALIVE, &[], out)), hex("0600000000"));
    assert_eq!(made(&|out| derp::frame(kind::PONG, &counting::<8>(1), out)), hex("13000000080102030405060708"));
    assert_eq!(
        made(&|out| derp::peer_gone(&other.public(), Gone::NotHere, out)),
        hex("0800000021675dd574ed7789310b3d2e7681f3790b466c773b1521fecf36577958371ea52f01")
    );
}

#[test]
fn opens_no_greeting_with_a_changed_bit() {
    let relay = secret(0);
    mutants(&hex(CLIENT_INFO)[5..], |mutant| {
        // The top bit of a key does not count (RFC 7748 section 5).
        if mutant.get(31) != Some(&(0x54 ^ 0x80)) {
            assert!(relay.open(mutant).is_err());
        }
    });
    assert_eq!(relay.open(&[0; 55]).err(), Some(Unreadable::Short));
    assert_eq!(relay.open(&[0; 56]).err(), Some(Unreadable::Sealed));
    assert_eq!(secret(1).open(&hex(CLIENT_INFO)[5..]).err(), Some(Unreadable::Sealed));
    for (json, opens) in
        [(&b"[1"[..], false), (b"7", false), (b"{}", true), (br#"{"meshKey":"x","IsProber":true}"#, true)]
    {
        let mut sealed = Vec::new();
        Greeting::client_info(&secret(0x20), &relay.public(), [0; 24], json, &mut sealed);
        assert_eq!(relay.open(&sealed[5..]).is_ok(), opens, "{}", String::from_utf8_lossy(json));
    }
}

#[test]
fn tells_discovery_from_data() {
    let ping = [&derp::DISCO_MAGIC[..], &[0; 56]].concat();
    assert!(derp::is_disco(&ping));
    assert!(!derp::is_disco(&ping[..61]));
    assert!(!derp::is_disco(&[0; 100]));
}

/// Keeps frames of kinds below 0x20, up to 100 bytes.
#[derive(Default)]
struct Seen {
    spare: Spare,
    frames: RefCell<Vec<(u8, Vec<u8>)>>,
}

impl Sink for Seen {
    type Fault = TooLong;

    fn most(&self, kind: u8) -> Option<usize> {
        (kind < 0x20).then_some(100)
    }

    fn spare(&mut self) -> &mut Spare {
        &mut self.spare
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> Result<(), TooLong> {
        self.frames.borrow_mut().push((kind, payload.to_vec()));
        Ok(())
    }
}

/// Verdict and frames.
type Outcome = (Result<(), TooLong>, Vec<(u8, Vec<u8>)>);

fn read(pieces: &[&[u8]]) -> Outcome {
    let (mut seen, mut reader) = (Seen::default(), Pieces::default());
    let result = pieces.iter().try_for_each(|piece| reader.receive(piece, &mut seen));
    (result, seen.frames.into_inner())
}

#[test]
fn refuses_a_frame_that_claims_too_much_before_it_comes() {
    let mut bytes = Vec::new();
    derp::frame(3, &[1; 100], &mut bytes);
    bytes.extend([4, 0, 0, 0, 101]);
    let too_long = Err(TooLong { kind: 4, length: 101 });
    assert_eq!(read(&[&bytes]), (too_long, vec![(3, vec![1; 100])]));
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&single), (too_long, vec![(3, vec![1; 100])]));
}

#[test]
fn skips_what_it_does_not_know_however_long() {
    let mut bytes = vec![0xff, 0, 0x10, 0, 0];
    bytes.resize(5 + 0x10_0000, 7);
    derp::frame(5, b"after", &mut bytes);
    let pieces: Vec<&[u8]> = bytes.chunks(1_000).collect();
    assert_eq!(read(&pieces), (Ok(()), vec![(5, b"after".to_vec())]));
}

#[test]
fn an_empty_frame_that_nobody_looks_at_holds_up_nothing() {
    let mut bytes = vec![0xff, 0, 0, 0, 0];
    derp::frame(5, b"after", &mut bytes);
    assert_eq!(read(&[&bytes]), (Ok(()), vec![(5, b"after".to_vec())]));
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn the_outcome_does_not_depend_on_how_bytes_are_cut(
        frames in prop::collection::vec((0..0x30_u8, prop::collection::vec(any::<u8>(), 0..110)), 0..12),
        cuts in prop::collection::vec(1..40_usize, 1..60),
    ) {
        let mut bytes = Vec::new();
        frames.iter().for_each(|(kind, payload)| derp::frame(*kind, payload, &mut bytes));
        let whole = read(&[&bytes]);
        let (mut pieces, mut rest, mut cut) = (Vec::new(), &bytes[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*cut.next().unwrap()).min(rest.len()));
            pieces.push(now);
            rest = later;
        }
        prop_assert_eq!(&read(&pieces), &whole);
        let wanted: Vec<_> = frames.iter().filter(|(kind, _)| *kind < 0x20).take_while(|(_, payload)| payload.len() <= 100).cloned().collect();
        prop_assert_eq!(whole.1, wanted);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 1..50_usize) {
        let pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
        prop_assert_eq!(read(&pieces), read(&[&bytes]));
        let _ = secret(0).open(&bytes);
    }
}

#[test]
fn keys_are_addresses() {
    assert_eq!(secret(0x20).public(), NodeKey(hex(&CLIENT_INFO[10..74]).try_into().unwrap()));
}
