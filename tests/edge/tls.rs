//! TLS: handshakes, reloading certificates, and the same HTTP and streams inside.

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moorline::edge::Reason;
use moorline::edge::tls::Tls;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::rig::{Client, PATIENCE, Plan, Rig, eventually};

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// Writes a new self-signed certificate and gives its DER form.
    fn renew(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(vec!["moor.test".into()]).unwrap();
        std::fs::write(self.certificate(), made.cert.pem()).unwrap();
        std::fs::write(self.key(), made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }
}

fn rig() -> (Rig, Files, CertificateDer<'static>) {
    let files = Files { folder: tempfile::tempdir().unwrap() };
    let certificate = files.renew();
    let tls = Tls::load(&files.certificate(), &files.key()).unwrap();
    (Rig::start(Plan { tls: Some(tls), ..Plan::default() }), files, certificate)
}

type TlsClient = Client<StreamOwned<ClientConnection, TcpStream>>;

fn connect_with(
    rig: &Rig,
    root: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
    protocols: &[&str],
) -> std::io::Result<TlsClient> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let session = ClientConnection::new(Arc::new(config), ServerName::try_from("moor.test").unwrap()).unwrap();
    let socket = TcpStream::connect(rig.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut stream = StreamOwned::new(session, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Client { socket: stream, buffer: Vec::new() })
}

fn connect(rig: &Rig, root: &CertificateDer<'static>) -> std::io::Result<TlsClient> {
    connect_with(rig, root, &rustls::version::TLS13, &["http/1.1"])
}

#[test]
fn speaks_both_versions_and_http_inside() {
    let (rig, _files, root) = rig();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = connect_with(&rig, &root, version, &["h2", "http/1.1"]).unwrap();
        assert_eq!(client.socket.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        let body = "z".repeat(1_000_000);
        client.send(format!("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        assert_eq!(client.answer().body.len(), body.len() + 8);
        client.send(
            "GET /big?3000000 HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        );
        assert_eq!(client.answer().body.len(), 3_000_000);
        assert_eq!(client.answer().body, "GET /b");
        client.expect_end();
    }
    assert!(rig.desk.seen().iter().all(|seen| seen.header("X-Moorline-Scheme") == Some("https")));
    assert_eq!(rig.counters().refused(Reason::Tls), 0);
}

#[test]
fn refuses_who_speaks_only_http2_or_no_tls() {
    let (rig, _files, root) = rig();
    assert!(connect_with(&rig, &root, &rustls::version::TLS13, &["h2"]).is_err());
    let mut plain = rig.client();
    plain.socket.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    while plain.more() {}
    assert!(!plain.buffer.starts_with(b"HTTP"));
    eventually("both are counted", || rig.counters().refused(Reason::Tls) == 2);
    assert_eq!(rig.desk.seen().len(), 0);
}

#[test]
fn a_new_certificate_is_taken_without_a_restart_and_a_bad_one_is_not() {
    let (rig, files, first) = rig();
    let edge = rig.edge.as_ref().unwrap();
    let mut old = connect(&rig, &first).unwrap();
    assert!(!edge.reload_tls().unwrap(), "nothing is new");

    let second = files.renew();
    assert!(edge.reload_tls().unwrap());
    assert!(connect(&rig, &first).is_err());
    assert!(connect(&rig, &second).is_ok());
    old.send("GET /old HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(old.answer().body, "GET /old");

    let break_with = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
    break_with(&files.certificate(), "not a certificate");
    assert!(edge.reload_tls().unwrap_err().to_string().contains("cert.pem"));
    assert!(!edge.reload_tls().unwrap(), "it is said once");
    let half = files.renew();
    let key = std::fs::read_to_string(files.key()).unwrap();
    files.renew();
    break_with(&files.key(), &key);
    assert!(edge.reload_tls().is_err(), "key and certificate do not fit");
    std::fs::remove_file(files.key()).unwrap();
    assert!(edge.reload_tls().is_err());
    assert!(connect(&rig, &half).is_err());
    assert!(connect(&rig, &second).is_ok(), "the last good one is still served");

    let third = files.renew();
    assert!(edge.reload_tls().unwrap());
    assert!(connect(&rig, &third).is_ok());
}

#[test]
fn bad_files_are_refused_at_start() {
    let files = Files { folder: tempfile::tempdir().unwrap() };
    assert!(Tls::load(&files.certificate(), &files.key()).is_err());
    files.renew();
    std::fs::write(files.certificate(), "").unwrap();
    assert!(Tls::load(&files.certificate(), &files.key()).is_err());
}

#[test]
fn a_handshake_that_never_ends_is_dropped() {
    let files = Files { folder: tempfile::tempdir().unwrap() };
    files.renew();
    let limits = moorline::edge::Limits { head_deadline: std::time::Duration::from_millis(150), ..Default::default() };
    let tls = Tls::load(&files.certificate(), &files.key()).unwrap();
    let rig = Rig::start(Plan { tls: Some(tls), limits, ..Plan::default() });
    let mut client = rig.client();
    client.send([0x16, 3, 1, 1, 0]);
    while client.more() {}
    eventually("it is gone", || rig.counters().open == 0);
}
