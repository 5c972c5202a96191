//! HTTP request heads, and chunked bodies behind them: the verdict does not depend on how the bytes
//! arrive, and what is accepted keeps the promises that the edge relies on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moorline::wire::chunked;
use moorline::wire::http::{Framing, HeadLimits, Scanner, parse_head, parse_response_head};

const LIMITS: HeadLimits = HeadLimits { bytes: 4096, headers: 20 };
const BODY_BYTES: u64 = 1000;

fuzz_target!(|bytes: &[u8]| {
    let _ = parse_response_head(bytes);
    body(bytes);

    let mut scanner = Scanner::default();
    let found = (0..=bytes.len()).find_map(|end| scanner.scan(&bytes[..end], LIMITS).transpose());
    match parse_head(bytes, LIMITS) {
        Ok(None) => assert_eq!(found, None),
        Err(_) => assert!(found.is_some()),
        Ok(Some(head)) => {
            let Some(Ok(end)) = found else { panic!("{found:?}") };
            assert!(end <= bytes.len() && head.fields.len() <= LIMITS.headers);
            assert!(head.target.starts_with('/') || head.target == "*");
            assert!(head.target.bytes().all(|byte| byte.is_ascii_graphic()));
            assert!(head.old || head.host.is_some());
            for field in &head.fields {
                assert!(field.value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control()));
            }
            // One framing, stated once.
            let lengths = head.fields.iter().filter(|field| field.is("content-length")).count();
            let encodings = head.fields.iter().filter(|field| field.is("transfer-encoding")).count();
            match head.framing {
                Framing::None => assert_eq!((lengths, encodings), (0, 0)),
                Framing::Length(_) => assert_eq!((lengths, encodings), (1, 0)),
                Framing::Chunked => assert_eq!((lengths, encodings), (0, 1)),
            }
            body(&bytes[end..]);
        }
    }
});

fn body(bytes: &[u8]) {
    let (mut whole, mut pieces) = (Vec::new(), Vec::new());
    let mut decoder = chunked::Decoder::new(BODY_BYTES);
    let verdict = decoder.decode(bytes, &mut whole);
    let mut cut = chunked::Decoder::new(BODY_BYTES);
    let mut used = 0;
    for byte in bytes {
        match cut.decode(&[*byte], &mut pieces) {
            Ok(count) => used += count,
            Err(error) => {
                assert_eq!(verdict, Err(error));
                assert_eq!(whole, pieces);
                return;
            }
        }
    }
    assert_eq!((verdict, decoder.is_done()), (Ok(used), cut.is_done()));
    assert_eq!(whole, pieces);
    assert!(whole.len() as u64 <= BODY_BYTES);
}
