//! What a connection does in the switch while it has the lock.

use std::sync::MutexGuard;
use std::time::Instant;

use super::port::{Port, PortId};
use super::{Shared, Slot, Table};
use crate::config::limits::RELAY_MEMORY;
use crate::model::NodeKey;
use crate::ops::mail::{Address, ConnId, Mail};
use crate::ops::metrics::relay::Drop as Cause;
use crate::ops::spare::Spare;
use crate::wire::derp::{Gone, is_disco, peer_gone};

/// Control frames that wait for one connection, bytes: news of 430 peers that went. One that has
/// not taken these is closed.
const CONTROL_BYTES: usize = 16 * 1024;

/// Room of the server's own peer, in shares of what others have: all agents with terminals send to it, and
/// none may push out what the others have sent. 16 MiB.
const HOSTED_SHARE: usize = 16;

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// It waits for the destination's socket.
    Forwarded,
    /// It went nowhere, and the reason is counted.
    Dropped,
    /// As before, and the sender is to be told that the destination is not here.
    NotHere,
}

/// The switch during one turn.
pub struct Turn<'a> {
    shared: &'a Shared,
    table: MutexGuard<'a, Table>,
    packets: u64,
    bytes: u64,
}

impl Turn<'_> {
    pub(super) fn new<'a>(shared: &'a Shared, table: MutexGuard<'a, Table>) -> Turn<'a> {
        Turn { shared, table, packets: 0, bytes: 0 }
    }

    /// Buffers that were used before.
    pub fn spare(&mut self) -> &mut Spare {
        &mut self.table.spare
    }

    /// Packets forwarded in this turn.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// A connection has proven `key`.
    pub fn join(&mut self, key: NodeKey, address: Address, now: Instant) -> PortId {
        let table = &mut *self.table;
        let port = Port::new(key, address, now);
        let slot = match table.free.pop() {
            Some(slot) => slot,
            None => {
                table.ports.push(Slot::default());
                // The limit of connections is far below 2^32.
                u32::try_from(table.ports.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let generation = match table.slot(slot) {
            Some(entry) => {
                entry.port = Some(port);
                entry.generation
            }
            None => 0,
        };
        table.of_key.entry(key).or_default().insert(0, slot);
        table.epoch += 1;
        self.shared.metrics.connections.inc();
        PortId { slot, generation }
    }

    /// The connection is the server's own peer: it gets packets from many and has room for them, and is not
    /// told of peers that went, however many go at the same time.
    pub fn host(&mut self, id: PortId) {
        if let Some(port) = self.table.port(id) {
            port.hosted = true;
        }
    }

    /// A connection has ended. When it was the last of its key, everybody who had packets from it is told.
    pub fn leave(&mut self, id: PortId) {
        let table = &mut *self.table;
        let Some(mut port) = table.slot(id.slot).filter(|slot| slot.generation == id.generation).and_then(|slot| {
            slot.generation = slot.generation.wrapping_add(1);
            slot.port.take()
        }) else {
            return;
        };
        table.free.push(id.slot);
        table.epoch += 1;
        table.queued -= port.queued();
        port.disco.end(&mut table.spare);
        port.data.end(&mut table.spare);
        table.woken.retain(|slot| *slot != id.slot);
        self.shared.metrics.connections.dec();
        if port.home {
            self.shared.metrics.homes.dec();
        }
        let heir = match table.of_key.get_mut(&port.key) {
            Some(slots) => {
                slots.retain(|slot| *slot != id.slot);
                slots.first().copied()
            }
            None => None,
        };
        if let Some(heir) = heir.and_then(|slot| table.slot(slot)?.port.as_mut()) {
            heir.sent_to.extend(port.sent_to);
            return;
        }
        table.of_key.remove(&port.key);
        for to in port.sent_to {
            table.control(to, |out| peer_gone(&port.key, Gone::Disconnected, out));
        }
    }

    /// The connection has said something: if there are several of its key, it gets the packets from now on.
    pub fn heard(&mut self, id: PortId) {
        let table = &mut *self.table;
        let Some(key) = table.port(id).map(|port| port.key) else { return };
        let Some(slots) = table.of_key.get_mut(&key).filter(|slots| slots.len() > 1) else { return };
        if slots.first() != Some(&id.slot)
            && let Some(place) = slots.iter().position(|slot| *slot == id.slot)
        {
            let (front, _) = slots.split_at_mut(place + 1);
            front.rotate_right(1);
            table.epoch += 1;
        }
    }

    /// Whether the connection's key is known.
    pub fn is_known(&mut self, id: PortId) -> bool {
        let shared = self.shared;
        self.table.port(id).is_some_and(|port| is_known(port, shared))
    }

    /// The connection says whether this is its home.
    pub fn prefer(&mut self, id: PortId, home: bool) {
        if let Some(port) = self.table.port(id)
            && std::mem::replace(&mut port.home, home) != home
        {
            let homes = &self.shared.metrics.homes;
            if home {
                homes.inc()
            } else {
                homes.dec()
            };
        }
    }

    /// A packet on its way.
    pub fn send(&mut self, from: PortId, to: &NodeKey, packet: &[u8], now: Instant) -> Sent {
        let (shared, table) = (self.shared, &mut *self.table);
        let epoch = table.epoch;
        let Some(source) = table.port(from) else { return Sent::Dropped };
        if !is_known(source, shared) {
            return self.dropped(Cause::Stranger);
        }
        let key = source.key;
        let seen = match source.last {
            Some((last, slot)) if source.last_epoch == epoch && last == *to => Some(slot),
            _ => None,
        };
        let Some(slot) = seen.or_else(|| table.of_key.get(to).and_then(|slots| slots.first()).copied()) else {
            let says = is_disco(packet) && table.port(from).is_some_and(|source| source.may_say_not_here(now));
            self.dropped(Cause::NotHere);
            return if says { Sent::NotHere } else { Sent::Dropped };
        };
        if seen.is_none() {
            table.note(from, to, slot);
        }
        let Table { ports, spare, queued, woken, .. } = table;
        let entry = usize::try_from(slot).ok().and_then(|slot| ports.get_mut(slot));
        let Some(port) = entry.and_then(|slot| slot.port.as_mut()) else { return self.dropped(Cause::NotHere) };
        if !is_known(port, shared) {
            return self.dropped(Cause::Stranger);
        }
        let queue = if is_disco(packet) { &mut port.disco } else { &mut port.data };
        let before = queue.bytes();
        if *queued > RELAY_MEMORY && before > 0 {
            return self.dropped(Cause::Full);
        }
        let share = if port.hosted { HOSTED_SHARE } else { 1 };
        let oldest = queue.push(&key, packet, share, spare);
        *queued = (*queued + queue.bytes()).saturating_sub(before);
        if !port.woken && !port.blocked {
            port.woken = true;
            woken.push(slot);
        }
        self.packets += 1;
        self.bytes += u64::try_from(packet.len()).unwrap_or(0);
        if oldest > 0 {
            shared.metrics.dropped(Cause::Full, oldest);
        }
        Sent::Forwarded
    }

    /// Counts a packet that goes nowhere.
    pub fn dropped(&mut self, cause: Cause) -> Sent {
        self.shared.metrics.dropped(cause, 1);
        Sent::Dropped
    }

    /// Moves what waits for the connection behind what is in `out`, unless its socket has not taken
    /// what it was given before; `false` when the connection has to end because it takes nothing.
    pub fn take(&mut self, id: PortId, blocked: bool, out: &mut Vec<u8>) -> bool {
        let table = &mut *self.table;
        let Some(slot) = table.slot(id.slot).filter(|slot| slot.generation == id.generation) else { return true };
        let Some(port) = slot.port.as_mut() else { return true };
        port.woken = false;
        port.blocked = blocked;
        if port.overrun {
            return false;
        }
        if blocked || !port.has_mail() {
            return true;
        }
        let Some(Slot { port: Some(port), .. }) =
            usize::try_from(id.slot).ok().and_then(|slot| table.ports.get_mut(slot))
        else {
            return true;
        };
        table.queued -= port.queued();
        if !port.control.is_empty() {
            out.append(&mut port.control);
            port.control = Vec::new();
        }
        port.disco.take(out, &mut table.spare);
        port.data.take(out, &mut table.spare);
        true
    }

    /// Ends the turn: puts those that have something to take and live on the loop of `own` into
    /// `neighbours`, and posts mail to all others.
    pub fn end(mut self, own: &Address, neighbours: &mut Vec<ConnId>) {
        self.wake(|address| {
            let near = address.is_neighbour(own);
            if near {
                neighbours.push(address.conn);
            }
            near || address.try_post(Mail::Inbox { tag: 0 })
        });
    }

    /// Ends the turn of a connection that is gone.
    pub fn end_with_mail(mut self) {
        self.wake(|address| address.try_post(Mail::Inbox { tag: 0 }));
    }

    fn wake(&mut self, mut tell: impl FnMut(&Address) -> bool) {
        let table = &mut *self.table;
        let mut woken = std::mem::take(&mut table.woken);
        for slot in woken.drain(..) {
            let Some(port) = table.slot(slot).and_then(|slot| slot.port.as_mut()) else { continue };
            // A loop that has too much to do cannot be told: the next packet tries again.
            port.woken = tell(&port.address);
        }
        table.woken = woken;
        let metrics = &self.shared.metrics;
        if self.packets > 0 {
            metrics.packets.inc_by(self.packets);
            metrics.bytes.inc_by(self.bytes);
        }
    }
}

/// Whether a port's key is known; asks only when that may have changed.
fn is_known(port: &mut Port, shared: &Shared) -> bool {
    let revision = shared.keys.revision().wrapping_add(1);
    if port.looked != revision {
        port.looked = revision;
        port.known = shared.keys.knows(&port.key);
    }
    port.known
}

impl Table {
    pub(super) fn slot(&mut self, slot: u32) -> Option<&mut Slot> {
        self.ports.get_mut(usize::try_from(slot).ok()?)
    }

    pub(super) fn port(&mut self, id: PortId) -> Option<&mut Port> {
        self.slot(id.slot).filter(|slot| slot.generation == id.generation)?.port.as_mut()
    }

    /// Remembers where a connection's packets go.
    fn note(&mut self, from: PortId, to: &NodeKey, slot: u32) {
        let Some(generation) = self.slot(slot).map(|entry| entry.generation) else { return };
        let (epoch, id) = (self.epoch, PortId { slot, generation });
        let Some(mut sent_to) = self.port(from).map(|source| {
            source.last = Some((*to, slot));
            source.last_epoch = epoch;
            std::mem::take(&mut source.sent_to)
        }) else {
            return;
        };
        if !sent_to.contains(&id) {
            // Before it grows: those who are gone need not be remembered.
            if sent_to.len() == sent_to.capacity() {
                sent_to.retain(|id| self.port(*id).is_some());
            }
            sent_to.insert(id);
        }
        if let Some(source) = self.port(from) {
            source.sent_to = sent_to;
        }
    }

    /// Puts a control frame before everything that waits for a connection.
    fn control(&mut self, to: PortId, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(port) = self.port(to).filter(|port| !port.hosted) else { return };
        if port.control.len() > CONTROL_BYTES {
            port.overrun = true;
        } else {
            write(&mut port.control);
        }
        if !std::mem::replace(&mut port.woken, true) {
            self.woken.push(to.slot);
        }
    }
}
