//! Table `egress`: every request that leaves the server on a plugin's behalf.

use std::time::Duration;

use rusqlite::{Connection, named_params};
use serde::Serialize;

use crate::model::Timestamp;

/// A request that is about to be sent.
#[derive(Clone, Debug)]
pub struct Begun {
    /// When.
    pub at: Timestamp,
    /// The provider's id.
    pub provider: String,
    /// `GET`, …
    pub method: String,
    /// Where to.
    pub host: String,
    /// Where to.
    pub port: u16,
    /// Without query.
    pub path: String,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The row.
    pub id: i64,
    /// The answer's status.
    pub status: Option<u16>,
    /// Why there was none, in a word; `egress`: it was not allowed and did not leave.
    pub fault: String,
    /// Bytes of the request's body.
    pub sent: usize,
    /// Bytes of the answer's body.
    pub received: usize,
    /// How long it took.
    pub took: Duration,
}

/// Puts a request on record; gives its row.
pub fn begin(conn: &Connection, row: &Begun) -> rusqlite::Result<i64> {
    conn.prepare_cached(
        "INSERT INTO egress (at, provider, method, host, port, path)
         VALUES (:at, :provider, :method, :host, :port, :path)",
    )?
    .insert(named_params! {
        ":at": row.at, ":provider": row.provider, ":method": row.method, ":host": row.host, ":port": row.port,
        ":path": row.path,
    })
}

/// Completes the row.
pub fn end(conn: &Connection, row: &Ended) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE egress SET status = :status, fault = :fault, sent = :sent, received = :received, took_us = :took
         WHERE id = :id",
    )?
    .execute(named_params! {
        ":id": row.id, ":status": row.status, ":fault": row.fault,
        ":sent": i64::try_from(row.sent).unwrap_or(i64::MAX),
        ":received": i64::try_from(row.received).unwrap_or(i64::MAX),
        ":took": i64::try_from(row.took.as_micros()).unwrap_or(i64::MAX),
    })?;
    Ok(())
}

/// A row, as an operator looks at it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// When it began.
    pub at: Timestamp,
    /// The provider's id.
    pub provider: String,
    /// `GET`, …
    pub method: String,
    /// Where to.
    pub host: String,
    /// Where to.
    pub port: u16,
    /// Without query.
    pub path: String,
    /// The answer's status.
    pub status: Option<u16>,
    /// Why there was none, in a word.
    pub fault: String,
    /// Bytes of the request's body.
    pub sent: i64,
    /// Bytes of the answer's body.
    pub received: i64,
    /// Microseconds until the answer was there; none: it is not, or the server died meanwhile.
    pub took_us: Option<i64>,
}

/// The newest rows first, of one provider or all.
pub fn list(conn: &Connection, provider: Option<&str>, since: Timestamp, limit: u32) -> rusqlite::Result<Vec<Row>> {
    conn.prepare_cached(
        "SELECT at, provider, method, host, port, path, status, fault, sent, received, took_us FROM egress
         WHERE at >= :since AND (:provider IS NULL OR provider = :provider) ORDER BY at DESC, id DESC LIMIT :limit",
    )?
    .query_map(named_params! { ":provider": provider, ":since": since, ":limit": limit }, |row| {
        Ok(Row {
            at: row.get(0)?,
            provider: row.get(1)?,
            method: row.get(2)?,
            host: row.get(3)?,
            port: row.get(4)?,
            path: row.get(5)?,
            status: row.get(6)?,
            fault: row.get(7)?,
            sent: row.get(8)?,
            received: row.get(9)?,
            took_us: row.get(10)?,
        })
    })?
    .collect()
}
