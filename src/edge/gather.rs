//! Streams that exchange packets: they live on one loop, where they hand things to each other without
//! locks and wake-ups between threads.

use std::sync::atomic::Ordering;

use super::conn::{Conn, Fate};
use super::event_loop::{Command, Loop};
use super::slab::token;
use crate::ops::mail::ConnId;

impl Loop {
    /// Those for which others have left something take it, all in one go.
    pub(super) fn wake_streams(&mut self) {
        let mut woken = std::mem::take(&mut self.cx.woken);
        for id in woken.drain(..) {
            self.with(id, Conn::on_woken);
        }
        // Those may have read and left something for others, whose turn is in the next round.
        woken.append(&mut self.cx.woken);
        self.cx.woken = woken;
    }

    /// Moves a connection to the loop on which its stream will live.
    pub(super) fn send_to_last(&mut self, id: ConnId, mut conn: Box<Conn>) {
        self.conns.free(id);
        self.load.fetch_sub(1, Ordering::Relaxed);
        let last = self.all.as_ref().and_then(|all| all.last());
        if let (Some(last), Ok(())) = (last, conn.io.deregister(&self.registry)) {
            last.load.fetch_add(1, Ordering::Relaxed);
            last.send(Command::Gather(conn));
        }
    }

    /// Takes in a connection of another loop, which is counted in `load` already, and begins its stream.
    pub(super) fn gather(&mut self, mut conn: Box<Conn>) {
        let id = self.conns.reserve();
        if let Err(error) = conn.io.register(&self.registry, token(id)) {
            log::error!("a connection cannot be watched: {error}");
            self.conns.free(id);
            self.load.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        conn.id = id;
        conn.armed = None;
        conn.in_line = false;
        conn.leaves = false;
        self.conns.put(id, conn);
        self.with(id, |conn, cx| match conn.begin_stream(cx) {
            Ok(()) => conn.run(cx),
            Err(_) => Fate::Gone,
        });
    }
}
