//! A person's client: what it was admitted with, and the tailnet service.

use std::time::Instant;

use prost::Message;
use uuid::Uuid;

use super::super::signed_in::{self, SignedIn};
use super::coordination::Rule;
use super::side::Heard;
use crate::domain::connection_log::{Caller, Journal};
use crate::domain::credential::Credential;
use crate::domain::{Error, Fault, Shared};
use crate::model::{AgentId, Timestamp, UserId};
use crate::ops::mail::{Address, Mail};
use crate::wire::proto::google;
use crate::wire::proto::methods;
use crate::wire::proto::tailnet::RefreshResumeTokenResponse;

/// A client as it was admitted.
pub struct Client {
    /// With what.
    pub credential: Credential,
    /// Its id in the tailnet: a fresh one, or that of its resume token.
    pub peer: Uuid,
    /// The one agent that it may reach; `None`: all that its user may.
    pub only: Option<AgentId>,
    /// Where it calls from.
    pub ip: String,
    /// What it says that it is, for the connection log.
    pub program: String,
}

/// A client at the other end.
pub(super) struct ClientSide {
    app: Shared,
    client: Client,
    signed_in: SignedIn,
}

impl ClientSide {
    pub(super) fn new(app: Shared, client: Client) -> ClientSide {
        let signed_in = SignedIn::new(app.clone(), client.credential.clone(), client.only).ends_with_the_agent();
        ClientSide { app, client, signed_in }
    }

    pub(super) fn app(&self) -> &Shared {
        &self.app
    }

    pub(super) fn peer(&self) -> Uuid {
        self.client.peer
    }

    pub(super) fn rule(&self) -> Rule {
        match self.client.only {
            Some(agent) => Rule::One(agent, self.client.credential.clone()),
            None => Rule::Reachable(self.client.credential.clone()),
        }
    }

    pub(super) fn journal(&self) -> Journal {
        let Client { credential, peer, ip, program, .. } = &self.client;
        let caller = Caller { peer: *peer, user: credential.user, ip: ip.clone(), program: program.clone() };
        Journal::new(self.app.clone(), caller)
    }

    pub(super) fn watches(&self) -> Option<UserId> {
        self.client.only.is_none().then_some(self.client.credential.user)
    }

    pub(super) fn open(&mut self, now: Instant, address: &Address) {
        self.app.metrics.client_connections.inc();
        self.signed_in.open(now, address.clone());
    }

    pub(super) fn mail(&mut self, now: Instant, mail: Mail) -> Heard {
        match self.signed_in.mail(now, mail) {
            signed_in::Heard::Other(mail) => Heard::Other(mail),
            signed_in::Heard::Nothing => Heard::Nothing,
            signed_in::Heard::Ended => Heard::Withdrawn(signed_in::ENDED),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.signed_in.deadline()
    }

    pub(super) fn tick(&mut self, now: Instant) {
        self.signed_in.tick(now);
    }

    /// The calls that have one answer. Telemetry is taken and dropped: nothing is kept.
    pub(super) fn answer(&self, method: &str) -> Result<Vec<u8>, Error> {
        match method {
            methods::POST_TELEMETRY => Ok(Vec::new()),
            methods::REFRESH_RESUME_TOKEN => Ok(self.resume_token()),
            _ => Err(Error::new(Fault::Unimplemented, "Unimplemented: clients may call the tailnet service only.")),
        }
    }

    fn resume_token(&self) -> Vec<u8> {
        let token = self.app.resume.mint(self.client.credential.user, self.client.peer, Timestamp::now());
        let (seconds, nanos) = token.expires_at.to_parts();
        RefreshResumeTokenResponse {
            token: token.text,
            refresh_in: Some(google::Duration {
                seconds: i64::try_from(token.refresh_in.as_secs()).unwrap_or(i64::MAX),
                nanos: 0,
            }),
            expires_at: Some(google::Timestamp { seconds, nanos }),
        }
        .encode_to_vec()
    }

    pub(super) fn closed(&mut self) {
        self.signed_in.close();
        self.app.metrics.client_connections.dec();
    }
}
