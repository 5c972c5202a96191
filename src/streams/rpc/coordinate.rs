//! Coordinate: how the stream of a peer meets the coordinator, the pool and the multiplexer.

use std::time::Instant;

use prost::Message;

use super::super::errand;
use super::call::{Call, State};
use super::calls::Calls;
use super::coordination::{Coordination, Gone, Next, error};
use crate::domain::credential::Reach;
use crate::model::Timestamp;
use crate::ops::mail::Outcome;

/// What a stream is told when the same peer opens a newer one (tailnet/coordinator.go, v2.24.0).
const OVERWRITTEN: &str = "peer ID overwritten by new connection";

impl Calls {
    /// The peer takes its place. It may be told of others before it says anything.
    pub(super) fn coordinate(&mut self, id: u32) {
        let (Some(address), Some(call)) = (&self.address, self.table.get_mut(&id)) else { return };
        let (peer, who) = self.side.peer();
        let app = self.side.app();
        let seat = app.tailnet.join(peer, who, address.clone(), call.serial);
        let coordination = Coordination::new(app, seat, self.side.rule(), self.side.journal());
        call.state = State::Coordinate(Box::new(coordination));
        self.take_inbox(id);
    }

    pub(super) fn coordination_request(&mut self, now: Instant, id: u32, body: Vec<u8>) {
        let app = self.side.app().clone();
        let Some(coordination) = self.coordination(id) else { return };
        let next = coordination.request(&app, now, body);
        self.follow(now, id, next);
    }

    /// The peer will ask nothing more, which it does not say without a goodbye unless something broke.
    pub(super) fn coordination_finished(&mut self, id: u32) {
        self.leave_tailnet(id, Gone::Lost);
        self.end_coordination(id, None);
    }

    /// A newer stream of the same peer has taken the place of this one.
    pub(super) fn superseded(&mut self, id: u32) {
        if let Some(coordination) = self.coordination(id) {
            coordination.superseded();
            self.end_coordination(id, Some(&error(OVERWRITTEN)));
        }
    }

    /// Tells the peer what is in its inbox. While it has no room, things stay in there, where newer ones
    /// replace older ones.
    pub(super) fn take_inbox(&mut self, id: u32) {
        let room = !self.held && self.mux.queued(id) == 0;
        let app = self.side.app();
        let Some(Call { state: State::Coordinate(coordination), .. }) = self.table.get_mut(&id) else { return };
        coordination.held = !room;
        if !room {
            return;
        }
        let responses = app.tailnet.take(&coordination.seat);
        for response in responses {
            self.send_message(id, &response.encode_to_vec());
        }
    }

    /// Goes on with the inboxes for which there is room again.
    pub(super) fn resume_inboxes(&mut self) {
        let held = |call: &Call| matches!(&call.state, State::Coordinate(coordination) if coordination.held);
        let waiting: Vec<u32> = self.table.iter().filter(|(_, call)| held(call)).map(|(id, _)| *id).collect();
        for id in waiting {
            self.take_inbox(id);
        }
    }

    /// Once in each period of pings: letters that could not be posted are made up for.
    pub(super) fn check_place(&mut self) {
        let app = self.side.app().clone();
        let mut places = Vec::new();
        for (id, call) in &self.table {
            if let State::Coordinate(coordination) = &call.state {
                places.push((*id, app.tailnet.is_current(&coordination.seat)));
            }
        }
        for (id, current) in places {
            if current {
                self.take_inbox(id);
            } else {
                self.superseded(id);
            }
        }
    }

    /// Gives tunnels that must be looked up to the pool, and lets those go who have said goodbye.
    pub(super) fn start_checks(&mut self, now: Instant) {
        self.let_go(now);
        let due: Vec<u32> = self
            .table
            .iter()
            .filter(|(_, call)| match &call.state {
                State::Coordinate(one) => {
                    one.check.as_ref().is_some_and(|check| check.tag.is_none() && check.due <= now)
                }
                _ => false,
            })
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.start_check(now, id);
        }
    }

    fn let_go(&mut self, now: Instant) {
        let said =
            |call: &Call| matches!(&call.state, State::Coordinate(one) if one.goodbye.is_some_and(|at| at <= now));
        let due: Vec<u32> = self.table.iter().filter(|(_, call)| said(call)).map(|(id, _)| *id).collect();
        let app = self.side.app().clone();
        for id in due {
            if let Some(coordination) = self.coordination(id) {
                coordination.say_goodbye(&app);
            }
            self.end_coordination(id, None);
        }
    }

    pub(super) fn checks_deadline(&self) -> Option<Instant> {
        let due = self.table.values().filter_map(|call| match &call.state {
            State::Coordinate(one) => {
                let check = one.check.as_ref().filter(|check| check.tag.is_none()).map(|check| check.due);
                check.into_iter().chain(one.goodbye).min()
            }
            _ => None,
        });
        due.min()
    }

    /// A tunnel was looked up; gives a result that is for somebody else back.
    pub(super) fn tunnel_checked(&mut self, now: Instant, tag: u64, outcome: Outcome) -> Option<Outcome> {
        let found = self.table.iter().find_map(|(id, call)| match &call.state {
            State::Coordinate(one) => one.check.as_ref().filter(|check| check.tag == Some(tag)).map(|_| *id),
            _ => None,
        });
        let Some(id) = found else { return Some(outcome) };
        let app = self.side.app().clone();
        let coordination = self.coordination(id)?;
        let next = match outcome {
            Outcome::Value(value) => {
                coordination.checked(&app, now, value.downcast::<bool>().is_ok_and(|allowed| *allowed))
            }
            Outcome::Busy(pause) => {
                if let Some(check) = &mut coordination.check {
                    (check.tag, check.due) = (None, now + pause);
                }
                None
            }
            Outcome::Bytes(_) | Outcome::Failed { .. } => {
                log::warn!("the tunnel of a client could not be looked up: {outcome:?}");
                Some(Next::Broken("The server could not look the agent up; its log says why.".into()))
            }
        };
        self.follow(now, id, next);
        None
    }

    /// The peer of this stream leaves the tailnet.
    pub(super) fn leave_tailnet(&mut self, id: u32, gone: Gone) {
        let app = self.side.app().clone();
        if let Some(coordination) = self.coordination(id) {
            coordination.leave(&app, gone);
        }
    }

    /// Gives credit for received bytes, later if too many requests of that stream wait.
    pub(super) fn return_credit(&mut self, id: u32, bytes: usize) {
        match self.coordination(id) {
            Some(coordination) if coordination.is_full() => coordination.withheld += bytes,
            _ => self.mux.consumed(id, bytes),
        }
    }

    fn coordination(&mut self, id: u32) -> Option<&mut Coordination> {
        match self.table.get_mut(&id) {
            Some(Call { state: State::Coordinate(coordination), .. }) => Some(coordination),
            _ => None,
        }
    }

    /// Does what follows from a request, and then the same with those that have waited for it.
    fn follow(&mut self, now: Instant, id: u32, first: Option<Next>) {
        let app = self.side.app().clone();
        let mut next = first;
        while let Some(present) = next {
            match present {
                Next::Done(told) => {
                    for message in told {
                        self.send_message(id, &message);
                    }
                }
                Next::Check => self.start_check(now, id),
                Next::Refused(text) => {
                    self.leave_tailnet(id, Gone::Lost);
                    return self.end_coordination(id, Some(&error(format!("authorization: {text}"))));
                }
                Next::Broken(text) => {
                    self.leave_tailnet(id, Gone::Lost);
                    if let Some(call) = self.table.get_mut(&id) {
                        let bytes = call.fail(0, &text);
                        self.mux.send(id, &bytes);
                    }
                    return;
                }
                Next::Goodbye => return self.end_coordination(id, None),
            }
            let Some(coordination) = self.coordination(id) else { return };
            next = coordination.next_waiting(&app, now);
        }
        // What was done may have filled the own inbox: errors of handshakes, nodes behind new tunnels.
        self.take_inbox(id);
        if let Some(coordination) = self.coordination(id)
            && !coordination.is_full()
        {
            let withheld = std::mem::take(&mut coordination.withheld);
            self.mux.consumed(id, withheld);
        }
    }

    fn start_check(&mut self, now: Instant, id: u32) {
        let tag = self.serial();
        let app = self.side.app().clone();
        let Some(address) = self.address.clone() else { return };
        let Some(coordination) = self.coordination(id) else { return };
        let Some(credential) = coordination.credential().cloned() else { return };
        let Some(check) = &mut coordination.check else { return };
        let (job_app, agent) = (app.clone(), check.agent);
        let work = move || {
            job_app.store.read(|conn| match credential.standing(conn, Timestamp::now())? {
                Some(standing) => Ok(standing.reach(conn, agent)? == Reach::Allowed),
                None => Ok(false),
            })
        };
        match errand::submit(&app.jobs, &address, tag, work) {
            Ok(()) => check.tag = Some(tag),
            Err(_) => check.due = now + errand::QUEUE_PAUSE,
        }
    }

    fn send_message(&mut self, id: u32, message: &[u8]) {
        if let Some(call) = self.table.get_mut(&id) {
            let bytes = call.message(message);
            self.mux.send(id, &bytes);
        }
    }

    /// Ends the stream in an orderly way, after `last`.
    fn end_coordination(&mut self, id: u32, last: Option<&[u8]>) {
        let withheld = self.coordination(id).map_or(0, |coordination| std::mem::take(&mut coordination.withheld));
        if let Some(last) = last {
            self.send_message(id, last);
        }
        if let Some(call) = self.table.get_mut(&id) {
            let bytes = call.close();
            self.mux.send(id, &bytes);
            self.mux.consumed(id, withheld);
        }
    }
}
