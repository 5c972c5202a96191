//! Where a file lies: its true name, and whether SQLite can rely on the file system there.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The true name of a file that exists or may be made. Folders are never made: a mistyped path is an
/// error, not a new and empty server.
pub(super) fn resolve(file: &Path) -> Result<PathBuf, String> {
    if std::fs::symlink_metadata(file).is_ok() {
        return std::fs::canonicalize(file).map_err(|error| format!("{} cannot be followed: {error}", file.display()));
    }
    let Some(name) = file.file_name() else { return Err(format!("{} is not the name of a file", file.display())) };
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    match std::fs::canonicalize(folder) {
        Ok(folder) if folder.is_dir() => Ok(folder.join(name)),
        Ok(_) => Err(format!("{} is not a folder", folder.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(format!("the folder {} does not exist", folder.display()))
        }
        Err(error) => Err(format!("the folder {} cannot be used: {error}", folder.display())),
    }
}

/// The name of a companion of `file`: the same with `suffix` appended.
pub(super) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// What is at `file`, if it is an ordinary file; warns of what an operator should mend.
pub(super) fn look(file: &Path) -> Result<Option<Metadata>, String> {
    let metadata = match std::fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("it cannot be looked at: {error}")),
    };
    if metadata.is_dir() {
        return Err("it is a folder".into());
    }
    if !metadata.is_file() {
        return Err("it is not an ordinary file".into());
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        log::warn!("{} can be used by others than its owner (mode {mode:o}); `chmod 600` it", file.display());
    }
    if metadata.nlink() > 1 {
        log::warn!("{} has a second name (hard link); opening it by both would damage it", file.display());
    }
    Ok(Some(metadata))
}

/// Refuses network file systems: their locks and shared memory do not hold what WAL mode needs.
pub(super) fn refuse_network(folder: &Path) -> Result<(), String> {
    let stat = rustix::fs::statfs(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    // Some systems sign-extend the 32-bit magic number.
    let magic = u32::try_from(i128::from(stat.f_type) & 0xFFFF_FFFF).unwrap_or_default();
    match network_file_system(magic) {
        None => Ok(()),
        Some(kind) => Err(format!(
            "it lies on a network file system ({kind}), which can lose or damage it; move it to a local disk, \
             or set allow_network_file_system if only this machine uses it and it keeps locks"
        )),
    }
}

/// The name of a file system that is reached over a network or through a user-space process, by its
/// magic number (Linux `statfs`, linux/magic.h).
fn network_file_system(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x0000_6969 => "NFS",
        0x0000_517B => "SMB",
        0xFF53_4D42 => "CIFS",
        0xFE53_4D42 => "SMB2",
        0x0102_1997 => "9p",
        0x6573_5546 => "FUSE",
        0x00C3_6400 => "Ceph",
        0x5346_414F | 0x6B41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x0000_564C => "NCP",
        0x0BD0_0BD0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x0116_1970 => "GFS2",
        0x7461_636F => "OCFS2",
        0x786F_4256 => "VirtualBox shared folder",
        _ => return None,
    })
}

/// Makes the names in the folder of `file` durable.
pub(super) fn sync_folder_of(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn knows_network_file_systems_from_local_ones() {
        let network = [0x6969, 0x517B, 0xFF53_4D42, 0xFE53_4D42, 0x0102_1997, 0x6573_5546, 0x00C3_6400];
        for magic in network {
            assert!(network_file_system(magic).is_some(), "{magic:x}");
        }
        // ext4, XFS, Btrfs, tmpfs, overlayfs, ZFS, F2FS, bcachefs
        let local = [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x794C_7630, 0x2FC1_2FC1, 0xF2F5_2010, 0xCA45_1A4E];
        for magic in local {
            assert_eq!(network_file_system(magic), None, "{magic:x}");
        }
    }

    #[test]
    fn names_the_folder_that_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let error = resolve(&folder.path().join("no/moorline.db")).unwrap_err();
        assert!(error.contains("/no does not exist"), "{error}");
        assert!(resolve(Path::new("..")).is_ok(), "a folder resolves, and is refused when looked at");
        assert!(look(folder.path()).unwrap_err().contains("is a folder"));
    }

    #[test]
    fn follows_links_to_the_true_name() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        std::fs::write(folder.join("true.db"), "").unwrap();
        std::os::unix::fs::symlink("true.db", folder.join("link.db")).unwrap();
        std::os::unix::fs::symlink("nowhere.db", folder.join("broken.db")).unwrap();
        assert_eq!(resolve(&folder.join("link.db")).unwrap(), folder.join("true.db"));
        assert!(resolve(&folder.join("broken.db")).unwrap_err().contains("cannot be followed"));
    }
}
