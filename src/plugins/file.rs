//! Which libraries are loaded at all.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

use super::child;
use crate::model::hex;

/// Bits of a mode that let others write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// A folder in which only owners rename and remove, like /tmp.
const STICKY: u32 = 0o1000;

/// A library that may be loaded, as it was when it was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Checked {
    /// In hex.
    pub(super) sha256: String,
    /// To see that it was changed.
    pub(super) stamp: Stamp,
}

/// What changes when a file is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    inode: u64,
    length: u64,
    /// Last change of content, owner or mode, seconds and nanoseconds.
    changed: (i64, i64),
}

/// Looks at a library: an absolute path, a plain file that nobody but root and this user can change, and with the hash that
/// was pinned, if one was.
pub(super) fn check(path: &Path, pinned: Option<&str>) -> Result<Checked, String> {
    if !path.is_absolute() {
        return Err("its path is not absolute".to_owned());
    }
    let mut file = File::open(path).map_err(|error| format!("it cannot be opened: {error}"))?;
    let metadata = file.metadata().map_err(|error| format!("it cannot be looked at: {error}"))?;
    if !metadata.is_file() {
        return Err("it is not a plain file".to_owned());
    }
    let me = rustix::process::geteuid().as_raw();
    let mine = |owner: u32| owner == 0 || owner == me;
    if !mine(metadata.uid()) {
        return Err(format!("it belongs to the user {}; root or the server's user must own it", metadata.uid()));
    }
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(format!(
            "others than its owner can write it (mode {:03o}); take that right away",
            metadata.mode() & 0o777
        ));
    }
    // A link leads through two rows of folders, and whoever can write one of them can put another file there.
    let real = path.canonicalize().map_err(|error| format!("it cannot be looked at: {error}"))?;
    for folder in path.ancestors().skip(1).chain(real.ancestors().skip(1)) {
        let found = folder.metadata().map_err(|error| format!("{} cannot be looked at: {error}", folder.display()))?;
        let exposed = found.mode() & WRITABLE_BY_OTHERS != 0 && found.mode() & STICKY == 0;
        if exposed || !mine(found.uid()) {
            return Err(format!("others can put another file in its place: look at the folder {}", folder.display()));
        }
    }
    let stamp = stamp_of(&metadata);
    let sha256 = hex(&child::digest(&mut file).map_err(|error| format!("it cannot be read: {error}"))?);
    match pinned {
        Some(pinned) if !pinned.eq_ignore_ascii_case(&sha256) => {
            Err(format!("its SHA-256 is {sha256}, and the configuration pins {pinned}"))
        }
        _ => Ok(Checked { sha256, stamp }),
    }
}

/// What a file shows of itself, whether or not it may be loaded.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// The user that it belongs to.
    pub owner: u32,
    /// The group that it belongs to.
    pub group: u32,
    /// Permissions, as a number in the octal system.
    pub mode: String,
    /// Bytes.
    pub length: u64,
    /// In hex.
    pub sha256: String,
}

/// Looks at a plain file; none if it cannot be read or is something else.
pub(super) fn facts(path: &Path) -> Option<Facts> {
    // What is no plain file may block when it is opened.
    let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let sha256 = hex(&child::digest(&mut File::open(path).ok()?).ok()?);
    let mode = format!("{:03o}", metadata.mode() & 0o7777);
    Some(Facts { owner: metadata.uid(), group: metadata.gid(), mode, length: metadata.len(), sha256 })
}

/// How the file is now, without reading it.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    path.metadata().ok().map(|metadata| stamp_of(&metadata))
}

fn stamp_of(metadata: &std::fs::Metadata) -> Stamp {
    Stamp { inode: metadata.ino(), length: metadata.len(), changed: (metadata.ctime(), metadata.ctime_nsec()) }
}
