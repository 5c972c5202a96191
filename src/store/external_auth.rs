//! Tables `external_auth_links` and `external_auth_refreshes`: who is signed in at which provider, and
//! the journal of refreshes.

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::columns::words;
use crate::model::{Timestamp, UserId};

/// Refreshes that are kept per link, newest.
const KEPT: i64 = 20;

words!(
    /// Whether a link's refresh token may be used.
    State {
        /// It may.
        Good = "good",
        /// It was sent, and nobody knows what came of it.
        Doubt = "doubt",
        /// It may not.
        Dead = "dead",
    }
);

words!(
    /// What came of a refresh.
    Outcome {
        /// A new token.
        Refreshed = "refreshed",
        /// The provider takes the refresh token no more.
        Dead = "dead",
        /// None, and that says nothing about the token.
        Failed = "failed",
        /// Nobody knows.
        Unknown = "unknown",
    }
);

/// One row. Tokens are sealed.
#[derive(Clone, Debug)]
pub struct Link {
    /// The provider's id in the configuration.
    pub provider: String,
    /// Whose.
    pub user: UserId,
    /// First sign-in.
    pub created_at: Timestamp,
    /// Last change of the tokens.
    pub updated_at: Timestamp,
    /// Grows with the tokens of this row; also when the row is removed and made again.
    pub version: i64,
    /// The access token.
    pub access_sealed: Vec<u8>,
    /// The refresh token, if there is one.
    pub refresh_sealed: Option<Vec<u8>>,
    /// JSON of the extra keys.
    pub extra_sealed: Option<Vec<u8>>,
    /// End of the access token; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// Whether the refresh token may be used.
    pub state: State,
    /// Why not.
    pub failure: String,
}

impl Link {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Link> {
        Ok(Link {
            provider: row.get("provider_id")?,
            user: row.get("user_id")?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
            version: row.get("version")?,
            access_sealed: row.get("access_sealed")?,
            refresh_sealed: row.get("refresh_sealed")?,
            extra_sealed: row.get("extra_sealed")?,
            expires_at: row.get("expires_at")?,
            state: row.get("state")?,
            failure: row.get("failure")?,
        })
    }
}

/// The link of a person at a provider.
pub fn find(conn: &Connection, provider: &str, user: UserId) -> rusqlite::Result<Option<Link>> {
    conn.prepare_cached("SELECT * FROM external_auth_links WHERE provider_id = ? AND user_id = ?")?
        .query_row((provider, user), Link::from_row)
        .optional()
}

/// All links of a person, by provider.
pub fn of_user(conn: &Connection, user: UserId) -> rusqlite::Result<Vec<Link>> {
    conn.prepare_cached("SELECT * FROM external_auth_links WHERE user_id = ? ORDER BY provider_id")?
        .query_map([user], Link::from_row)?
        .collect()
}

/// Every link with its person's name, by provider and name.
pub fn all(conn: &Connection) -> rusqlite::Result<Vec<(Link, String)>> {
    conn.prepare_cached(
        "SELECT links.*, users.username FROM external_auth_links links JOIN users ON users.id = links.user_id
         ORDER BY provider_id, username",
    )?
    .query_map([], |row| Ok((Link::from_row(row)?, row.get("username")?)))?
    .collect()
}

/// Writes the tokens of a sign-in: a new row, or all of an old one but when it was made.
pub fn put(conn: &Connection, link: &Link) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO external_auth_links (provider_id, user_id, created_at, updated_at, version, access_sealed,
             refresh_sealed, extra_sealed, expires_at, state, failure)
         VALUES (:provider, :user, :created_at, :updated_at, :version, :access, :refresh, :extra, :expires_at, :state, :failure)
         ON CONFLICT (provider_id, user_id) DO UPDATE SET updated_at = excluded.updated_at, version = max(version + 1, excluded.version),
             access_sealed = excluded.access_sealed, refresh_sealed = excluded.refresh_sealed,
             extra_sealed = excluded.extra_sealed, expires_at = excluded.expires_at, state = excluded.state,
             failure = excluded.failure",
    )?
    .execute(named_params! {
        ":provider": link.provider, ":user": link.user, ":created_at": link.created_at, ":updated_at": link.updated_at,
        ":version": link.version,
        ":access": link.access_sealed, ":refresh": link.refresh_sealed, ":extra": link.extra_sealed,
        ":expires_at": link.expires_at, ":state": link.state, ":failure": link.failure,
    })?;
    Ok(())
}

/// Writes what a refresh brought, if the row still has the tokens that were refreshed; says whether it had.
pub fn replace(conn: &Connection, link: &Link) -> rusqlite::Result<bool> {
    let changed = conn
        .prepare_cached(
            "UPDATE external_auth_links SET updated_at = :updated_at, version = version + 1, access_sealed = :access,
                 refresh_sealed = :refresh, extra_sealed = :extra, expires_at = :expires_at, state = :state,
                 failure = :failure
             WHERE provider_id = :provider AND user_id = :user AND version = :version",
        )?
        .execute(named_params! {
            ":provider": link.provider, ":user": link.user, ":version": link.version, ":updated_at": link.updated_at,
            ":access": link.access_sealed, ":refresh": link.refresh_sealed, ":extra": link.extra_sealed,
            ":expires_at": link.expires_at, ":state": link.state, ":failure": link.failure,
        })?;
    Ok(changed > 0)
}

/// The provider takes the refresh token no more. One that is in doubt is kept all the same, as nobody knows
/// better; it is not sent again. Only if the row still has the tokens that were sent; says whether it had.
pub fn bury(
    conn: &Connection,
    provider: &str,
    user: UserId,
    version: i64,
    failure: &str,
    at: Timestamp,
) -> rusqlite::Result<bool> {
    let changed = conn
        .prepare_cached(
            "UPDATE external_auth_links SET updated_at = :at, failure = :failure, state = 'dead',
                 refresh_sealed = CASE state WHEN 'good' THEN NULL ELSE refresh_sealed END
             WHERE provider_id = :provider AND user_id = :user AND version = :version",
        )?
        .execute(named_params! {
            ":provider": provider, ":user": user, ":version": version, ":failure": failure, ":at": at,
        })?;
    Ok(changed > 0)
}

/// Nobody knows what came of sending the refresh token.
pub fn doubt(conn: &Connection, provider: &str, user: UserId, version: i64) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE external_auth_links SET state = 'doubt'
         WHERE provider_id = ? AND user_id = ? AND version = ? AND state = 'good'",
    )?
    .execute((provider, user, version))?;
    Ok(())
}

/// Removes a link; says whether there was one.
pub fn delete(conn: &Connection, provider: &str, user: UserId) -> rusqlite::Result<bool> {
    let deleted = conn
        .prepare_cached("DELETE FROM external_auth_links WHERE provider_id = ? AND user_id = ?")?
        .execute((provider, user))?;
    Ok(deleted > 0)
}

/// Removes all links of a person.
pub fn delete_of_user(conn: &Connection, user: UserId) -> rusqlite::Result<usize> {
    conn.prepare_cached("DELETE FROM external_auth_links WHERE user_id = ?")?.execute([user])
}

/// A refresh token is about to be sent; gives the row of the journal.
pub fn begin(conn: &Connection, link: &Link, at: Timestamp) -> rusqlite::Result<i64> {
    conn.prepare_cached(
        "DELETE FROM external_auth_refreshes WHERE provider_id = ?1 AND user_id = ?2 AND id <=
             (SELECT id FROM external_auth_refreshes WHERE provider_id = ?1 AND user_id = ?2
              ORDER BY id DESC LIMIT 1 OFFSET ?3)",
    )?
    .execute((&link.provider, link.user, KEPT - 1))?;
    conn.prepare_cached(
        "INSERT INTO external_auth_refreshes (provider_id, user_id, version, began_at) VALUES (?, ?, ?, ?)",
    )?
    .insert((&link.provider, link.user, link.version, at))
}

/// What came of it.
pub fn end(conn: &Connection, id: i64, outcome: Outcome, at: Timestamp) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE external_auth_refreshes SET ended_at = ?, outcome = ? WHERE id = ?")?
        .execute((at, outcome, id))?;
    Ok(())
}

/// At the start: refreshes that the last stop has cut off, and whose token is still the one that was sent,
/// leave their links in doubt.
pub fn settle(conn: &Connection, at: Timestamp) -> rusqlite::Result<usize> {
    let doubtful = conn.execute(
        "UPDATE external_auth_links AS link SET state = 'doubt'
         WHERE state = 'good' AND EXISTS (SELECT 1 FROM external_auth_refreshes AS refresh
             WHERE refresh.ended_at IS NULL AND refresh.provider_id = link.provider_id
                 AND refresh.user_id = link.user_id AND refresh.version = link.version)",
        [],
    )?;
    conn.execute("UPDATE external_auth_refreshes SET ended_at = ?, outcome = 'unknown' WHERE ended_at IS NULL", [at])?;
    Ok(doubtful)
}
