//! The sockets beside the file, and who is asking.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A socket file in a folder that is held open. Its path goes through `/proc/self/fd`, so that it fits
/// the 108 bytes of a socket address however deep the folder lies.
pub(super) struct Socket {
    name: String,
    folder: PathBuf,
    /// Keeps the short path valid.
    held: File,
}

impl Socket {
    /// The socket FILE + `suffix`. A symbolic link to a file and the file itself have the same one.
    pub(super) fn beside(file: &Path, suffix: &str) -> io::Result<Socket> {
        let whole = match std::fs::canonicalize(file) {
            Ok(whole) => whole,
            Err(_) => {
                let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
                let name = file.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
                std::fs::canonicalize(folder.unwrap_or(Path::new(".")))?.join(name)
            }
        };
        let folder = whole.parent().unwrap_or(Path::new("/")).to_owned();
        let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned() + suffix;
        let held = File::open(&folder)?;
        Ok(Socket { name, folder, held })
    }

    /// For messages.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Valid in this process while this value lives.
    pub(super) fn short_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{}", self.held.as_raw_fd(), self.name))
    }

    pub(super) fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.short_path())
    }

    /// Listens, for this user only. The caller holds the file's lock: what is there is left over.
    pub(super) fn listen(&self) -> io::Result<UnixListener> {
        self.remove();
        let listener = UnixListener::bind(self.short_path())?;
        std::fs::set_permissions(self.path(), Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    pub(super) fn remove(&self) {
        match std::fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("{} cannot be removed: {error}", self.path().display());
            }
            _ => {}
        }
    }
}

/// Suffix of the administrator's socket.
pub(super) const ADMIN: &str = ".admin.sock";
/// Suffix of the socket between the edge and the workers.
pub(super) const REST: &str = ".rest.sock";

/// The name of the system user of this process, or its number.
pub(super) fn system_user() -> String {
    user_name(rustix::process::getuid().as_raw())
}

/// The name of a system user, or the number if it has none.
pub(super) fn user_name(uid: u32) -> String {
    let uid = uid.to_string();
    let known = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = known.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    name.unwrap_or(uid)
}
