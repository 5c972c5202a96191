//! From bytes in pieces of any size to whole frames.

use super::{HEAD_BYTES, peek};
use crate::ops::spare::Spare;

/// Takes the frames.
pub trait Sink {
    /// Why it takes no more.
    type Fault: From<TooLong>;

    /// Longest payload that a frame of this kind may have, bytes; `None`: not to be looked at.
    fn most(&self, kind: u8) -> Option<usize>;

    /// Lends memory for a frame that has only begun.
    fn spare(&mut self) -> &mut Spare;

    /// A whole frame.
    fn frame(&mut self, kind: u8, payload: &[u8]) -> Result<(), Self::Fault>;
}

/// A frame claims to be longer than one of its kind may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong {
    /// Its kind.
    pub kind: u8,
    /// What it claims, bytes.
    pub length: usize,
}

/// What is left of the bytes so far: a frame that has only begun.
#[derive(Default)]
pub struct Pieces {
    /// Its beginning; without memory most of the time.
    partial: Vec<u8>,
    /// Bytes still to come of a frame that nobody looks at.
    skip: usize,
}

impl Pieces {
    /// Takes bytes and hands on each frame that is whole, in place where possible. After a fault,
    /// nothing more can be read.
    pub fn receive<S: Sink>(&mut self, mut bytes: &[u8], sink: &mut S) -> Result<(), S::Fault> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let over = self.skip.min(bytes.len());
                self.skip -= over;
                bytes = bytes.get(over..).unwrap_or_default();
            } else if self.partial.is_empty() {
                bytes = self.whole(bytes, sink)?;
                if !bytes.is_empty() {
                    if self.partial.capacity() == 0 {
                        self.partial = sink.spare().take();
                    }
                    self.partial.extend_from_slice(bytes);
                    return Ok(());
                }
            } else {
                bytes = self.complete(bytes, sink)?;
            }
        }
        Ok(())
    }

    /// Hands on the frames at the front; returns the beginning of one that follows.
    fn whole<'a, S: Sink>(&mut self, mut bytes: &'a [u8], sink: &mut S) -> Result<&'a [u8], S::Fault> {
        while let Some((kind, length)) = peek(bytes) {
            let rest = bytes.get(HEAD_BYTES..).unwrap_or_default();
            if !wanted(kind, length, sink)? {
                let here = length.min(rest.len());
                self.skip = length - here;
                bytes = rest.get(here..).unwrap_or_default();
                continue;
            }
            let Some((payload, rest)) = rest.split_at_checked(length) else { return Ok(bytes) };
            sink.frame(kind, payload)?;
            bytes = rest;
        }
        Ok(bytes)
    }

    /// Brings the frame that has begun to its end, if it is there; returns what follows.
    fn complete<'a, S: Sink>(&mut self, bytes: &'a [u8], sink: &mut S) -> Result<&'a [u8], S::Fault> {
        let bytes = self.fill(HEAD_BYTES, bytes);
        let Some((kind, length)) = peek(&self.partial) else { return Ok(bytes) };
        let is_wanted = wanted(kind, length, sink)?;
        if !is_wanted {
            self.skip = length.saturating_sub(self.partial.len() - HEAD_BYTES);
        }
        let bytes = if is_wanted { self.fill(HEAD_BYTES + length, bytes) } else { bytes };
        if is_wanted {
            let payload = self.partial.get(HEAD_BYTES..).unwrap_or_default();
            if payload.len() < length {
                return Ok(bytes);
            }
            sink.frame(kind, payload)?;
        }
        sink.spare().give(std::mem::take(&mut self.partial));
        Ok(bytes)
    }

    fn fill<'a>(&mut self, target: usize, bytes: &'a [u8]) -> &'a [u8] {
        let missing = target.saturating_sub(self.partial.len()).min(bytes.len());
        let (now, later) = bytes.split_at(missing);
        self.partial.extend_from_slice(now);
        later
    }

    /// Gives its memory back.
    pub fn end(&mut self, spare: &mut Spare) {
        spare.give(std::mem::take(&mut self.partial));
    }
}

/// Whether a frame is to be looked at.
fn wanted<S: Sink>(kind: u8, length: usize, sink: &S) -> Result<bool, S::Fault> {
    match sink.most(kind) {
        None => Ok(false),
        Some(most) if length > most => Err(TooLong { kind, length }.into()),
        Some(_) => Ok(true),
    }
}
