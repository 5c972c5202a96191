//! The codecs of `moorline::wire`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::cast_possible_truncation)]

mod derp;
mod drpc;
mod proto;
mod vectors;
mod websocket;
mod websocket_bytes;
mod yamux;
mod yamux_pairs;

use proptest::test_runner::{Config as ProptestConfig, FileFailurePersistence};

/// Property tests keep the seeds of what failed beside their source, to be committed.
pub(crate) fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::with_cases(count)
    }
}

/// Bytes from hex digits; anything else between them is for the reader.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|digit| u8::try_from(digit).expect("a hex digit")).collect();
    assert!(digits.len().is_multiple_of(2), "an odd number of hex digits: {text}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Changes one bit of every byte in turn and hands each mutant to `run`, which must not panic.
pub(crate) fn mutants(bytes: &[u8], mut run: impl FnMut(&[u8])) {
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut mutant = bytes.to_vec();
            mutant[at] ^= 1 << bit;
            run(&mutant);
        }
        run(&bytes[..at]);
    }
}
