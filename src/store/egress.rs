//! Table `egress`: every request that leaves the server on a plugin's behalf.

use std::time::Duration;

use rusqlite::{Connection, named_params};

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

/// A stored row.
#[derive(Clone, Debug)]
pub struct Stored {
    /// When, who for and where to.
    pub begun: Begun,
    /// The answer's status.
    pub status: Option<u16>,
    /// Why there was none; empty while one is waited for.
    pub fault: String,
    /// Bytes of the request's body.
    pub sent: u64,
    /// Bytes of the answer's body.
    pub received: u64,
    /// How long it took; `None` while an answer is waited for, and for ever if the server ended meanwhile.
    pub took: Option<Duration>,
}

/// The newest rows, newest first.
pub fn recent(conn: &Connection, limit: usize) -> rusqlite::Result<Vec<Stored>> {
    let number = |row: &rusqlite::Row<'_>, column: &str| -> rusqlite::Result<u64> {
        Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
    };
    conn.prepare_cached("SELECT * FROM egress ORDER BY id DESC LIMIT ?")?
        .query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            Ok(Stored {
                begun: Begun {
                    at: row.get("at")?,
                    provider: row.get("provider")?,
                    method: row.get("method")?,
                    host: row.get("host")?,
                    port: row.get("port")?,
                    path: row.get("path")?,
                },
                status: row.get("status")?,
                fault: row.get("fault")?,
                sent: number(row, "sent")?,
                received: number(row, "received")?,
                took: row.get::<_, Option<i64>>("took_us")?.map(|us| Duration::from_micros(us.unsigned_abs())),
            })
        })?
        .collect()
}
