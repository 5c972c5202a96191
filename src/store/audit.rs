//! Table `audit_log`.

use rusqlite::{Connection, Row, named_params};
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

/// Who acted, and from where.
#[derive(Clone, Debug)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// Address of the caller; empty for local acts.
    pub ip: String,
}

impl From<&Actor> for By {
    /// A local act.
    fn from(actor: &Actor) -> By {
        By { actor: actor.clone(), ip: String::new() }
    }
}

impl From<&By> for By {
    fn from(by: &By) -> By {
        by.clone()
    }
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

/// A stored row.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Ascending; never used twice.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// `user`, `agent`, `operator` or `anonymous`.
    pub actor_kind: String,
    /// Of people and agents.
    pub actor_id: Option<Uuid>,
    /// What the actor was called then.
    pub actor_name: String,
    /// Dotted verb.
    pub action: String,
    /// On what.
    pub target: String,
    /// From where; may be empty.
    pub ip: String,
    /// With which result.
    pub verdict: Verdict,
    /// A short note.
    pub detail: String,
}

impl Stored {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Stored> {
        let actor_id: Option<Vec<u8>> = row.get("actor_id")?;
        Ok(Stored {
            id: row.get("id")?,
            at: row.get("at")?,
            actor_kind: row.get("actor_kind")?,
            actor_id: actor_id.and_then(|bytes| Uuid::from_slice(&bytes).ok()),
            actor_name: row.get("actor_name")?,
            action: row.get("action")?,
            target: row.get("target")?,
            ip: row.get("ip")?,
            verdict: row.get("result")?,
            detail: row.get("detail")?,
        })
    }
}

/// Which rows are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// One of these verbs.
    pub actions: Option<Vec<String>>,
    /// Name of the actor, ignoring case.
    pub actor: Option<String>,
    /// The target, ignoring case.
    pub target: Option<String>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// Every verb that occurs.
pub fn actions(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    conn.prepare_cached("SELECT DISTINCT action FROM audit_log")?.query_map([], |row| row.get(0))?.collect()
}

/// Rows that fit, newest first, and how many there are in all.
pub fn list(conn: &Connection, filter: &Filter, limit: usize, offset: usize) -> rusqlite::Result<(Vec<Stored>, i64)> {
    const FITS: &str = "(:actions IS NULL OR action IN (SELECT value FROM json_each(:actions)))
         AND (:actor IS NULL OR lower(actor_name) = lower(:actor)) AND (:target IS NULL OR lower(target) = lower(:target))
         AND (:from IS NULL OR at >= :from) AND (:until IS NULL OR at < :until)";
    let actions = filter.actions.as_ref().map(|actions| serde_json::json!(actions).to_string());
    let count = conn.prepare_cached(&format!("SELECT count(*) FROM audit_log WHERE {FITS}"))?.query_row(
        named_params! {
            ":actions": actions, ":actor": filter.actor, ":target": filter.target, ":from": filter.from,
            ":until": filter.until,
        },
        |row| row.get(0),
    )?;
    let rows = conn
        .prepare_cached(&format!("SELECT * FROM audit_log WHERE {FITS} ORDER BY id DESC LIMIT :limit OFFSET :offset"))?
        .query_map(
            named_params! {
                ":actions": actions, ":actor": filter.actor, ":target": filter.target, ":from": filter.from,
                ":until": filter.until, ":limit": i64::try_from(limit).unwrap_or(i64::MAX),
                ":offset": i64::try_from(offset).unwrap_or(i64::MAX),
            },
            Stored::from_row,
        )?
        .collect::<rusqlite::Result<_>>()?;
    Ok((rows, count))
}
