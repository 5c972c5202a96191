//! The first bytes of a SQLite file, read without opening it (sqlite.org/fileformat2.html, 1.3).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const LENGTH: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";

/// What a file says about itself. A change that is still in the write-ahead log does not show here.
pub(super) struct Header {
    /// Number of the last migration.
    pub(super) user_version: u32,
    /// Which program it belongs to.
    pub(super) application_id: u32,
}

impl Header {
    /// `None`: not a SQLite file.
    pub(super) fn read(file: &Path) -> io::Result<Option<Header>> {
        let mut bytes = Vec::with_capacity(LENGTH);
        File::open(file)?.take(100).read_to_end(&mut bytes)?;
        Ok(Header::parse(&bytes))
    }

    fn parse(bytes: &[u8]) -> Option<Header> {
        let number = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        if bytes.len() < LENGTH || !bytes.starts_with(MAGIC) {
            return None;
        }
        Some(Header { user_version: number(60)?, application_id: number(68)? })
    }
}
