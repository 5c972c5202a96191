//! Table `audit_log`.

use rusqlite::{Connection, named_params};
use uuid::Uuid;

use super::columns::words;
use crate::model::{AgentId, Timestamp, UserId};

words!(
    /// What came of an action.
    Verdict {
        /// Done.
        Ok = "ok",
        /// Not allowed.
        Refused = "refused",
        /// Went wrong.
        Failed = "failed",
    }
);

/// Who acted.
#[derive(Clone, PartialEq, Debug)]
pub enum Actor {
    /// A person with a session token.
    User(UserId, String),
    /// A machine with an agent token.
    Agent(AgentId, String),
    /// Whoever owns the file or the admin socket; the name says which system user.
    Operator(String),
    /// Somebody who failed to sign in; the name is the one they gave.
    Anonymous(String),
}

/// One row, without id and instant.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Who.
    pub actor: Actor,
    /// Dotted verb, `user.login`.
    pub action: &'static str,
    /// On what: a name or an id.
    pub target: String,
    /// From where; empty for local acts.
    pub ip: String,
    /// With which result.
    pub verdict: Verdict,
    /// A short note; never a secret.
    pub detail: String,
}

/// Adds a row.
pub fn insert(conn: &Connection, at: Timestamp, entry: &Entry) -> rusqlite::Result<()> {
    let (kind, id, name): (&str, Option<Uuid>, &str) = match &entry.actor {
        Actor::User(id, name) => ("user", Some(id.0), name),
        Actor::Agent(id, name) => ("agent", Some(id.0), name),
        Actor::Operator(name) => ("operator", None, name),
        Actor::Anonymous(name) => ("anonymous", None, name),
    };
    conn.prepare_cached(
        "INSERT INTO audit_log (at, actor_kind, actor_id, actor_name, action, target, ip, result, detail)
         VALUES (:at, :kind, :id, :name, :action, :target, :ip, :result, :detail)",
    )?
    .execute(named_params! {
        ":at": at, ":kind": kind, ":id": id.as_ref().map(|id| id.as_bytes().as_slice()), ":name": name,
        ":action": entry.action, ":target": entry.target, ":ip": entry.ip, ":result": entry.verdict,
        ":detail": entry.detail,
    })?;
    Ok(())
}
