//! What a plugin's HTTP request may be, and what comes back, with servers that are up to no good.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::spawn;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::cc;
use super::rig::{Rig, identity};

/// A server that gives every connection these bytes, after a pause, and counts the connections.
fn server(answer: Vec<u8>, pause: Duration) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::Relaxed);
            let (Ok(mut stream), answer) = (stream, answer.clone()) else { continue };
            spawn(move || {
                let _ = stream.read(&mut [0; 16 * 1024]);
                std::thread::park_timeout(pause);
                let _ = stream.write_all(&answer);
            });
        }
    });
    (place, count)
}

/// The plugin may ask these places in the clear.
fn rig(places: &[&str]) -> Rig {
    let mut odd = identity("odd", &cc::library("odd", ""));
    let named = places.iter().enumerate().map(|(at, place)| (format!("url{at}"), json!(format!("http://{place}/"))));
    odd.settings = Value::Object(named.collect());
    Rig::new([odd])
}

/// The status of the host's function, and the reply.
fn fetch(rig: &Rig, request: &Value) -> (i64, Value) {
    let said = rig.call("odd", "fetch", request).unwrap();
    (said["status"].as_i64().unwrap(), said["reply"].clone())
}

const OK: i64 = 0;
const REFUSED: i64 = 1;
const UNAVAILABLE: i64 = 2;
const INVALID: i64 = 3;

#[test]
fn redirects_are_handed_back_and_lead_nowhere() {
    let (elsewhere, asked_elsewhere) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(), Duration::ZERO);
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/secret\r\nContent-Length: 2\r\n\r\nhi");
    let (place, asked) = server(redirect.into_bytes(), Duration::ZERO);
    let rig = rig(&[&place]);
    let (status, reply) = fetch(&rig, &json!({"method": "GET", "url": format!("http://{place}/")}));
    assert_eq!((status, reply["status"].as_i64()), (OK, Some(302)), "{reply}");
    assert_eq!(reply["body"], STANDARD.encode("hi"));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let (status, reply) = fetch(&rig, &json!({"method": "GET", "url": format!("http://{elsewhere}/secret")}));
    assert_eq!((status, reply["code"].as_str()), (REFUSED, Some("egress")));
    assert_eq!(asked_elsewhere.load(Ordering::Relaxed), 0);
}

#[test]
fn an_address_is_allowed_as_it_is_written_and_in_no_other_way() {
    let (place, asked) = server(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), Duration::ZERO);
    let port = place.rsplit(':').next().unwrap();
    let rig = rig(&[&place]);
    let get = |url: &str| fetch(&rig, &json!({"method": "GET", "url": url}));
    for host in ["127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]", "localhost", "127.0.0.1.", "127.0.0.2"] {
        let (status, reply) = get(&format!("http://{host}:{port}/"));
        // What is no host by the rules of URLs is not even looked up in the list.
        assert!(matches!(status, REFUSED | INVALID), "{host}: {status} {reply}");
    }
    for url in [
        &format!("http://user@{place}/"),
        &format!("http://{place}@evil.example/"),
        &format!("//{place}/"),
        &format!("ftp://{place}/"),
        &format!("http://{place}/ HTTP/1.1\r\nX: y\r\n\r\nGET /"),
        &format!("http://{place}\r\n/"),
        "file:///etc/passwd",
        "",
    ] {
        assert_eq!(get(url).0, INVALID, "{url}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert_eq!(get(&format!("HTTP://{place}/")).0, OK);
    // Each that had an address is on record, also those that did not leave.
    let rows: Vec<(String, i64)> = rig
        .app
        .store
        .read(|conn| {
            conn.prepare("SELECT fault, count(*) FROM egress GROUP BY fault ORDER BY fault")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()
                .map_err(moorline::store::Error::from)
        })
        .unwrap();
    assert!(rows.iter().any(|(fault, count)| fault == "egress" && *count >= 5), "{rows:?}");
}

#[test]
fn no_second_request_hides_in_the_first() {
    let (place, asked) = server(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), Duration::ZERO);
    let rig = rig(&[&place]);
    let url = format!("http://{place}/");
    for headers in [
        json!([["X", "a\r\nHost: evil"]]),
        json!([["X\r\nY", "a"]]),
        json!([["Host", "evil"]]),
        json!([["content-length", "0"]]),
        json!([["Transfer-Encoding", "chunked"]]),
        json!([["", "a"]]),
        json!([["a b", "c"]]),
    ] {
        let (status, reply) = fetch(&rig, &json!({"method": "POST", "url": url, "headers": headers, "body": "eA=="}));
        assert_eq!(status, INVALID, "{headers}: {reply}");
    }
    for method in ["CONNECT", "TRACE", "GET /x HTTP/1.1\r\nX:", "post", ""] {
        assert_eq!(fetch(&rig, &json!({"method": method, "url": url})).0, INVALID, "{method}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.resize(3 * 1024 * 1024, b'x');
    let (large, _) = server(endless, Duration::ZERO);
    let mut heads = b"HTTP/1.1 200 OK\r\n".to_vec();
    (0..5_000).for_each(|number| heads.extend_from_slice(format!("X-{number}: {}\r\n", "y".repeat(50)).as_bytes()));
    heads.extend_from_slice(b"\r\n");
    let (heads, _) = server(heads, Duration::ZERO);
    let (slow, _) = server(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), Duration::from_secs(5));
    let (noise, _) = server(vec![0xff; 4_096], Duration::ZERO);
    let rig = rig(&[&large, &heads, &slow, &noise]);
    let get =
        |place: &str| fetch(&rig, &json!({"method": "GET", "url": format!("http://{place}/"), "timeout_ms": 1_000}));
    let (status, reply) = get(&large);
    assert_eq!((status, reply["code"].as_str()), (UNAVAILABLE, Some("too_large")));
    assert_eq!(get(&heads).0, UNAVAILABLE);
    assert_eq!(get(&noise).0, UNAVAILABLE);
    let begun = Instant::now();
    let (status, reply) = get(&slow);
    assert_eq!((status, reply["code"].as_str()), (UNAVAILABLE, Some("timeout")));
    assert!(begun.elapsed() < Duration::from_secs(4));
}

/// Calls and answers of services go down one socket: large ones of both kinds at once must each arrive whole.
#[test]
fn large_calls_and_large_answers_do_not_mix() {
    const BODY: usize = 700 * 1024;
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + BODY, b'x');
    let (place, _) = server(answer, Duration::ZERO);
    let rig = rig(&[&place]);
    let fetch_large = || {
        let (status, reply) = fetch(&rig, &json!({"method": "GET", "url": format!("http://{place}/")}));
        assert_eq!((status, reply["body"].as_str().unwrap().len()), (OK, BODY.div_ceil(3) * 4));
    };
    let call_large = || {
        let request = json!({"padding": "x".repeat(2 * 1024 * 1024)});
        assert_eq!(rig.call("odd", "echo", &request).unwrap(), json!({"instance_id": "i-odd"}));
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..8).for_each(|_| fetch_large()));
            scope.spawn(|| (0..8).for_each(|_| call_large()));
        }
    });
    assert_eq!(rig.status("odd").failures, 0);
}
