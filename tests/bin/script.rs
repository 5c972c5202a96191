//! The scripts, run by the shells and with the download tools of real machines.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{PROGRAM, get, hex, program, serve};
use crate::cli::rig::{Rig, Said, Server};

const TOKEN: &str = "c0000000-0000-4000-8000-000000000001";

/// What every machine has, besides a tool that downloads.
const BASICS: &[&str] = &[
    "cat",
    "chmod",
    "chown",
    "cp",
    "cut",
    "dd",
    "env",
    "grep",
    "head",
    "id",
    "mkdir",
    "mktemp",
    "mv",
    "rm",
    "sed",
    "sh",
    "sha256sum",
    "sleep",
    "tail",
    "tr",
    "uname",
    "wc",
];

/// A machine: a home, and a PATH with no more tools than it names.
struct Machine {
    folder: tempfile::TempDir,
}

fn find(tool: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH").unwrap()).map(|folder| folder.join(tool)).find(|path| path.exists())
}

impl Machine {
    /// `None` where the tests' own machine lacks a tool.
    fn with(tools: &[&str]) -> Option<Machine> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tools")).unwrap();
        std::fs::create_dir(folder.path().join("home")).unwrap();
        for tool in BASICS.iter().chain(tools) {
            std::os::unix::fs::symlink(find(tool)?, folder.path().join("tools").join(tool)).unwrap();
        }
        Some(Machine { folder })
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Adds a tool that is this script.
    fn add(&self, tool: &str, script: &str) {
        let path = self.folder.path().join("tools").join(tool);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", self.folder.path().join("tools")).env("HOME", self.home()).stdin(Stdio::null());
        // A session of its own has no terminal to ask.
        command
    }

    /// Runs a script by `shell`, which may have an argument.
    fn run(&self, shell: &str, script: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
        let path = self.folder.path().join("script");
        std::fs::write(&path, script).unwrap();
        let mut words = shell.split(' ');
        let mut command = self.command(find(words.next().unwrap()).unwrap().to_str().unwrap());
        command.args(words).arg(&path).args(arguments).envs(environment.iter().copied()).output().unwrap().into()
    }
}

/// curl takes certificates from the system's bundle, which need not have ours.
fn script(server: &Server, path: &str) -> String {
    let output = Command::new("curl").args(["-fsSk", &format!("{}{path}", server.url)]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn programs() -> (Rig, Server) {
    serve(&[(program(), PROGRAM.as_bytes()), ("coder-windows-amd64.exe", b"MZ")], "")
}

/// A server that answers everything with a page, as a sign-in proxy does.
fn page_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let page = "\n <!DOCTYPE html><html>Please sign in\u{7}</html>";
            let _ =
                write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{page}", page.len());
        }
    });
    url
}

#[test]
fn installs_with_each_tool_in_each_shell() {
    let (_rig, server) = programs();
    let text = script(&server, "/install.sh");
    let mut runs = 0;
    for shell in ["dash", "bash", "busybox sh"] {
        for tool in ["curl", "wget", "busybox"] {
            let known = find(shell.split(' ').next().unwrap()).is_some();
            let Some(machine) = Machine::with(&[tool]).filter(|_| known) else { continue };
            let target = machine.home().join("tools of mine");
            let said = machine.run(shell, &text, &[target.to_str().unwrap()], &[]);
            assert_eq!(said.code, 0, "{shell} with {tool}: {}", said.err);
            assert_eq!(std::fs::read_to_string(target.join("coder")).unwrap(), PROGRAM);
            assert!(
                said.err.contains(&format!("coder login {}", server.url)) && said.err.contains("PATH"),
                "{}",
                said.err
            );
            let left: Vec<_> = std::fs::read_dir(&target).unwrap().collect();
            assert_eq!(left.len(), 1, "nothing else stays: {left:?}");
            runs += 1;
        }
    }
    assert!(runs > 0, "no shell or no tool is here");
}

#[test]
fn tries_the_next_tool_when_one_is_broken() {
    let (_rig, server) = programs();
    let text = script(&server, "/install.sh");
    let machine = Machine::with(&["wget"]).unwrap();
    machine.add("curl", "#!/bin/sh\necho 'curl: (48) out of order' >&2\nexit 48\n");
    let said = machine.run("sh", &text, &[machine.home().to_str().unwrap()], &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("out of order") && said.err.contains("curl could not download"), "{}", said.err);

    let machine = Machine::with(&[]).unwrap();
    machine.add("curl", "#!/bin/sh\nexit 6\n");
    let said = machine.run("sh", &text, &[machine.home().to_str().unwrap()], &[]);
    assert!(said.code == 1 && said.err.contains("could not be downloaded (tried: curl)"), "{}", said.err);
    let machine = Machine::with(&[]).unwrap();
    let said = machine.run("sh", &text, &[machine.home().to_str().unwrap()], &[]);
    assert!(said.code == 1 && said.err.contains("none of curl, wget and busybox"), "{}", said.err);
}

#[test]
fn stops_and_shows_the_first_bytes_when_a_page_came() {
    let (_rig, server) = programs();
    let other = page_server();
    for path in ["/install.sh", "/enrol.sh"] {
        let text = script(&server, path).replace(&server.url, &other);
        for tool in ["curl", "wget", "busybox"] {
            let Some(machine) = Machine::with(&[tool]) else { continue };
            let arguments = if path == "/enrol.sh" { vec!["--no-service"] } else { vec![] };
            let said = machine.run("sh", &text, &arguments, &[("CODER_AGENT_TOKEN", TOKEN)]);
            assert_eq!(said.code, 1, "{path} with {tool}: {}", said.err);
            for hint in ["<!DOCTYPE html><html>Please sign in.</html>", "That is a web page", "SHA-256 expected"] {
                assert!(said.err.contains(hint), "{path} with {tool}: {}", said.err);
            }
            assert!(!installed(&machine.home()), "nothing is installed");
        }
    }
}

/// Whether there is a program anywhere below a folder.
fn installed(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() { installed(&path) } else { path.file_name().unwrap().to_str().unwrap().starts_with("coder") }
    })
}

#[test]
fn stops_when_the_program_is_not_the_one_it_was_written_for() {
    let (rig, server) = programs();
    let text = script(&server, "/install.sh");
    std::fs::write(rig.path("bin").join(program()), b"\x7fELF something else").unwrap();
    let machine = Machine::with(&["curl"]).unwrap();
    let said = machine.run("sh", &text, &[machine.home().to_str().unwrap()], &[]);
    assert_eq!(said.code, 1);
    let sum = hex(ring::digest::digest(&ring::digest::SHA256, PROGRAM.as_bytes()));
    assert!(said.err.contains(&format!("expected  {sum}")) && said.err.contains(".ELF something else"), "{}", said.err);
    assert!(said.err.contains("get this script again") && !installed(&machine.home()), "{}", said.err);
    let again = script(&server, "/install.sh");
    let said = machine.run("sh", &again, &[machine.home().to_str().unwrap()], &[]);
    assert!(said.code == 1 && said.err.contains("does not run here"), "{}", said.err);
}

#[test]
fn names_the_platforms_that_there_are() {
    let (_rig, server) = serve(&[("coder-darwin-arm64", b"x"), ("coder-linux-riscv64", b"x")], "");
    let machine = Machine::with(&["curl"]).unwrap();
    let said = machine.run("sh", &script(&server, "/install.sh"), &[], &[]);
    assert!(said.code == 1 && said.err.contains("it has: coder-darwin-arm64 coder-linux-riscv64."), "{}", said.err);
}

#[test]
fn makes_a_machine_an_agent() {
    let (_rig, server) = programs();
    let text = script(&server, "/enrol.sh");
    let machine = Machine::with(&["curl"]).unwrap();
    let folder = machine.home().join("agent");
    let place = folder.to_str().unwrap();
    let arguments = ["--no-service", "--directory", place];
    let said = machine.run("dash", &text, &arguments, &[("CODER_AGENT_TOKEN", TOKEN)]);
    assert_eq!(said.code, 0, "{}", said.err);
    let environment = std::fs::read_to_string(folder.join("logs/env")).unwrap();
    for line in [
        format!("CODER_AGENT_URL={}/", server.url),
        format!("CODER_AGENT_TOKEN={TOKEN}"),
        format!("CODER_AGENT_SCRIPT_DATA_DIR={place}/scripts"),
        "CODER_AGENT_AUTH=token".to_owned(),
    ] {
        assert!(environment.lines().any(|known| known == line), "{line} in {environment}");
    }
    assert!(!environment.contains("SSL_CERT_FILE"));
    let mode = |name: &str| std::fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("agent.env"), mode("run"), mode("coder")), (0o600, 0o755, 0o755));
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o077, 0, "the token is in there");

    let token = machine.home().join("token");
    std::fs::write(&token, format!(" {TOKEN}\n")).unwrap();
    let arguments = ["--no-service", "--directory", place, "--token-file", token.to_str().unwrap()];
    assert_eq!(machine.run("bash", &text, &arguments, &[]).code, 0, "again, over what is there");
}

#[test]
fn refuses_to_enrol_what_cannot_work() {
    let (_rig, server) = programs();
    let text = script(&server, "/enrol.sh");
    let machine = Machine::with(&["curl"]).unwrap();
    for (arguments, token, code, hint) in [
        (&["--no-service"][..], "not-a-token", 1, "the token is not one"),
        (&["--no-service"], "c0000000-0000-4000-8000-00000000000x", 1, "a character that none has"),
        (&["--bogus"], TOKEN, 2, "--bogus is not an option"),
        (&["--user"], TOKEN, 2, "--user needs a value"),
        (&["--no-service", "--user", "nobody-of-this-name"], TOKEN, 1, "user"),
        (&["--no-service", "--directory", "/tmp/a b"], TOKEN, 1, "has a character"),
        (&["--no-service", "--token-file", "/nonexistent"], "", 1, "cannot be read from /nonexistent"),
    ] {
        let said = machine.run("sh", &text, arguments, &[("CODER_AGENT_TOKEN", token)]);
        assert!(said.code == code && said.err.contains(hint), "{arguments:?}: {} {}", said.code, said.err);
        assert!(!installed(&machine.home()));
    }
}

#[test]
fn trusts_the_operators_certificate_authority() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    // Two certificates of the same name look like one that signed itself.
    params.distinguished_name.push(rcgen::DnType::CommonName, "Our authority");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
    let own = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&own, &ca).unwrap();
    let start = |arguments: &str| {
        let rig = Rig::empty();
        std::fs::create_dir(rig.path("bin")).unwrap();
        std::fs::write(rig.path("bin").join(program()), PROGRAM).unwrap();
        rig.write("ca.pem", &ca.pem());
        rig.write("cert.pem", &leaf.pem());
        rig.write("key.pem", &own.serialize_pem());
        let server = rig.serve(&format!("--bin-dir bin --tls-cert cert.pem --tls-key key.pem {arguments}"));
        (rig, server)
    };
    let (rig, server) = start("--enrol-ca ca.pem");
    for tool in ["curl", "wget"] {
        let Some(machine) = Machine::with(&[tool]) else { continue };
        let folder = machine.home().join("agent");
        let arguments = ["--no-service", "--directory", folder.to_str().unwrap()];
        let said = machine.run("sh", &script(&server, "/enrol.sh"), &arguments, &[("CODER_AGENT_TOKEN", TOKEN)]);
        assert_eq!(said.code, 0, "{tool}: {}", said.err);
        let environment = std::fs::read_to_string(folder.join("logs/env")).unwrap();
        let file = format!("SSL_CERT_FILE={}/ca.pem", folder.display());
        assert!(environment.lines().any(|line| line == file), "{environment}");
        let bundle = std::fs::read_to_string(folder.join("ca.pem")).unwrap();
        assert!(bundle.contains(ca.pem().trim_end()), "{bundle}");
        let system = std::fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").unwrap_or_default();
        assert!(bundle.starts_with(&system), "shells of the agent go on trusting what the system trusts");
    }
    // The operator's line works before the machine knows the authority.
    line_enrols(&rig, &server);
    drop(server);

    let (_rig, server) = start("");
    let machine = Machine::with(&["curl"]).unwrap();
    let said = machine.run("sh", &script(&server, "/install.sh"), &[machine.home().to_str().unwrap()], &[]);
    assert!(said.code == 1 && said.err.contains("certificate"), "the tool says what is wrong: {}", said.err);
}

/// Adds a workspace and runs what the operator is shown on a machine.
fn line_enrols(rig: &Rig, server: &Server) {
    rig.run("user add alice --email alice@example.com").text();
    let said = rig.run("workspace add dev --owner alice");
    let line = said.text().lines().last().unwrap().trim().to_owned();
    let token = line.split("CODER_AGENT_TOKEN=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    for tool in ["curl", "wget"] {
        let Some(machine) = Machine::with(&[tool]) else { continue };
        let folder = machine.home().join("agent");
        // Without the option it would install a service on the machine that runs the tests.
        let line = format!("{line} --no-service --directory {}", folder.display());
        let said: Said = machine.command("/bin/sh").args(["-c", &line]).output().unwrap().into();
        assert_eq!(said.code, 0, "{line}: {}", said.err);
        let environment = std::fs::read_to_string(folder.join("logs/env")).unwrap();
        assert!(environment.contains(&format!("CODER_AGENT_TOKEN={token}\n")), "{environment}");
        assert!(environment.contains(&format!("CODER_AGENT_URL={}/\n", server.url)), "{environment}");
    }
}

#[test]
fn the_operator_is_shown_one_line_that_works_on_a_bare_machine() {
    let (rig, server) = programs();
    line_enrols(&rig, &server);
    let said = rig.run("workspace rotate-token alice/dev");
    let sum = hex(ring::digest::digest(&ring::digest::SHA256, script(&server, "/enrol.sh").as_bytes()));
    assert!(said.text().contains(&sum) && said.text().contains("/enrol.sh"), "{}", said.out);
    let said = rig.run("workspace add win --owner alice --os windows");
    let sum = hex(ring::digest::digest(&ring::digest::SHA256, script(&server, "/enrol.ps1").as_bytes()));
    assert!(
        said.text().contains(&sum) && said.text().contains("curl.exe") && said.text().contains("/enrol.ps1"),
        "{}",
        said.out
    );
    let said = rig.run("workspace add mac --owner alice --os darwin");
    assert!(said.text().contains("shasum -a 256 -c"), "{}", said.out);
    // A script that was changed on its way is not run.
    let line = rig.run("workspace add more --owner alice").text().lines().last().unwrap().trim().to_owned();
    let machine = Machine::with(&["curl"]).unwrap();
    std::fs::write(rig.path("bin/coder-linux-armv7"), b"new").unwrap();
    let said: Said = machine.command("/bin/sh").args(["-c", &line]).output().unwrap().into();
    assert!(said.code == 1 && said.out.contains("FAILED") && !installed(&machine.home()), "{} {}", said.out, said.err);
    drop(server);
    let said = rig.run("workspace rotate-token alice/dev");
    assert!(said.text().contains("coder agent"), "without a server there is no script: {}", said.out);
}

#[test]
fn scripts_carry_what_they_need_and_no_place_holders() {
    let (_rig, server) = programs();
    let sum = hex(ring::digest::digest(&ring::digest::SHA256, PROGRAM.as_bytes()));
    for path in ["/install.sh", "/enrol.sh", "/enrol.ps1"] {
        let got = get(&server, path);
        let text = String::from_utf8(got.body.clone()).unwrap();
        assert_eq!(got.header("Content-Type"), Some("text/plain; charset=utf-8"));
        assert!(text.contains(&sum) && text.contains(&server.url), "{path}");
        for name in ["@url@", "@ca@", "@has_ca@", "@sums@", "@offered@"] {
            assert!(!text.contains(name), "{path} has {name}");
        }
        let again = get(&server, path).body;
        assert!(again == got.body, "the same for everybody, or its checksum is worth nothing");
        if path.ends_with(".sh") && find("shellcheck").is_some() {
            let machine = Machine::with(&["shellcheck"]).unwrap();
            let said = machine.run("shellcheck -s sh -e SC2310,SC2312", &text, &[], &[]);
            assert_eq!(said.code, 0, "{path}: {}", said.out);
        }
    }
}
