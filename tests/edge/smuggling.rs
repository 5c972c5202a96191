//! Requests that two parsers could read differently: each is refused, the connection is closed, and
//! nothing of what came along reaches the application.

use super::rig::Rig;

/// What an attacker hides behind the first request.
const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

fn assert_refused(rig: &Rig, request: &[u8], status: u16) {
    let name = String::from_utf8_lossy(request).into_owned();
    let mut client = rig.client();
    client.send([request, HIDDEN.as_bytes()].concat());
    let answer = client.answer();
    assert_eq!(answer.status, status, "{name:?}: {answer:?}");
    assert_eq!(answer.header("Connection"), Some("close"), "{name:?}");
    assert_eq!(answer.header("Content-Type"), Some("application/json; charset=utf-8"), "{name:?}");
    assert_eq!(answer.header("X-Coder-Build-Version"), Some("v2.24.0"), "{name:?}");
    assert!(answer.header("X-Coder-Request-Id").is_some() && answer.header("Server").is_none(), "{name:?}");
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert!(body["message"].as_str().unwrap().ends_with('.'), "{name:?}");
    client.expect_end();
    assert_eq!(rig.desk.seen().len(), 0, "{name:?} reached the application: {:?}", rig.desk.seen());
}

#[test]
fn refuses_every_ambiguous_framing() {
    let rig = Rig::plain();
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 0\r\nContent-Length: 37",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Content-Length: 5x",
        "Content-Length: 5 5",
        "Content-Length: 5\t5",
        "Content-Length:",
        "Content-Length: ",
        "Content-Length: \"5\"",
        "Content-Length: 18446744073709551616",
        "Content-Length: 99999999999999999999999999",
        "Content-Length : 5",
        "Content-Length\t: 5",
        " Content-Length: 5",
        "Content-Length: 5\0",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nContent-Length: 5",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:\u{b}chunked",
        "Transfer-Encoding: \u{c}chunked",
        "Transfer-Encoding: chunked\u{b}",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: 'chunked'",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunke",
        "Transfer-Encoding:",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\r\n chunked",
        "X: a\r\n Transfer-Encoding: chunked",
        "X: a\r\n\tfolded",
        "X: a\nTransfer-Encoding: chunked",
        "X: a\rTransfer-Encoding: chunked",
        "X: a\n\nTransfer-Encoding: chunked",
        "X: a\r\r\nTransfer-Encoding: chunked",
        "X: a\u{1}b",
        "X: a\u{7f}b",
        "X: a\0b",
        "X\0: a",
        "X(: a",
        "\u{e9}: a",
        ": a",
        "nothing",
        "Host: h",
        "Host: other",
    ] {
        assert_refused(&rig, format!("POST /first HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n").as_bytes(), 400);
    }
}

#[test]
fn refuses_every_malformed_request_line_and_host() {
    let rig = Rig::plain();
    let cases: &[(&[u8], u16)] = &[
        (b"GET /a HTTP/1.1\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: user@a\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: a?b\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: a:port\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: caf\xc3\xa9\r\n\r\n", 400),
        (b"GET /a HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET http://other/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET http://h@other/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET http:/h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET file://h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET  /a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /a  HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /a HTTP/1.1 \r\nHost: h\r\n\r\n", 400),
        (b"GET\t/a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b" GET /a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"G(T /a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /a\r\n\r\n", 400),
        (b"GET /a http/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /a HTTP/1.10\r\nHost: h\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\nHost: h\n\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: h\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: h\r\n\n", 400),
        (b"\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 405),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /a HTTP/1.2\r\nHost: h\r\n\r\n", 505),
        (b"GET /a HTTP/0.9\r\nHost: h\r\n\r\n", 505),
        (b"GET /a HTTP/3.0\r\nHost: h\r\n\r\n", 505),
        (b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nHost: h\r\nExpect: magic\r\nContent-Length: 5\r\n\r\n", 417),
        (b"OPTIONS * HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n", 400),
    ];
    for (request, status) in cases {
        assert_refused(&rig, request, *status);
    }
}

#[test]
fn refuses_every_malformed_chunk() {
    let rig = Rig::plain();
    let long = "x".repeat(300);
    for chunks in [
        "\r\n",
        "+1\r\na\r\n0\r\n\r\n",
        "-1\r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        " 1\r\na\r\n0\r\n\r\n",
        "1 \r\na\r\n0\r\n\r\n",
        "1\na\n0\n\n",
        "1\r\na\n0\r\n\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "10000000000000000\r\n",
        "00000000000000001\r\na\r\n",
        "g\r\n",
        "1;a\nb\r\n",
        "1;\0\r\n",
        &format!("1;{long}\r\n"),
        "0\r\n folded\r\n\r\n",
        "0\r\nX: a\nY: b\r\n\r\n",
        "0\r\n\n",
    ] {
        let request = format!("POST /first HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        assert_refused(&rig, request.as_bytes(), 400);
    }
    let large = "POST /first HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n";
    assert_refused(&rig, large.as_bytes(), 413);
}

#[test]
fn refuses_them_just_the_same_byte_by_byte() {
    let rig = Rig::plain();
    for request in [
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\n",
        "GET /a HTTP/1.1\r\nHost: h\r\n folded",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab",
    ] {
        let mut client = rig.client();
        for byte in request.as_bytes() {
            client.send([*byte]);
        }
        assert_eq!(client.answer().status, 400, "{request:?}");
        client.expect_end();
    }
    assert_eq!(rig.desk.seen().len(), 0);
}

#[test]
fn what_follows_a_body_is_the_next_request_and_nothing_else() {
    let rig = Rig::plain();
    let mut client = rig.client();
    client.send(format!("POST /one HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab{HIDDEN}"));
    assert_eq!(client.answer().body, "POST /one ab");
    assert_eq!(client.answer().body, "GET /smuggled");
    client.send(format!(
        "POST /two HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
         1;ext=\"0\"\r\nc\r\n00\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\n\r\n{HIDDEN}"
    ));
    assert_eq!(client.answer().body, "POST /two c");
    assert_eq!(client.answer().body, "GET /smuggled");
    let two = rig.desk.seen().into_iter().find(|seen| seen.line == "POST /two").unwrap();
    assert_eq!(two.header("Content-Length"), Some("1"));
    assert_eq!(two.header("Transfer-Encoding"), None);
}
