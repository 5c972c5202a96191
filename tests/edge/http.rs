//! Ordinary HTTP/1.1: keep-alive, pipelining, expectations, old clients, proxies, the admin socket.

use std::os::unix::net::UnixStream;

use super::rig::{Client, Plan, Rig, SECRET};

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

#[test]
fn answers_one_request_after_the_other_on_a_connection() {
    let rig = Rig::plain();
    let mut client = rig.client();
    for index in 0..50 {
        client.send(get(&format!("/{index}")));
        let answer = client.answer();
        assert_eq!((answer.status, answer.body), (200, format!("GET /{index}")));
    }
    assert_eq!(rig.counters().accepted, 1);
}

#[test]
fn answers_pipelined_requests_in_order() {
    let rig = Rig::plain();
    let mut client = rig.client();
    let mut all = String::new();
    for index in 0..100 {
        match index % 3 {
            0 => all += &get(&format!("/{index}")),
            1 => all += &format!("POST /{index} HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"),
            _ => {
                all += &format!(
                    "PUT /{index} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n"
                )
            }
        }
    }
    client.send(all);
    for index in 0..100 {
        let expected = match index % 3 {
            0 => format!("GET /{index}"),
            1 => format!("POST /{index} abc"),
            _ => format!("PUT /{index} xyz"),
        };
        assert_eq!(client.answer().body, expected);
    }
}

#[test]
fn answers_a_client_that_sends_byte_by_byte() {
    let rig = Rig::plain();
    let mut client = rig.client();
    for byte in format!("\r\nPOST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok{}", get("/next")).as_bytes()
    {
        client.send([*byte]);
    }
    assert_eq!(client.answer().body, "POST /slow ok");
    assert_eq!(client.answer().body, "GET /next");
}

#[test]
fn answers_a_client_that_has_ended_its_direction() {
    let rig = Rig::plain();
    let mut client = rig.client();
    client.send(get("/a"));
    client.socket.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.answer().body, "GET /a");
    client.expect_end();
    let mut client = rig.client();
    client.send("GET /big?3000000 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    client.socket.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.answer().body.len(), 3_000_000);
    client.expect_end();
}

#[test]
fn asks_for_the_body_only_when_it_will_take_it() {
    let rig = Rig::plain();
    let mut client = rig.client();
    client.send("POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hi");
    assert_eq!(client.answer().body, "POST /a hi");
    // Who does not wait is not told to go on.
    client.send("POST /b HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.answer().body, "POST /b hi");
    client.send("POST /c HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n");
    assert_eq!(client.answer().status, 413);
    client.expect_end();
    assert!(rig.desk.seen().iter().all(|seen| seen.header("Expect").is_none()));
}

#[test]
fn closes_when_the_client_asks_for_it() {
    let rig = Rig::plain();
    let mut client = rig.client();
    client.send("GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.header("Connection"), Some("close"));
    client.expect_end();
}

#[test]
fn serves_old_clients() {
    let rig = Rig::plain();
    let mut client = rig.client();
    client.send("GET /endless-length HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.header("Connection"), answer.body.as_str()), (Some("keep-alive"), "chunks"));
    client.send("GET /b HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n!");
    assert_eq!(client.answer().body, "GET /b !");
    client.expect_end();
    assert!(rig.desk.seen().iter().all(|seen| seen.header("X-Moorline-Http") == Some("1.0")));
}

#[test]
fn sends_no_body_to_head_and_with_204() {
    let rig = Rig::plain();
    let mut client = rig.client();
    client.send("HEAD /abc HTTP/1.1\r\nHost: h\r\n\r\n");
    let answer = client.answer_to(true);
    assert_eq!(answer.header("Content-Length"), Some("9"));
    client.send("HEAD /endless-length HTTP/1.1\r\nHost: h\r\n\r\n");
    client.answer_to(true);
    client.send(get("/nothing"));
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("Content-Length")), (204, None));
    client.send(get("/after"));
    assert_eq!(client.answer().body, "GET /after");
}

#[test]
fn relays_large_answers_whole() {
    let rig = Rig::plain();
    let mut client = rig.client();
    for size in [1_000, 33_000, 5_000_000] {
        client.send(get(&format!("/big?{size}")));
        let answer = client.answer();
        assert_eq!(answer.header("Content-Length"), Some(size.to_string().as_str()));
        assert!(answer.body.len() == size && answer.body.bytes().all(|byte| byte == b'x'));
    }
}

#[test]
fn relays_large_bodies_whole() {
    let rig = Rig::plain();
    let mut client = rig.client();
    let body = "z".repeat(1_048_576);
    client.send(format!("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert_eq!(client.answer().body, format!("POST /a {body}"));
    client.send(get("/next"));
    assert_eq!(client.answer().body, "GET /next");
}

#[test]
fn answers_what_concerns_the_server_as_a_whole_itself() {
    let rig = Rig::plain();
    let mut client = rig.client();
    client.send("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    client.send("GET http://H/abs?x HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.answer().body, "GET /abs?x");
    client.send("brew /tea HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.answer().body, "brew /tea");
    assert_eq!(rig.desk.seen().len(), 2);
}

#[test]
fn clients_cannot_speak_for_the_edge() {
    let rig = Rig::plain();
    let answer = rig.ask(
        "GET /headers HTTP/1.1\r\nHost: h\r\nX-Moorline-Secret: guess\r\nx-moorline-operator: root\r\n\
         X-MOORLINE-PEER: 6.6.6.6\r\nX-Moorline-Anything: x\r\nX-Forwarded-For: 6.6.6.6\r\n\
         X-Forwarded-Proto: https\r\nX-Other: stays\r\nTE: trailers\r\nKeep-Alive: 1\r\nConnection: x-hop\r\n\
         X-Hop: 1\r\n\r\n",
    );
    assert_eq!(answer.header("X-Moorline-Internal"), None);
    assert_eq!(answer.header("X-Kept"), Some("kept"));
    assert_eq!(answer.header("Server"), None);
    let seen = rig.desk.seen().remove(0);
    let count = |name: &str| seen.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name)).count();
    assert_eq!((seen.header("X-Moorline-Secret"), count("X-Moorline-Secret")), (Some(SECRET), 1));
    assert_eq!((seen.header("X-Moorline-Peer"), count("X-Moorline-Peer")), (Some("127.0.0.1"), 1));
    assert_eq!(seen.header("X-Moorline-Scheme"), Some("http"));
    assert_eq!(seen.header("X-Other"), Some("stays"));
    for gone in ["X-Moorline-Operator", "X-Moorline-Anything", "TE", "Keep-Alive", "Connection", "X-Hop"] {
        assert_eq!(count(gone), 0, "{gone}");
    }
}

#[test]
fn trusted_proxies_say_who_the_client_is() {
    let range = moorline::config::IpRange { base: "127.0.0.0".parse().unwrap(), bits: 8 };
    let rig = Rig::start(Plan { trusted: vec![range], ..Plan::default() });
    rig.ask(
        "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6, 9.9.9.9, 127.0.0.5\r\nX-Forwarded-Proto: https\r\n\r\n",
    );
    let seen = rig.desk.seen().remove(0);
    assert_eq!(seen.header("X-Moorline-Peer"), Some("9.9.9.9"));
    assert_eq!(seen.header("X-Moorline-Scheme"), Some("https"));
}

#[test]
fn the_admin_socket_tells_who_is_there() {
    let rig = Rig::start(Plan { admin: true, ..Plan::default() });
    let socket = UnixStream::connect(rig.admin.as_ref().unwrap()).unwrap();
    socket.set_read_timeout(Some(super::rig::PATIENCE)).unwrap();
    let mut client = Client { socket, buffer: Vec::new() };
    client.send("GET /a HTTP/1.1\r\nHost: h\r\nX-Moorline-Operator: somebody\r\n\r\n");
    assert_eq!(client.answer().body, "GET /a");
    let seen = rig.desk.seen().remove(0);
    let operators: Vec<&str> = seen
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("X-Moorline-Operator"))
        .map(|(_, value)| value.as_str())
        .collect();
    assert!(operators.len() == 1 && operators[0] != "somebody" && !operators[0].is_empty(), "{operators:?}");
    assert_eq!(seen.header("X-Moorline-Peer"), Some(""));
}

#[test]
fn headers_that_are_not_ascii_do_not_break_the_way_to_the_workers() {
    let rig = Rig::plain();
    let answer = rig.ask("GET /a HTTP/1.1\r\nHost: h\r\nCookie: a=caf\u{e9}; b=2\r\n\r\n");
    assert_eq!(answer.body, "GET /a");
    assert_eq!(rig.desk.seen()[0].header("Cookie"), Some("a=caf??; b=2"));
}
