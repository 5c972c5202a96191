//! Tables `users` and `git_ssh_keys`.

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::columns::words;
use crate::model::{Timestamp, UserId};

words!(
    /// Whether a person may sign in.
    Status {
        /// May sign in.
        Active = "active",
        /// May not sign in; tokens are refused, agents go on.
        Suspended = "suspended",
    }
);

/// A person.
#[derive(Clone, Debug)]
pub struct User {
    /// Stable id.
    pub id: UserId,
    /// Unique among the living, ignoring case.
    pub username: String,
    /// Unique among the living, ignoring case.
    pub email: String,
    /// Free text.
    pub full_name: String,
    /// PHC string; `None`: no password.
    pub password_hash: Option<String>,
    /// May do everything.
    pub is_admin: bool,
    /// Whether sign-in is allowed.
    pub status: Status,
    /// Declared at.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// Last request with one of their tokens, to the hour.
    pub last_seen_at: Option<Timestamp>,
}

impl User {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<User> {
        Ok(User {
            id: row.get("id")?,
            username: row.get("username")?,
            email: row.get("email")?,
            full_name: row.get("full_name")?,
            password_hash: row.get("password_hash")?,
            is_admin: row.get("is_admin")?,
            status: row.get("status")?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
            last_seen_at: row.get("last_seen_at")?,
        })
    }
}

/// The living person with this id.
pub fn by_id(conn: &Connection, id: UserId) -> rusqlite::Result<Option<User>> {
    conn.prepare_cached("SELECT * FROM users WHERE id = ? AND deleted_at IS NULL")?
        .query_row([id], User::from_row)
        .optional()
}

/// The living person with this name, ignoring case.
pub fn by_username(conn: &Connection, username: &str) -> rusqlite::Result<Option<User>> {
    conn.prepare_cached("SELECT * FROM users WHERE lower(username) = lower(?) AND deleted_at IS NULL")?
        .query_row([username], User::from_row)
        .optional()
}

/// The living person with this e-mail address, ignoring case.
pub fn by_email(conn: &Connection, email: &str) -> rusqlite::Result<Option<User>> {
    conn.prepare_cached("SELECT * FROM users WHERE lower(email) = lower(?) AND deleted_at IS NULL")?
        .query_row([email], User::from_row)
        .optional()
}

/// All living people, by name.
pub fn list(conn: &Connection) -> rusqlite::Result<Vec<User>> {
    conn.prepare_cached("SELECT * FROM users WHERE deleted_at IS NULL ORDER BY lower(username)")?
        .query_map([], User::from_row)?
        .collect()
}

/// The first person of this file, removed or not.
pub fn first(conn: &Connection) -> rusqlite::Result<Option<User>> {
    conn.prepare_cached("SELECT * FROM users ORDER BY created_at, id LIMIT 1")?.query_row([], User::from_row).optional()
}

/// Adds a person. A name or address in use breaks a UNIQUE index.
pub fn insert(conn: &Connection, user: &User) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO users (id, username, email, full_name, password_hash, is_admin, status, created_at, updated_at, last_seen_at)
         VALUES (:id, :username, :email, :full_name, :password_hash, :is_admin, :status, :created_at, :updated_at, :last_seen_at)",
    )?
    .execute(named_params! {
        ":id": user.id, ":username": user.username, ":email": user.email, ":full_name": user.full_name,
        ":password_hash": user.password_hash, ":is_admin": user.is_admin, ":status": user.status,
        ":created_at": user.created_at, ":updated_at": user.updated_at, ":last_seen_at": user.last_seen_at,
    })?;
    Ok(())
}

/// Writes every changeable column of a person.
pub fn update(conn: &Connection, user: &User) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE users SET username = :username, email = :email, full_name = :full_name, password_hash = :password_hash,
             is_admin = :is_admin, status = :status, updated_at = :updated_at, last_seen_at = :last_seen_at
         WHERE id = :id",
    )?
    .execute(named_params! {
        ":id": user.id, ":username": user.username, ":email": user.email, ":full_name": user.full_name,
        ":password_hash": user.password_hash, ":is_admin": user.is_admin, ":status": user.status,
        ":updated_at": user.updated_at, ":last_seen_at": user.last_seen_at,
    })?;
    Ok(())
}

/// Removes a person, keeping the row for the audit log.
pub fn remove(conn: &Connection, id: UserId, at: Timestamp) -> rusqlite::Result<bool> {
    let changed = conn
        .prepare_cached("UPDATE users SET deleted_at = ?, password_hash = NULL WHERE id = ? AND deleted_at IS NULL")?
        .execute((at, id))?;
    Ok(changed > 0)
}

/// A person's key pair for git over ssh.
#[derive(Clone, Debug)]
pub struct GitSshKey {
    /// Whose.
    pub user_id: UserId,
    /// One authorized-keys line with its newline.
    pub public_key: String,
    /// The PEM text, sealed.
    pub private_key_sealed: Vec<u8>,
    /// Made at.
    pub created_at: Timestamp,
    /// Replaced at.
    pub updated_at: Timestamp,
}

/// The key pair of a person.
pub fn git_ssh_key(conn: &Connection, user: UserId) -> rusqlite::Result<Option<GitSshKey>> {
    conn.prepare_cached("SELECT * FROM git_ssh_keys WHERE user_id = ?")?
        .query_row([user], |row| {
            Ok(GitSshKey {
                user_id: row.get("user_id")?,
                public_key: row.get("public_key")?,
                private_key_sealed: row.get("private_key_sealed")?,
                created_at: row.get("created_at")?,
                updated_at: row.get("updated_at")?,
            })
        })
        .optional()
}

/// Stores a key pair in place of an older one; `created_at` of an older one is kept.
pub fn put_git_ssh_key(conn: &Connection, key: &GitSshKey) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO git_ssh_keys (user_id, public_key, private_key_sealed, created_at, updated_at) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (user_id) DO UPDATE SET public_key = excluded.public_key,
             private_key_sealed = excluded.private_key_sealed, updated_at = excluded.updated_at",
    )?
    .execute((key.user_id, &key.public_key, &key.private_key_sealed, key.created_at, key.updated_at))?;
    Ok(())
}

/// Records that a person was here.
pub fn seen(conn: &Connection, id: UserId, at: Timestamp) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE users SET last_seen_at = max(ifnull(last_seen_at, ?1), ?1) WHERE id = ?2")?
        .execute((at, id))?;
    Ok(())
}

/// Deletes the key pair of a person who is removed.
pub fn delete_git_ssh_key(conn: &Connection, user: UserId) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM git_ssh_keys WHERE user_id = ?")?.execute([user])?;
    Ok(())
}
