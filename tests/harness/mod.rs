//! A running `moorline` to test against: own folder, own port, own log, killed when dropped.

pub mod app;
pub mod derp;
pub mod front;
pub mod http;
pub mod link;
pub mod plugins;
pub mod provider;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for anything that should happen soon; generous, because machines are shared.
pub const SOON: Duration = Duration::from_secs(30);

/// The program under test.
pub fn moorline() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moorline"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MOORLINE_") {
            command.env_remove(name);
        }
    }
    command
}

/// Calls `check` until it gives something, or fails with `what` after [`SOON`].
pub fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < end, "waited {SOON:?} in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A server on a file of its own.
pub struct Server {
    dir: tempfile::TempDir,
    child: Option<Child>,
    extra: Vec<String>,
    /// `127.0.0.1:PORT`; stays the same over restarts.
    pub address: String,
    /// How long the last start took, from exec to the ready line.
    pub start_took: Duration,
}

impl Server {
    /// Starts a server on a new file.
    pub fn start() -> Server {
        Server::start_with(&[])
    }

    /// Starts a server on a new file with further arguments to `serve`.
    pub fn start_with(extra: &[&str]) -> Server {
        let mut server = Server {
            dir: tempfile::Builder::new().prefix("moor").tempdir().unwrap(),
            child: None,
            extra: extra.iter().map(|arg| (*arg).to_owned()).collect(),
            address: "127.0.0.1:0".into(),
            start_took: Duration::ZERO,
        };
        server.restart();
        server
    }

    /// The folder of this server.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The SQLite file.
    pub fn file(&self) -> PathBuf {
        self.dir().join("m.db")
    }

    /// What the server has logged, over all starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }

    /// The server's process id.
    #[allow(dead_code, reason = "for the benchmarks")]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    /// Starts the server again on the same file and port. It must not be running.
    pub fn restart(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir().join("log")).unwrap();
        let begun = Instant::now();
        let mut child = moorline()
            .args(["serve", "--file"])
            .arg(self.file())
            .args(["--listen", &self.address])
            .args(&self.extra)
            .stdout(Stdio::piped())
            .stderr(log)
            .current_dir(self.dir())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.by_ref().map_while(Result::ok).find(|line| line.starts_with("ready url="));
        self.start_took = begun.elapsed();
        let Some(ready) = ready else {
            panic!("no ready line: {:?}\n{}", child.wait(), self.log());
        };
        // The rest of stdout is read, so that the server never blocks on it.
        std::thread::spawn(move || lines.for_each(drop));
        let url = ready.split_whitespace().nth(1).unwrap().strip_prefix("url=").unwrap();
        self.address = url.split("://").nth(1).unwrap().to_owned();
        self.child = Some(child);
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM; gives the exit code and the time it took.
    pub fn terminate(&mut self) -> (Option<i32>, Duration) {
        let mut child = self.child.take().expect("running");
        let begun = Instant::now();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        (status.code(), begun.elapsed())
    }

    /// Runs a verb with `--file` and `--json` and gives its document.
    pub fn verb(&self, args: &[&str]) -> Value {
        let output = self.verb_output(args, None);
        assert!(
            output.status.success(),
            "moorline {args:?}: {}\n{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("moorline {args:?} printed no JSON ({error}): {}", String::from_utf8_lossy(&output.stdout))
        })
    }

    /// Runs a verb with `--file` and `--json`, feeding `stdin`.
    pub fn verb_output(&self, args: &[&str], stdin: Option<&str>) -> Output {
        let mut child = moorline()
            .args(args)
            .arg("--file")
            .arg(self.file())
            .arg("--json")
            .current_dir(self.dir())
            .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if let Some(text) = stdin {
            child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        }
        child.wait_with_output().unwrap()
    }

    /// Adds a user and gives a session token of theirs.
    pub fn user(&self, name: &str) -> String {
        let email = format!("{name}@example.test");
        let added = self.verb_output(
            &["user", "add", name, "--email", &email, "--password-stdin"],
            Some("correct horse battery\n"),
        );
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        self.verb(&["token", "create", "--user", name])["token"].as_str().unwrap().to_owned()
    }

    /// Adds a workspace and gives `(agent id, agent token)`.
    pub fn workspace(&self, owner: &str, name: &str) -> (String, String) {
        let added = self.verb(&["workspace", "add", name, "--owner", owner]);
        let agent = &added["agents"][0];
        (agent["id"].as_str().unwrap().to_owned(), agent["token"].as_str().unwrap().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of the server\n{}---", self.log());
        }
    }
}
