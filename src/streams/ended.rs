//! A log that has ended before it began: what was never built said nothing. `coder logs` and `coder
//! support bundle` wait for the close (cli/support.go, v2.24.0).

use std::time::Instant;

use super::socket::{NORMAL, OneWay, POLICY};
use super::{Out, Stream};
use crate::ops::mail::{Address, Mail};

/// Closes the WebSocket at once, in good order.
pub fn at_once() -> Box<dyn Stream> {
    Box::new(Ended)
}

struct Ended;

impl Stream for Ended {
    fn open(&mut self, now: Instant, _address: Address, out: &mut Out) {
        OneWay::new(now, POLICY, None).end(NORMAL, "", out);
    }

    fn receive(&mut self, _now: Instant, _bytes: &[u8], _out: &mut Out) {}

    fn mail(&mut self, _now: Instant, _mail: Mail, _out: &mut Out) {}

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn tick(&mut self, _now: Instant, _out: &mut Out) {}

    fn shutdown(&mut self, _now: Instant, _out: &mut Out) {}

    fn closed(&mut self) {}
}
