//! What a workspace's git is told about a stored token, against a plain read of the same size.

use std::time::Duration;

use crate::harness::http::Client;
use crate::harness::provider::Fake;
use crate::harness::{Server, link};
use crate::load;

const TIME: Duration = Duration::from_secs(4);
const TOKEN: &str = "/api/v2/workspaceagents/me/external-auth?id=gh";
/// Also the agent's own, also opened from its seal.
const PLAIN: &str = "/api/v2/workspaceagents/me/gitsshkey";

/// A server whose agent's owner is signed in at a provider with a token of this length.
fn site(length: usize) -> (Server, Fake, String) {
    let fake = Fake::start();
    let (server, agent) = link::linked_server(&fake, &link::token(&"t".repeat(length), "", None));
    (server, fake, agent)
}

fn get(path: &str, token: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\nCoder-Session-Token: {token}\r\n\r\n").into_bytes()
}

pub fn run() {
    let size = |server: &Server, agent: &str, path: &str| {
        let got = Client::connect(&server.address).unwrap().with_token(agent).get(path).unwrap();
        assert_eq!(got.status, 200);
        got.body.len()
    };
    // How much longer the token must be for answers of one size; it is the user name as well.
    let (server, fake, agent) = site(40);
    let (short, wanted) = (size(&server, &agent, TOKEN), size(&server, &agent, PLAIN));
    drop((server, fake));
    let (server, _fake, agent) = site(40 + wanted.saturating_sub(short) / 2);
    let (answer, plain) = (size(&server, &agent, TOKEN), size(&server, &agent, PLAIN));
    for connections in [1, 16] {
        let request = get(PLAIN, &agent);
        let baseline = load::run(&server.address, connections, TIME, move |_, _| request.clone());
        let request = get(TOKEN, &agent);
        let token = load::run(&server.address, connections, TIME, move |_, _| request.clone());
        println!("extauth plain read        {connections:>2} connections  {baseline}  ({plain} bytes)");
        println!(
            "extauth stored token      {connections:>2} connections  {token}  ({answer} bytes, {:.0} % of plain)",
            100.0 * token.per_second / baseline.per_second
        );
    }
}
