//! Downloads: what clients compare, parts, and clients that do not read.

use std::io::{Read, Write};
use std::time::Duration;

use base64::Engine;
use moorline::config::limits;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

use super::{Answer, ask, connect, get, hex, noise, program, serve};
use crate::cli::rig::wait_for;

/// More than the socket buffers and several pieces, with an end that fills none.
const LARGE: usize = 24 * 1024 * 1024 + 12_345;

#[test]
fn gives_what_vs_code_and_jetbrains_compare() {
    let bytes = noise(3 * limits::DOWNLOAD_PIECE_BYTES + 7);
    let (_rig, server) = serve(&[(program(), &bytes)], "");
    let path = format!("/bin/{}", program());
    let whole = get(&server, &path);
    let tag = format!("\"{}\"", hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, &bytes)));
    let length = bytes.len().to_string();
    assert_eq!((whole.status, whole.header("Content-Type")), (200, Some("application/octet-stream")));
    assert!(whole.body == bytes, "the bytes are not those of the file");
    assert_eq!((whole.header("ETag"), whole.header("Accept-Ranges")), (Some(tag.as_str()), Some("bytes")));
    assert_eq!(
        (whole.header("Content-Length"), whole.header("X-Original-Content-Length")),
        (Some(length.as_str()), Some(length.as_str()))
    );
    let sum = base64::engine::general_purpose::STANDARD.encode(digest(&SHA256, &bytes));
    assert_eq!(whole.header("Repr-Digest"), Some(format!("sha-256=:{sum}:").as_str()));
    assert!(whole.header("X-Coder-Build-Version").is_some());

    let head = ask(&server, "HEAD", &path, "");
    assert_eq!((head.status, head.body.len(), head.header("Content-Length")), (200, 0, Some(length.as_str())));
    assert_eq!(
        (head.header("ETag"), head.header("Content-Type")),
        (Some(tag.as_str()), Some("application/octet-stream"))
    );
    for (known, status) in [(tag.as_str(), 304), ("\"\"", 200), ("W/\"x\"", 200), ("*", 304)] {
        let got = ask(&server, "GET", &path, &format!("If-None-Match: {known}\r\nAccept-Encoding: gzip\r\n"));
        assert_eq!((got.status, got.header("ETag")), (status, Some(tag.as_str())), "{known}");
        assert_eq!(got.body.len(), if status == 304 { 0 } else { bytes.len() });
    }
    let sums = get(&server, &format!("{path}.sha256"));
    assert_eq!(sums.body, format!("{}  {}\n", hex(digest(&SHA256, &bytes)), program()).into_bytes());
    let underscores = path.replace("/coder-", "/coder_");
    assert_eq!(get(&server, &underscores).body.len(), bytes.len(), "as the real server takes names");
    assert_eq!(get(&server, &format!("//bin//{}", program())).status, 200);
}

#[test]
fn gives_parts_of_a_file() {
    let bytes = noise(1_000_000);
    let (_rig, server) = serve(&[(program(), &bytes)], "");
    let path = format!("/bin/{}", program());
    let tag = get(&server, &path).header("ETag").unwrap().to_owned();
    for (range, from, to) in
        [("0-15", 0, 16), ("999990-", 999_990, 1_000_000), ("-10", 999_990, 1_000_000), ("1-800000", 1, 800_001)]
    {
        let got = ask(&server, "GET", &path, &format!("Range: bytes={range}\r\nIf-Range: {tag}\r\n"));
        assert_eq!(got.status, 206, "{range}");
        assert_eq!(got.header("Content-Range"), Some(format!("bytes {from}-{}/1000000", to - 1).as_str()));
        assert!(got.body == bytes[from..to], "{range}");
    }
    let head = ask(&server, "HEAD", &path, "Range: bytes=0-15\r\n");
    assert_eq!((head.status, head.header("Content-Length"), head.body.len()), (206, Some("16"), 0));
    let beyond = ask(&server, "GET", &path, "Range: bytes=1000000-\r\n");
    assert_eq!((beyond.status, beyond.header("Content-Range")), (416, Some("bytes */1000000")));
    for headers in ["Range: bytes=0-1,5-6\r\n", "Range: bytes=0-1\r\nIf-Range: \"other\"\r\n", "Range: nonsense\r\n"] {
        let got = ask(&server, "GET", &path, headers);
        assert_eq!((got.status, got.body.len()), (200, bytes.len()), "{headers}");
    }
}

#[test]
fn hands_out_nothing_but_programs_of_the_folder() {
    let (rig, server) =
        serve(&[("coder-linux-amd64", b"x"), ("coder-linux-amd64.asc", b"signature"), ("notes.txt", b"n")], "");
    std::os::unix::fs::symlink(rig.path("moorline.db.key"), rig.path("bin/coder-linux-arm64")).unwrap();
    std::fs::create_dir(rig.path("bin/coder-darwin-arm64")).unwrap();
    let signature = get(&server, "/bin/coder-linux-amd64.asc");
    assert_eq!((signature.status, signature.body.as_slice()), (200, &b"signature"[..]));
    for path in [
        "/bin/coder-linux-arm64",
        "/bin/coder-darwin-arm64",
        "/bin/notes.txt",
        "/bin/..%2Fmoorline.db",
        "/bin/../moorline.db",
        "/bin/%2e%2e/moorline.db",
        "/bin/coder-linux-amd64/",
        "/bin/coder-linux-amd64%00",
        "/bin/coder-plan9-mips",
        "/bin/coder-windows-amd64.exe.asc",
        "/bin/.",
        "/bin/..",
        "/bin/coder-linux-amd64.sha256.sha256",
        "/bin/%2Fetc%2Fpasswd",
        "/bin/coder-linux-arm64.sha256",
    ] {
        let got = get(&server, path);
        assert!((400..=404).contains(&got.status), "{path}: {}", got.status);
        assert!(!String::from_utf8_lossy(&got.body).contains('<'), "{path}: a page is no answer for a program");
    }
    let list = String::from_utf8(get(&server, "/bin/").body).unwrap();
    assert!(list.contains("/bin/coder-linux-amd64\"") && !list.contains("notes") && !list.contains("arm64"), "{list}");
    assert_eq!(ask(&server, "POST", "/bin/coder-linux-amd64", "Content-Length: 0\r\n").status, 405);
}

#[test]
fn serves_nothing_without_a_folder() {
    let rig = crate::cli::rig::Rig::empty();
    let server = rig.serve("");
    for path in ["/bin", "/bin/", "/bin/coder-linux-amd64", "/install.sh", "/enrol.sh", "/enrol.ps1"] {
        assert_eq!(get(&server, path).status, 404, "{path}");
    }
    drop(server);
    for (arguments, hint) in
        [("--bin-dir nosuch", "there is no folder nosuch"), ("--enrol-ca nosuch.pem", "nosuch.pem")]
    {
        let said = rig.run(&format!("serve --listen 127.0.0.1:0 {arguments}"));
        assert!(said.refused(1).contains(hint), "{}", said.err);
        rig.run(&format!("serve --check-config {arguments}")).refused(1);
    }
}

#[test]
fn waits_for_slow_clients_without_holding_the_file_in_memory() {
    let bytes = noise(LARGE);
    let (_rig, server) = serve(&[(program(), &bytes)], "--loops 1 --rpc-threads 1 --http-threads 1");
    get(&server, &format!("/bin/{}.sha256", program()));
    let before = resident(server.pid());
    let mut idle: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = connect(&server);
            write!(stream, "GET /bin/{} HTTP/1.1\r\nHost: moor\r\n\r\n", program()).unwrap();
            let mut first = [0; 1024];
            stream.read_exact(&mut first).unwrap();
            stream
        })
        .collect();
    // Everybody else is served meanwhile, by the one loop and the one worker that there are.
    for _ in 0..50 {
        assert_eq!(get(&server, "/healthz").status, 200);
    }
    let grown = resident(server.pid()).saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more for 8 clients that do not read {LARGE} bytes each");
    let mut rest = Vec::new();
    idle.pop().unwrap().read_to_end(&mut rest).unwrap();
    assert!(bytes.ends_with(&rest) && rest.len() > LARGE - 1024, "it goes on where the client takes more");
}

/// Resident memory of a process, KiB.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn sends_to_many_at_the_same_time() {
    let bytes = noise(2_000_000);
    let (_rig, server) = serve(&[(program(), &bytes)], "--rpc-threads 1");
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| assert!(get(&server, &format!("/bin/{}", program())).body == bytes));
        }
    });
}

#[test]
fn gives_one_address_a_share_of_the_downloads() {
    let (_rig, server) = serve(&[(program(), &noise(LARGE))], "--trusted-proxies 127.0.0.1");
    let begin = |address: &str| {
        let mut stream = connect(&server);
        let name = program();
        write!(stream, "GET /bin/{name} HTTP/1.1\r\nHost: moor\r\nX-Forwarded-For: {address}\r\n\r\n").unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        (stream, String::from_utf8_lossy(&first[9..]).into_owned())
    };
    let mut taken: Vec<_> = (0..limits::DOWNLOADS_PER_ADDRESS).map(|_| begin("192.0.2.1")).collect();
    assert!(taken.iter().all(|(_, status)| status == "200"));
    assert_eq!(begin("192.0.2.1").1, "503");
    assert_eq!(begin("192.0.2.2").1, "200");
    taken.pop();
    wait_for("the place to be free again", || (begin("192.0.2.1").1 == "200").then_some(()));
}

#[test]
fn ends_early_when_the_file_changes_rather_than_make_bytes_up() {
    let bytes = noise(LARGE);
    for change in ["shorter", "other"] {
        let (rig, server) = serve(&[(program(), &bytes)], "");
        let mut stream = connect(&server);
        write!(stream, "GET /bin/{} HTTP/1.1\r\nHost: moor\r\n\r\n", program()).unwrap();
        stream.read_exact(&mut [0; 4096]).unwrap();
        let file = rig.path("bin").join(program());
        match change {
            "shorter" => std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(10_000_000).unwrap(),
            _ => std::fs::write(&file, noise(LARGE + 1)).unwrap(),
        }
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        assert!(rest.len() < LARGE - 4096, "{change}: {} bytes, {end:?}", rest.len());
        wait_for("the reason in the log", || server.log().contains("a download was ended").then_some(()));
    }
}

#[test]
fn goes_on_with_the_old_file_when_a_new_one_takes_its_name() {
    let bytes = noise(LARGE);
    let (rig, server) = serve(&[(program(), &bytes)], "");
    let mut stream = connect(&server);
    write!(stream, "GET /bin/{} HTTP/1.1\r\nHost: moor\r\n\r\n", program()).unwrap();
    stream.read_exact(&mut [0; 4096]).unwrap();
    std::fs::write(rig.path("new"), b"new").unwrap();
    std::fs::rename(rig.path("new"), rig.path("bin").join(program())).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(bytes.ends_with(&rest));
    let after = get(&server, &format!("/bin/{}", program()));
    let tag = format!("\"{}\"", hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, b"new")));
    assert_eq!((after.body.as_slice(), after.header("ETag")), (&b"new"[..], Some(tag.as_str())));
}

#[test]
fn serves_old_http_an_empty_file_and_a_stopping_server() {
    let bytes = noise(LARGE);
    let (_rig, mut server) = serve(&[(program(), &bytes), ("coder-darwin-arm64", b"")], "");
    let mut stream = connect(&server);
    write!(stream, "GET /bin/{} HTTP/1.0\r\n\r\n", program()).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert!(all.ends_with(&bytes), "nginx asks with HTTP/1.0 unless it is told otherwise");
    let empty: Answer = get(&server, "/bin/coder-darwin-arm64");
    assert_eq!((empty.status, empty.body.len(), empty.header("Content-Length")), (200, 0, Some("0")));
    let mut stream = connect(&server);
    write!(stream, "GET /bin/{} HTTP/1.1\r\nHost: moor\r\n\r\n", program()).unwrap();
    stream.read_exact(&mut [0; 4096]).unwrap();
    let (code, took) = server.stop("TERM");
    assert!(code == Some(0) && took < Duration::from_secs(3), "{code:?} {took:?}");
}
