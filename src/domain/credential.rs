//! What a long-lived connection of a person was opened with, and what that still allows.
//!
//! A request is judged once; a connection that stays open is judged again whenever something was
//! withdrawn, and when its token would have expired.

use rusqlite::Connection;

use super::Error;
use super::access::UserAuth;
use crate::model::{AgentId, Timestamp, UserId};
use crate::store::agents;
use crate::store::keys::{self, Scope};
use crate::store::users::Status;

/// The token with which a connection was opened; not its secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credential {
    /// Whose it is.
    pub user: UserId,
    /// Id of the token.
    pub key: String,
    /// They were an administrator. Who is none any more must begin anew with what is left to them.
    pub as_admin: bool,
}

/// What a credential allows at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Who.
    pub user: UserId,
    /// Administrators reach everything.
    pub is_admin: bool,
    /// When the token ends unless it is used before.
    pub expires_at: Timestamp,
}

/// Where an agent is, as seen by somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// They may see it and open tunnels to it.
    Allowed,
    /// It belongs to somebody else.
    Forbidden,
    /// There is no such agent (any more).
    Gone,
}

impl Credential {
    /// The one behind a request.
    pub fn of(auth: &UserAuth) -> Credential {
        Credential { user: auth.user.id, key: auth.key().id.clone(), as_admin: auth.user.is_admin }
    }

    /// What it allows at `now`; `None` when it was revoked, has expired, or its person may not sign in or
    /// is no administrator any more.
    pub fn standing(&self, conn: &Connection, now: Timestamp) -> Result<Option<Standing>, Error> {
        let Some(session) = keys::session(conn, &self.key)? else { return Ok(None) };
        let good = session.user.id == self.user
            && session.user.status == Status::Active
            && (session.user.is_admin || !self.as_admin)
            && session.key.scope == Scope::All
            && session.key.expires_at > now;
        Ok(good.then_some(Standing {
            user: self.user,
            is_admin: session.user.is_admin,
            expires_at: session.key.expires_at,
        }))
    }
}

impl Standing {
    /// Whether this person may see and use what belongs to `owner`; the same rule as for requests.
    pub fn may_see(&self, owner: UserId) -> bool {
        self.is_admin || self.user == owner
    }

    /// Whether this person may open tunnels to `agent`.
    pub fn reach(&self, conn: &Connection, agent: AgentId) -> Result<Reach, Error> {
        Ok(match agents::owner(conn, agent)? {
            None => Reach::Gone,
            Some(owner) if self.may_see(owner) => Reach::Allowed,
            Some(_) => Reach::Forbidden,
        })
    }
}
