//! A folder with a file, and the program to run on it.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for something that comes by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A folder of its own; the program runs inside it, without variables of the outside.
pub(crate) struct Rig {
    pub(crate) folder: tempfile::TempDir,
}

/// What the program said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// The one JSON document on stdout of a run that worked.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// The text of a run that worked.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        &self.out
    }

    /// The error text of a run that ended with `code` and printed nothing to stdout.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        assert_eq!(self.out, "", "stdout is for results");
        assert!(self.err.starts_with("error: "), "{}", self.err);
        &self.err
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Rig {
    /// An empty folder.
    pub(crate) fn empty() -> Rig {
        Rig { folder: tempfile::tempdir().unwrap() }
    }

    /// A file with the administrator `root` and the member `alice`.
    pub(crate) fn with_people() -> Rig {
        let rig = Rig::empty();
        rig.run("user add root --email root@example.com --admin --create").text();
        rig.run("user add alice --email alice@example.com").text();
        rig
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moorline"));
        command.args(arguments.split_whitespace()).current_dir(self.folder.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MOORLINE_") {
                command.env_remove(name);
            }
        }
        command
    }

    pub(crate) fn run(&self, arguments: &str) -> Said {
        self.command(arguments).stdin(Stdio::null()).output().unwrap().into()
    }

    pub(crate) fn run_with_input(&self, arguments: &str, input: &str) -> Said {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    }

    /// Starts `serve` on a free port and waits for its ready line.
    pub(crate) fn serve(&self, arguments: &str) -> Server {
        let log = std::fs::File::create(self.path("serve.log")).unwrap();
        let mut command = self.command(&format!("serve --listen 127.0.0.1:0 {arguments}"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        Server::ready(child, self.path("serve.log"))
    }
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// All that stdout had up to and with the ready line.
    pub(crate) said: String,
    pub(crate) url: String,
    log: PathBuf,
}

impl Server {
    fn ready(mut child: Child, log: PathBuf) -> Server {
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        loop {
            let mut line = String::new();
            let length = reader.read_line(&mut line).unwrap();
            said.push_str(&line);
            if length == 0 {
                let log = std::fs::read_to_string(&log).unwrap();
                let _ = child.wait();
                panic!("serve ended before it was ready: {said}\n{log}");
            }
            if let Some(rest) = line.strip_prefix("ready url=") {
                let url = rest.split(' ').next().unwrap().to_owned();
                return Server { child, said, url, log };
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Sends `signal` and gives the exit code and the time until the end.
    pub(crate) fn stop(&mut self, signal: &str) -> (Option<i32>, Duration) {
        let began = Instant::now();
        self.signal(signal);
        wait_for("the server to end", || self.child.try_wait().unwrap())
            .code()
            .map_or((None, began.elapsed()), |code| (Some(code), began.elapsed()))
    }

    /// GET of `path`: status line and body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.get(format!("{}{path}", self.url)).call().unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the server\n{}", self.log());
        }
    }
}

/// Asks until there is an answer.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// The keys of an object, in order.
#[track_caller]
pub(crate) fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap_or_else(|| panic!("not an object: {value}")).keys().map(String::as_str).collect()
}
