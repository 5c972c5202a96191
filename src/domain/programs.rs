//! The programs that machines and people download: files of a folder that the operator fills.
//!
//! Only regular files whose names have the form of a program's are there; links are not followed. What
//! a file's bytes amount to is worked out once for each of its versions, on a thread of its own that
//! lives as long as there is something to do.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use rustix::fs::{CWD, Mode, OFlags};

/// Programs that are known by their digests, and that a list shows; there are seven platforms. About
/// 300 bytes each.
const PROGRAMS: usize = 64;
/// Names of the folder that are looked at for a list.
const ENTRIES: usize = 1_024;
/// Longest name of a program, bytes.
const NAME_BYTES: usize = 64;
/// Bytes read at a time for digests.
const READ_BYTES: usize = 256 * 1024;
/// Requests that wait for digests at the same time; further ones go without. Each holds a worker.
const WAITING: usize = 2;

/// What a file's bytes amount to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digests {
    /// What VS Code and JetBrains compare with their own copy.
    pub sha1: [u8; 20],
    /// What the scripts check.
    pub sha256: [u8; 32],
}

/// Tells one version of a file from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// A program, open: it stays what it is when its name comes to stand for another file.
pub struct Program {
    name: String,
    file: File,
    stamp: Stamp,
}

impl Program {
    /// Its name in the folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.stamp.size
    }

    /// The bytes from `at` on, `most` of them unless the file ends before. An error when the file is not
    /// what it was when it was opened.
    pub fn read(&self, at: u64, most: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.stamp.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; most.min(left)];
        self.file.read_exact_at(&mut bytes, at)?;
        if stamp(&self.file)? == self.stamp { Ok(bytes) } else { Err(io::Error::other("it was changed meanwhile")) }
    }

    fn digests(&self) -> io::Result<Digests> {
        let (mut sha1, mut sha256) = (Context::new(&SHA1_FOR_LEGACY_USE_ONLY), Context::new(&SHA256));
        let mut at = 0;
        while at < self.stamp.size {
            let bytes = self.read(at, READ_BYTES)?;
            sha1.update(&bytes);
            sha256.update(&bytes);
            at += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        }
        let wrong = |_| io::Error::other("a digest has an unexpected length");
        Ok(Digests {
            sha1: sha1.finish().as_ref().try_into().map_err(wrong)?,
            sha256: sha256.finish().as_ref().try_into().map_err(wrong)?,
        })
    }
}

fn stamp(file: &File) -> io::Result<Stamp> {
    let meta = file.metadata()?;
    Ok(Stamp { device: meta.dev(), inode: meta.ino(), size: meta.size(), changed: (meta.mtime(), meta.mtime_nsec()) })
}

/// The folder. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Programs {
    inner: Arc<Inner>,
}

struct Inner {
    folder: Option<PathBuf>,
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    known: HashMap<String, (Stamp, Digests)>,
    queue: VecDeque<Program>,
    /// What the thread is at.
    reading: Option<(String, Stamp)>,
    running: bool,
    waiting: usize,
}

impl State {
    fn known(&self, program: &Program) -> Option<Digests> {
        let (stamp, digests) = self.known.get(&program.name)?;
        (*stamp == program.stamp).then_some(*digests)
    }

    fn is_coming(&self, program: &Program) -> bool {
        self.reading.as_ref().is_some_and(|(name, stamp)| *name == program.name && *stamp == program.stamp)
            || self.queue.iter().any(|queued| queued.name == program.name && queued.stamp == program.stamp)
    }
}

impl Programs {
    /// The programs of `folder`; without one there are none.
    pub fn new(folder: Option<PathBuf>) -> Programs {
        Programs { inner: Arc::new(Inner { folder, state: Mutex::default(), ready: Condvar::new() }) }
    }

    /// Whether there is a folder.
    pub fn are_offered(&self) -> bool {
        self.inner.folder.is_some()
    }

    /// Opens the program or signature of this name, if there is one.
    pub fn open(&self, name: &str) -> io::Result<Option<Program>> {
        match &self.inner.folder {
            Some(folder) if is_name(name) => open_in(folder, name),
            _ => Ok(None),
        }
    }

    /// Every program, without signatures, by name.
    pub fn list(&self) -> io::Result<Vec<Program>> {
        let Some(folder) = &self.inner.folder else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)?.take(ENTRIES) {
            let name = entry?.file_name().into_string().unwrap_or_default();
            if is_name(&name) && !name.ends_with(".asc") {
                names.push(name);
            }
        }
        names.sort_unstable();
        names.truncate(PROGRAMS);
        let opened = names.iter().map(|name| open_in(folder, name));
        opened.filter_map(Result::transpose).collect()
    }

    /// What the bytes of `program` amount to, if that is known within `patience`.
    pub fn digests(&self, program: &Program, patience: Duration) -> Option<Digests> {
        let mut state = self.lock();
        if let Some(digests) = state.known(program) {
            return Some(digests);
        }
        if !self.begin(&mut state, program) || state.waiting >= WAITING {
            return None;
        }
        let until = Instant::now() + patience;
        state.waiting += 1;
        while state.is_coming(program) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.inner.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waiting -= 1;
        state.known(program)
    }

    /// Has the digests of all programs worked out, so that they are known when somebody asks.
    pub fn prepare(&self) {
        match self.list() {
            Ok(programs) => {
                let mut state = self.lock();
                for program in programs {
                    self.begin(&mut state, &program);
                }
            }
            Err(error) => log::error!("the folder of programs cannot be read: {error}"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a program; says whether its digests will be known.
    fn begin(&self, state: &mut State, program: &Program) -> bool {
        if state.known(program).is_some() || state.is_coming(program) {
            return true;
        }
        if state.queue.len() >= PROGRAMS {
            return false;
        }
        let Ok(file) = program.file.try_clone() else { return false };
        state.queue.push_back(Program { name: program.name.clone(), file, stamp: program.stamp });
        if !state.running {
            let inner = Arc::clone(&self.inner);
            state.running = std::thread::Builder::new().name("digests".into()).spawn(move || work(&inner)).is_ok();
        }
        state.running
    }
}

fn work(inner: &Inner) {
    let mut state = inner.state.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(program) = state.queue.pop_front() {
        state.reading = Some((program.name.clone(), program.stamp));
        drop(state);
        let result = program.digests();
        state = inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.reading = None;
        match result {
            Ok(digests) => {
                if state.known.len() >= PROGRAMS && !state.known.contains_key(&program.name) {
                    state.known.clear();
                }
                state.known.insert(program.name, (program.stamp, digests));
            }
            Err(error) => log::warn!("the program {} cannot be read: {error}", program.name),
        }
        inner.ready.notify_all();
    }
    state.running = false;
}

fn open_in(folder: &Path, name: &str) -> io::Result<Option<Program>> {
    // The folder itself may be a link, what is in it may not. Without waiting: a pipe has nobody to open
    // its other end.
    let look = OFlags::RDONLY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(CWD, folder, look | OFlags::DIRECTORY, Mode::empty())?;
    let opened = rustix::fs::openat(&folder, name, look | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty());
    let file = match opened {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let stamp = stamp(&file)?;
    Ok(Some(Program { name: name.to_owned(), file, stamp }))
}

/// Whether this is how a program's or signature's file is named: `coder-SYSTEM-ARCHITECTURE`, perhaps
/// `.exe`, perhaps `.asc`.
fn is_name(name: &str) -> bool {
    let stem = name.strip_suffix(".asc").unwrap_or(name);
    let stem = stem.strip_suffix(".exe").unwrap_or(stem);
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let Some((system, architecture)) = stem.strip_prefix("coder-").and_then(|rest| rest.split_once('-')) else {
        return false;
    };
    name.len() <= NAME_BYTES && word(system) && word(architecture)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::hex;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn folder(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Programs) {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let programs = Programs::new(Some(folder.path().to_owned()));
        (folder, programs)
    }

    #[test]
    fn knows_programs_by_their_names() {
        for name in
            ["coder-linux-amd64", "coder-windows-arm64.exe", "coder-linux-armv7.asc", "coder-windows-amd64.exe.asc"]
        {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            "coder",
            "coder-linux",
            "coder-linux-",
            "coder--amd64",
            "coder-linux-amd64.sig",
            "Coder-linux-amd64",
            "coder-linux-amd64/",
            "coder-../../etc",
            "coder-linux-amd64.asc.asc",
            "coder-linux-amd64\0",
            "../coder-linux-amd64",
            "coder-linux-amd64-musl",
        ] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn opens_nothing_but_regular_files_of_the_folder() {
        let (folder, programs) = folder(&[("coder-linux-amd64", b"x"), ("secret", b"s")]);
        std::fs::create_dir(folder.path().join("coder-linux-arm64")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret"), folder.path().join("coder-darwin-arm64")).unwrap();
        rustix::fs::mkfifoat(CWD, folder.path().join("coder-darwin-amd64"), Mode::RUSR).unwrap();
        assert_eq!(programs.open("coder-linux-amd64").unwrap().unwrap().size(), 1);
        for name in ["coder-linux-arm64", "coder-darwin-arm64", "coder-darwin-amd64", "coder-linux-armv7", "secret"] {
            assert!(programs.open(name).unwrap().is_none(), "{name}");
        }
        let names: Vec<String> = programs.list().unwrap().iter().map(|program| program.name().to_owned()).collect();
        assert_eq!(names, ["coder-linux-amd64"]);
        assert!(Programs::new(None).open("coder-linux-amd64").unwrap().is_none());
    }

    #[test]
    fn knows_the_digests_of_the_version_that_was_asked_for() {
        let (folder, programs) = folder(&[("coder-linux-amd64", b"abc")]);
        let before = programs.open("coder-linux-amd64").unwrap().unwrap();
        let digests = programs.digests(&before, PATIENCE).unwrap();
        assert_eq!(hex(&digests.sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(hex(&digests.sha256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        std::fs::write(folder.path().join("new"), b"abcd").unwrap();
        std::fs::rename(folder.path().join("new"), folder.path().join("coder-linux-amd64")).unwrap();
        let after = programs.open("coder-linux-amd64").unwrap().unwrap();
        assert_ne!(programs.digests(&after, PATIENCE).unwrap(), digests);
        assert_eq!(before.read(0, 10).unwrap(), b"abc", "what is open stays");
    }

    #[test]
    fn refuses_to_read_on_in_a_file_that_was_changed() {
        let (folder, programs) = folder(&[("coder-linux-amd64", b"abcdef")]);
        let program = programs.open("coder-linux-amd64").unwrap().unwrap();
        assert_eq!(program.read(2, 2).unwrap(), b"cd");
        std::fs::write(folder.path().join("coder-linux-amd64"), b"abc").unwrap();
        assert!(program.read(0, 2).is_err() && program.read(4, 2).is_err());
        assert_eq!(programs.digests(&program, PATIENCE), None);
    }

    #[test]
    fn prepares_all_programs_with_one_thread_that_ends() {
        let (_folder, programs) = folder(&[("coder-linux-amd64", b"a"), ("coder-linux-arm64", b"b")]);
        programs.prepare();
        for program in programs.list().unwrap() {
            assert!(programs.digests(&program, PATIENCE).is_some());
        }
        let until = Instant::now() + PATIENCE;
        while programs.lock().running {
            assert!(Instant::now() < until, "the thread goes on");
            std::thread::yield_now();
        }
    }
}
