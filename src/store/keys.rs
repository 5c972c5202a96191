//! Table `api_keys`: session tokens of people.

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::columns::words;
use crate::model::{Timestamp, UserId};

words!(
    /// How a key came to be.
    LoginType {
        /// By signing in.
        Password = "password",
        /// On purpose, with a name.
        Token = "token",
    }
);

words!(
    /// What a key may be used for.
    Scope {
        /// Everything its user may do.
        All = "all",
        /// Opening apps only.
        ApplicationConnect = "application_connect",
    }
);

/// A session token without its secret.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// The 10 characters before the `-`.
    pub id: String,
    /// Whose.
    pub user_id: UserId,
    /// SHA-256 of the 22 characters after the `-`.
    pub secret_hash: Vec<u8>,
    /// How it came to be.
    pub login_type: LoginType,
    /// Empty unless made on purpose.
    pub token_name: String,
    /// What it may be used for.
    pub scope: Scope,
    /// Expiry slides by this much.
    pub lifetime_seconds: i64,
    /// Address of the last use.
    pub ip: String,
    /// Made at.
    pub created_at: Timestamp,
    /// Changed at.
    pub updated_at: Timestamp,
    /// Last use, to the hour.
    pub last_used_at: Timestamp,
    /// Refused from then on.
    pub expires_at: Timestamp,
}

impl ApiKey {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<ApiKey> {
        Ok(ApiKey {
            id: row.get("id")?,
            user_id: row.get("user_id")?,
            secret_hash: row.get("secret_hash")?,
            login_type: row.get("login_type")?,
            token_name: row.get("token_name")?,
            scope: row.get("scope")?,
            lifetime_seconds: row.get("lifetime_seconds")?,
            ip: row.get("ip")?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
            last_used_at: row.get("last_used_at")?,
            expires_at: row.get("expires_at")?,
        })
    }
}

/// The key with this id.
pub fn by_id(conn: &Connection, id: &str) -> rusqlite::Result<Option<ApiKey>> {
    conn.prepare_cached("SELECT * FROM api_keys WHERE id = ?")?.query_row([id], ApiKey::from_row).optional()
}

/// A person's key with this name.
pub fn by_name(conn: &Connection, user: UserId, name: &str) -> rusqlite::Result<Option<ApiKey>> {
    conn.prepare_cached("SELECT * FROM api_keys WHERE user_id = ? AND token_name = ? AND token_name <> ''")?
        .query_row((user, name), ApiKey::from_row)
        .optional()
}

/// Keys of one person, or of all; newest first.
pub fn list(conn: &Connection, user: Option<UserId>) -> rusqlite::Result<Vec<ApiKey>> {
    conn.prepare_cached("SELECT * FROM api_keys WHERE ?1 IS NULL OR user_id = ?1 ORDER BY created_at DESC, id")?
        .query_map([user], ApiKey::from_row)?
        .collect()
}

/// Adds a key. A name in use breaks a UNIQUE index.
pub fn insert(conn: &Connection, key: &ApiKey) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO api_keys (id, user_id, secret_hash, login_type, token_name, scope, lifetime_seconds, ip, created_at, updated_at, last_used_at, expires_at)
         VALUES (:id, :user_id, :secret_hash, :login_type, :token_name, :scope, :lifetime, :ip, :created_at, :updated_at, :last_used_at, :expires_at)",
    )?
    .execute(named_params! {
        ":id": key.id, ":user_id": key.user_id, ":secret_hash": key.secret_hash, ":login_type": key.login_type,
        ":token_name": key.token_name, ":scope": key.scope, ":lifetime": key.lifetime_seconds, ":ip": key.ip,
        ":created_at": key.created_at, ":updated_at": key.updated_at, ":last_used_at": key.last_used_at,
        ":expires_at": key.expires_at,
    })?;
    Ok(())
}

/// Records a use: address, last use and the slid expiry.
pub fn touch(conn: &Connection, id: &str, ip: &str, at: Timestamp, expires_at: Timestamp) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE api_keys SET last_used_at = ?1, updated_at = ?1, ip = ?2, expires_at = ?3 WHERE id = ?4",
    )?
    .execute((at, ip, expires_at, id))?;
    Ok(())
}

/// Deletes a key; says whether it existed.
pub fn delete(conn: &Connection, id: &str) -> rusqlite::Result<bool> {
    Ok(conn.prepare_cached("DELETE FROM api_keys WHERE id = ?")?.execute([id])? > 0)
}

/// Deletes every key of a person.
pub fn delete_of_user(conn: &Connection, user: UserId) -> rusqlite::Result<usize> {
    conn.prepare_cached("DELETE FROM api_keys WHERE user_id = ?")?.execute([user])
}

/// A key with the living person it belongs to: what one signed-in request needs.
#[derive(Clone, Debug)]
pub struct Session {
    /// The key.
    pub key: ApiKey,
    /// Whose it is.
    pub user: super::users::User,
}

/// The key with this id and its person, if that one lives. Read by position: it runs per request.
pub fn session(conn: &Connection, id: &str) -> rusqlite::Result<Option<Session>> {
    conn.prepare_cached(
        "SELECT k.id, k.user_id, k.secret_hash, k.login_type, k.token_name, k.scope, k.lifetime_seconds, k.ip, k.created_at,
             k.updated_at, k.last_used_at, k.expires_at, u.username, u.email, u.full_name, u.is_admin, u.status,
             u.created_at, u.updated_at, u.last_seen_at
         FROM api_keys k JOIN users u ON u.id = k.user_id WHERE k.id = ? AND u.deleted_at IS NULL",
    )?
    .query_row([id], |row| {
        let user_id = row.get(1)?;
        Ok(Session {
            key: ApiKey {
                id: row.get(0)?,
                user_id,
                secret_hash: row.get(2)?,
                login_type: row.get(3)?,
                token_name: row.get(4)?,
                scope: row.get(5)?,
                lifetime_seconds: row.get(6)?,
                ip: row.get(7)?,
                created_at: row.get(8)?,
                updated_at: row.get(9)?,
                last_used_at: row.get(10)?,
                expires_at: row.get(11)?,
            },
            user: super::users::User {
                id: user_id,
                username: row.get(12)?,
                email: row.get(13)?,
                full_name: row.get(14)?,
                // Not needed to recognise somebody, so it does not travel.
                password_hash: None,
                is_admin: row.get(15)?,
                status: row.get(16)?,
                created_at: row.get(17)?,
                updated_at: row.get(18)?,
                last_seen_at: row.get(19)?,
            },
        })
    })
    .optional()
}
