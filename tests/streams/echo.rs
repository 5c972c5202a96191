//! The WebSocket that sends back what it gets.

use std::time::Duration;

use moorline::streams::echo;

use super::driver::{BINARY, Frame, Line, Server, TEXT, frames, masked};

fn echoing(server: &Server) -> Line {
    let mut line = Line::open(echo::echo(server.app.clone(), server.visitor()));
    // The look at the session.
    assert!(line.letter());
    line
}

#[test]
fn sends_back_what_it_gets_until_the_client_is_quiet() {
    let server = Server::start();
    let mut line = echoing(&server);
    line.feed(&masked(TEXT, b"hello"));
    line.pass(Duration::from_secs(9));
    line.feed(&masked(BINARY, &[0, 255]));
    assert_eq!(frames(&line.take()), [Frame::Text("hello".into()), Frame::Binary(vec![0, 255])]);
    line.pass(Duration::from_secs(9));
    assert!(!line.out.finish);
    line.pass(Duration::from_secs(2));
    assert_eq!(frames(&line.take()), [Frame::Close(1001, "goodbye".into())]);
    assert!(line.out.finish);
}

#[test]
fn ends_with_the_session_the_server_and_clients_that_do_not_read() {
    let server = Server::start();
    let mut line = echoing(&server);
    line.shutdown();
    assert_eq!(frames(&line.take()), [Frame::Close(1012, "the server is restarting".into())]);

    let mut line = echoing(&server);
    line.stalled = true;
    for _ in 0..20 {
        line.feed(&masked(BINARY, &[7; 32 * 1024]));
    }
    assert_eq!(frames(&line.take()).last(), Some(&Frame::Close(1008, "what was sent back is not read".into())));

    let mut line = echoing(&server);
    server.revoke();
    assert!(line.letter() && line.letter());
    assert_eq!(frames(&line.take()), [Frame::Close(1008, "the session has ended".into())]);
}
