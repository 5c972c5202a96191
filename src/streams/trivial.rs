//! A stream that says nothing.
use std::time::Instant;

use super::{Out, Stream};
use crate::ops::mail::{Address, Mail};

pub(super) struct Trivial;

impl Stream for Trivial {
    fn open(&mut self, _: Instant, _: Address, _: &mut Out) {}
    fn receive(&mut self, _: Instant, _: &[u8], _: &mut Out) {}
    fn mail(&mut self, _: Instant, _: Mail, _: &mut Out) {}
    fn deadline(&self) -> Option<Instant> {
        None
    }
    fn tick(&mut self, _: Instant, _: &mut Out) {}
    fn shutdown(&mut self, _: Instant, out: &mut Out) {
        out.finish = true;
    }
    fn closed(&mut self) {}
}
