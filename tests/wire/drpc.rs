use moorline::wire::drpc::{Decoder, Encoder, Error, FRAME_BYTES, NAME_BYTES, PACKET_BYTES, Packet};
use proptest::prelude::*;

use super::{hex, mutants};

fn decode(text: &str) -> Result<Vec<Packet>, Error> {
    let mut packets = Vec::new();
    Decoder::new().receive(&hex(text), &mut packets).map(|()| packets)
}

fn message(text: &str) -> Packet {
    Packet::Message(hex(text))
}

#[test]
fn joins_frames_of_a_packet() {
    assert_eq!(decode("04010102aabb 04010100 05010101cc"), Ok(vec![message("aabbcc")]));
}

#[test]
fn newer_id_discards_an_incomplete_packet() {
    assert_eq!(decode("04010102aabb 05010201cc"), Ok(vec![message("cc")]));
    assert_eq!(decode("04010102aabb 0d010900"), Ok(vec![Packet::CloseSend]));
}

#[test]
fn refuses_ids_that_decrease_or_repeat() {
    assert_eq!(decode("05010100 05010100"), Err(Error::Order(1)));
    assert_eq!(decode("05010500 05010400"), Err(Error::Order(4)));
    assert_eq!(decode("04010500 05010400"), Err(Error::Order(4)));
    assert_eq!(decode("05010000"), Err(Error::Order(0)));
}

#[test]
fn accepts_gaps_in_ids() {
    assert_eq!(decode("05010100 05010700"), Ok(vec![message(""), message("")]));
}

#[test]
fn refuses_other_streams() {
    assert_eq!(decode("05000100"), Err(Error::Stream(0)));
    assert_eq!(decode("05010100 05020100"), Err(Error::Stream(2)));
}

#[test]
fn refuses_a_change_of_kind_inside_a_packet() {
    assert_eq!(decode("04010101aa 0d010100"), Err(Error::KindChanged));
}

#[test]
fn ignores_unknown_kinds_only_where_told_to() {
    assert_eq!(decode("91010103aabbcc 05010200"), Ok(vec![message("")]));
    assert_eq!(decode("90010100 11010100 05010200"), Ok(vec![message("")]), "one ignorable frame is enough");
    assert_eq!(decode("11010100"), Err(Error::Kind(8)));
    assert_eq!(decode("01010100"), Err(Error::Kind(0)));
}

/// Every kind, done or not, ignorable or not, as the first frame of a stream.
#[test]
fn every_control_byte_has_its_verdict() {
    for control in 0..=255u8 {
        let (done, kind, ignorable) = (control & 1 == 1, (control >> 1) & 0x3f, control >= 0x80);
        let expected = match kind {
            _ if !done => Ok(vec![]),
            1 => Ok(vec![Packet::Invoke(String::new())]),
            2 => Ok(vec![message("")]),
            3 => Ok(vec![Packet::Error { code: 0, text: " (sent without a code)".to_owned() }]),
            4 => Ok(vec![Packet::Cancel]),
            5 => Ok(vec![Packet::Close]),
            6 => Ok(vec![Packet::CloseSend]),
            7 => Ok(vec![Packet::Metadata(vec![])]),
            _ if ignorable => Ok(vec![]),
            _ => Err(Error::Kind(kind)),
        };
        assert_eq!(decode(&format!("{control:02x}010100")), expected, "control byte {control:#04x}");
    }
}

#[test]
fn metadata_may_come_before_invoke() {
    assert_eq!(
        decode("0f010108 0a060a016b120176 03010201 2f"),
        Ok(vec![Packet::Metadata(hex("0a060a016b120176")), Packet::Invoke("/".to_owned())])
    );
}

#[test]
fn short_error_data_is_text() {
    assert_eq!(
        decode("07010103 6f6f70"),
        Ok(vec![Packet::Error { code: 0, text: "oop (sent without a code)".to_owned() }])
    );
    assert_eq!(decode("07010108 000000000000000c"), Ok(vec![Packet::Error { code: 12, text: String::new() }]));
}

#[test]
fn refuses_names_that_are_not_utf8_or_too_long() {
    assert_eq!(decode("03010101 ff"), Err(Error::Name));
    let mut bytes = Vec::new();
    Encoder::new().invoke(&"n".repeat(NAME_BYTES + 1), &mut bytes);
    assert_eq!(Decoder::new().receive(&bytes, &mut Vec::new()), Err(Error::Name));
}

#[test]
fn refuses_numbers_of_more_than_ten_bytes() {
    assert_eq!(decode("05 8100 01 00"), Ok(vec![message("")]), "a padded number is a number");
    assert_eq!(decode("05 81808080808080808000 01 00"), Ok(vec![message("")]));
    assert_eq!(decode("05 8180808080808080808000"), Err(Error::LongVarint));
}

#[test]
fn refuses_packets_over_4_mib_before_they_arrive() {
    // 4 MiB + 1 in one frame: refused at its head, nothing held.
    assert_eq!(decode("05010181808002"), Err(Error::TooLarge));
    assert_eq!(decode("050101ffffffffffffffffff01"), Err(Error::TooLarge));
    // And as the sum of frames.
    let mut decoder = Decoder::new();
    let mut packets = Vec::new();
    let mut frame = hex("040101 80808002");
    frame.resize(frame.len() + PACKET_BYTES, 7);
    decoder.receive(&frame, &mut packets).unwrap();
    assert_eq!(decoder.receive(&hex("04010101"), &mut packets), Err(Error::TooLarge));
    assert_eq!(decoder.receive(&hex("05010200"), &mut packets), Err(Error::TooLarge), "an error stays");
    assert_eq!(decoder.held(), 0);
}

#[test]
fn claims_reserve_nothing() {
    let mut decoder = Decoder::new();
    decoder.receive(&hex("050101808080 02"), &mut Vec::new()).unwrap();
    assert_eq!(decoder.held(), 0);
}

#[test]
fn largest_message_is_cut_and_joined() {
    let data = vec![9; PACKET_BYTES];
    let mut bytes = Vec::new();
    Encoder::new().message(&data, &mut bytes);
    assert_eq!(bytes[..6], hex("040101808004"), "not done, 65,536 bytes");
    assert_eq!(bytes.len(), PACKET_BYTES + 6 * PACKET_BYTES / FRAME_BYTES);
    let mut packets = Vec::new();
    Decoder::new().receive(&bytes, &mut packets).unwrap();
    assert_eq!(packets, [Packet::Message(data)]);
}

#[test]
fn frames_are_cut_at_64_kib() {
    for (size, frames) in [(0, 1), (FRAME_BYTES, 1), (FRAME_BYTES + 1, 2), (2 * FRAME_BYTES, 2)] {
        let mut bytes = Vec::new();
        Encoder::new().message(&vec![0; size], &mut bytes);
        assert!(bytes.len() - size <= frames * 6 && bytes.len() - size >= frames * 4, "{size}: {}", bytes.len());
    }
}

#[test]
fn mutants_do_not_panic() {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new();
    encoder.invoke("/coder.agent.v2.Agent/UpdateStats", &mut bytes);
    encoder.message(&[1, 2, 3], &mut bytes);
    encoder.error(12, "Unimplemented", &mut bytes);
    encoder.close_send(&mut bytes);
    mutants(&bytes, |mutant| {
        let _ = Decoder::new().receive(mutant, &mut Vec::new());
    });
}

fn packet() -> impl Strategy<Value = Packet> {
    prop_oneof![
        ".{0,40}".prop_map(Packet::Invoke),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Packet::Message),
        (0..300_000usize).prop_map(|size| Packet::Message(vec![5; size])),
        (any::<u64>(), ".{0,40}").prop_map(|(code, text)| Packet::Error { code, text }),
        Just(Packet::Close),
        Just(Packet::CloseSend),
    ]
}

fn encode(packets: &[Packet]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    for packet in packets {
        match packet {
            Packet::Invoke(name) => encoder.invoke(name, &mut out),
            Packet::Message(data) => encoder.message(data, &mut out),
            Packet::Error { code, text } => encoder.error(*code, text, &mut out),
            Packet::Close => encoder.close(&mut out),
            _ => encoder.close_send(&mut out),
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn round_trips_in_pieces_of_any_size(
        packets in prop::collection::vec(packet(), 0..6),
        sizes in prop::collection::vec(1..5000usize, 1..20),
    ) {
        let bytes = encode(&packets);
        let mut decoder = Decoder::new();
        let (mut read, mut rest) = (Vec::new(), bytes.as_slice());
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, tail) = rest.split_at((*size).min(rest.len()));
            decoder.receive(piece, &mut read).unwrap();
            rest = tail;
        }
        prop_assert_eq!(read, packets);
    }

    #[test]
    fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut decoder = Decoder::new();
        let whole = decoder.receive(&bytes, &mut Vec::new());
        // The verdict does not depend on how the bytes are cut.
        let mut decoder = Decoder::new();
        let pieces = bytes.iter().try_for_each(|byte| decoder.receive(&[*byte], &mut Vec::new()));
        prop_assert_eq!(whole, pieces);
    }
}
