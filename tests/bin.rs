//! `/bin` and the scripts that install from it: the built program, asked by the tools of real machines.

mod download;
mod script;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::cli::rig::{Rig, Server};

/// What stands for the `coder` program.
const PROGRAM: &str = "#!/bin/sh\necho 'Coder v2.24.0+test'\n\
                       if [ \"$1\" = agent ]; then env > \"$CODER_AGENT_LOG_DIR/env\"; fi\n";

/// The name of the program for this machine.
fn program() -> &'static str {
    if cfg!(target_arch = "aarch64") { "coder-linux-arm64" } else { "coder-linux-amd64" }
}

/// A folder with programs, and a server that hands them out.
fn serve(files: &[(&str, &[u8])], arguments: &str) -> (Rig, Server) {
    let rig = Rig::empty();
    std::fs::create_dir(rig.path("bin")).unwrap();
    for (name, bytes) in files {
        std::fs::write(rig.path("bin").join(name), bytes).unwrap();
    }
    let server = rig.serve(&format!("--bin-dir bin {arguments}"));
    (rig, server)
}

/// An answer, read to the end of the connection.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn ask(server: &Server, method: &str, path: &str, headers: &str) -> Answer {
    let mut stream = connect(server);
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: moor\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes.split_off(end) }
}

fn get(server: &Server, path: &str) -> Answer {
    ask(server, "GET", path, "")
}

/// Bytes that are not all the same, so that a piece in the wrong place shows.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(length)
    .collect()
}

fn hex(digest: ring::digest::Digest) -> String {
    moorline::model::hex(digest.as_ref())
}
