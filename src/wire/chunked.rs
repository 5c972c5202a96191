//! The chunked transfer coding (RFC 9112, section 7.1), decoded strictly and without I/O.
//!
//! Extensions and trailer fields are read over and dropped; both are bounded. A line ends with CRLF
//! and nothing else: a lone LF or CR is how two parsers are made to disagree about where a body ends.

use std::fmt;

/// Bytes of one chunk's extension. Nobody is known to send any; room for a signature or two.
pub const EXTENSION_BYTES: usize = 256;
/// Bytes of all trailer lines together. They are dropped, so this bounds only reading time.
pub const TRAILER_BYTES: usize = 8 * 1024;
/// Digits of a chunk size, leading zeros included: enough for any size that fits an u64.
const SIZE_DIGITS: u32 = 16;

/// Why a chunked body was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkError {
    /// The size line is not hexadecimal digits, an optional extension, CRLF.
    Size,
    /// The extension is too long or holds control characters.
    Extension,
    /// A chunk's data is not followed by CRLF.
    DataEnd,
    /// A trailer line is malformed, or all of them are too long.
    Trailer,
    /// The body is longer than allowed.
    TooLarge,
}

impl ChunkError {
    /// What to tell the client.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Size => "A chunk of the body has a malformed size.",
            Self::Extension => "A chunk of the body has a malformed extension.",
            Self::DataEnd => "A chunk of the body is not followed by a line end.",
            Self::Trailer => "The body has malformed trailer fields.",
            Self::TooLarge => "The body is larger than this route accepts.",
        }
    }
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl std::error::Error for ChunkError {}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Reading the digits of a size; how many were read.
    Size(u32),
    /// Reading over an extension; how many bytes were read.
    Extension(usize),
    /// CR after a size was read.
    SizeLf,
    /// Data bytes still to come.
    Data(u64),
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    TrailerStart,
    /// Within a trailer line.
    TrailerLine,
    /// CR of a trailer line was read.
    TrailerLf,
    /// CR of the empty line that ends the body was read.
    EndLf,
    Done,
}

/// Decodes one body.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    size: u64,
    /// Bytes that the body may still grow by.
    allowance: u64,
    trailer: usize,
}

impl Decoder {
    /// A decoder for a body of at most `limit` bytes.
    pub fn new(limit: u64) -> Decoder {
        Decoder { state: State::Size(0), size: 0, allowance: limit, trailer: 0 }
    }

    /// Whether the body has ended; further input belongs to the next message.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes input, appends body bytes to `out`, and says how much input was used: all of it, unless
    /// the body ended.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, ChunkError> {
        let mut rest = input;
        while let Some((&byte, tail)) = rest.split_first() {
            match self.state {
                State::Done => break,
                State::Data(left) => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let (data, after) = rest.split_at(take);
                    out.extend_from_slice(data);
                    rest = after;
                    let left = left.saturating_sub(take as u64);
                    self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                }
                _ => {
                    self.step(byte)?;
                    rest = tail;
                }
            }
        }
        Ok(input.len() - rest.len())
    }

    fn step(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.state = match (self.state, byte) {
            (State::Size(digits), _) if byte.is_ascii_hexdigit() => {
                if digits == SIZE_DIGITS {
                    return Err(ChunkError::Size);
                }
                let digit = char::from(byte).to_digit(16).ok_or(ChunkError::Size)?;
                self.size = self.size.checked_mul(16).ok_or(ChunkError::Size)? | u64::from(digit);
                State::Size(digits + 1)
            }
            (State::Size(1..), b'\r') => State::SizeLf,
            (State::Size(1..), b';') => State::Extension(0),
            (State::Size(_), _) => return Err(ChunkError::Size),
            (State::Extension(_), b'\r') => State::SizeLf,
            (State::Extension(read), b'\t' | b' '..=b'~' | 0x80..) if read < EXTENSION_BYTES => {
                State::Extension(read + 1)
            }
            (State::Extension(_), _) => return Err(ChunkError::Extension),
            (State::SizeLf, b'\n') => {
                let size = std::mem::take(&mut self.size);
                self.allowance = self.allowance.checked_sub(size).ok_or(ChunkError::TooLarge)?;
                if size == 0 { State::TrailerStart } else { State::Data(size) }
            }
            (State::SizeLf, _) => return Err(ChunkError::Size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size(0),
            (State::DataCr | State::DataLf, _) => return Err(ChunkError::DataEnd),
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerLine, b'\r') => State::TrailerLf,
            (State::TrailerStart, b'\t' | b' ') => return Err(ChunkError::Trailer),
            (State::TrailerStart | State::TrailerLine, b'\t' | b' '..=b'~' | 0x80..) => {
                self.trailer += 1;
                if self.trailer > TRAILER_BYTES {
                    return Err(ChunkError::Trailer);
                }
                State::TrailerLine
            }
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::Done,
            (State::TrailerStart | State::TrailerLine | State::TrailerLf | State::EndLf, _) => {
                return Err(ChunkError::Trailer);
            }
            (state @ (State::Data(_) | State::Done), _) => state,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    fn whole(input: &[u8]) -> Result<(Vec<u8>, usize, bool), ChunkError> {
        let mut decoder = Decoder::new(1000);
        let mut out = Vec::new();
        let used = decoder.decode(input, &mut out)?;
        Ok((out, used, decoder.is_done()))
    }

    #[test]
    fn decodes_chunks_and_leaves_what_follows() {
        let input = b"4\r\nRust\r\n00A\r\n0123456789\r\n0\r\n\r\nGET /";
        assert_eq!(whole(input), Ok((b"Rust0123456789".to_vec(), input.len() - 5, true)));
    }

    #[test]
    fn drops_extensions_and_trailers() {
        let input = b"4;name=\"v\"\r\nRust\r\n0;last\r\nExpires: never\r\nA: b\r\n\r\n";
        assert_eq!(whole(input), Ok((b"Rust".to_vec(), input.len(), true)));
    }

    #[test]
    fn refuses_every_ambiguous_shape() {
        use ChunkError::*;
        let long_extension = [b"1;".to_vec(), vec![b'x'; EXTENSION_BYTES + 1]].concat();
        let long_trailer = [b"0\r\n".to_vec(), vec![b'x'; TRAILER_BYTES + 1]].concat();
        let cases: &[(&[u8], ChunkError)] = &[
            (b"\r\n", Size),
            (b"-1\r\n", Size),
            (b"+1\r\n", Size),
            (b"0x1\r\n", Size),
            (b" 1\r\n", Size),
            (b"1 \r\n", Size),
            (b"1\n", Size),
            (b"1\rX", Size),
            (b"1_0\r\n", Size),
            (b"00000000000000001\r\n", Size),
            (b"ffffffffffffffff0\r\n", Size),
            (b"FFFFFFFFFFFFFFFF\r\n", TooLarge),
            (b"3e9\r\n", TooLarge),
            (b"1;a\nb", Extension),
            (b"1;\0", Extension),
            (&long_extension, Extension),
            (b"1\r\nab", DataEnd),
            (b"1\r\na\n", DataEnd),
            (b"1\r\na\rx", DataEnd),
            (b"0\r\n\n", Trailer),
            (b"0\r\n x: y\r\n", Trailer),
            (b"0\r\nx: y\n", Trailer),
            (b"0\r\nx: \0", Trailer),
            (b"0\r\n\rx", Trailer),
            (&long_trailer, Trailer),
        ];
        for (input, error) in cases {
            assert_eq!(whole(input), Err(*error), "{}", String::from_utf8_lossy(input));
        }
    }

    #[test]
    fn bounds_the_sum_of_all_chunks() {
        let mut decoder = Decoder::new(5);
        let mut out = Vec::new();
        assert_eq!(decoder.decode(b"3\r\nabc\r\n3\r\n", &mut out), Err(ChunkError::TooLarge));
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_itself_however_the_input_is_cut(
            input in proptest::collection::vec(proptest::sample::select(b"0123aF;\r\n x:\0".to_vec()), 0..64),
            step in 1usize..7,
        ) {
            let mut decoder = Decoder::new(1000);
            let mut out = Vec::new();
            let mut used = 0;
            let mut error = None;
            for piece in input.chunks(step) {
                match decoder.decode(piece, &mut out) {
                    Ok(n) => used += n,
                    Err(e) => { error = Some(e); break }
                }
                if decoder.is_done() { break }
            }
            match whole(&input) {
                Ok((body, n, done)) => {
                    proptest::prop_assert_eq!(error, None);
                    proptest::prop_assert_eq!(&out, &body);
                    proptest::prop_assert_eq!(used, n);
                    proptest::prop_assert_eq!(decoder.is_done(), done);
                }
                Err(e) => proptest::prop_assert_eq!(error, Some(e)),
            }
        }

        #[test]
        fn never_panics_and_never_exceeds_its_limit(input in proptest::collection::vec(proptest::num::u8::ANY, 0..256)) {
            let mut decoder = Decoder::new(16);
            let mut out = Vec::new();
            let _ = decoder.decode(&input, &mut out);
            proptest::prop_assert!(out.len() <= 16);
        }
    }
}
