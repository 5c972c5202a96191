//! What a workspace's git is told about a stored token, against a plain read of the same size.

use std::time::Duration;

use moorline::model::UserId;
use moorline::ops::hub::Hub;
use moorline::store::{Options, Store, default_key_file};

use crate::harness::http::Client;
use crate::harness::provider::Fake;
use crate::harness::{Server, link, plugins};
use crate::load;

const TIME: Duration = Duration::from_secs(4);
const TOKEN: &str = "/api/v2/workspaceagents/me/external-auth?id=gh";
/// Also the agent's own, also opened from its seal.
const PLAIN: &str = "/api/v2/workspaceagents/me/gitsshkey";

/// A server whose agent's owner is signed in at a provider with a token of this length.
fn site(length: usize) -> (Server, Fake, String) {
    let fake = Fake::start();
    let mut server = Server::start();
    server.user("alice");
    let (_, agent) = server.workspace("alice", "dev");
    let users = server.verb(&["user", "list"]);
    let alice = users["users"].as_array().unwrap().iter().find(|user| user["name"] == "alice").unwrap()["id"].clone();
    server.terminate();
    let config = format!(
        "[[external_auth]]\nid = 'gh'\ntype = 'github'\nclient_id = 'c'\nclient_secret = 's'\nlibrary = '{}'\nproxy = ''\n\
         token_url = '{url}/login/oauth/access_token'\nvalidate_url = '{url}/user'\n\
         revoke_url = '{url}/revoke'\napp_installations_url = '{url}/user/installations'\n",
        plugins::library("moorline-oauth").display(),
        url = fake.url,
    );
    std::fs::write(server.dir().join("moorline.toml"), config).unwrap();
    let store = Store::open(Options {
        file: server.file(),
        key_file: default_key_file(&server.file()),
        create: false,
        readers: 1,
        hub: Hub::default(),
        allow_network_file_system: true,
    })
    .unwrap();
    let alice = UserId(alice.as_str().unwrap().parse().unwrap());
    link::put_into(&store, "gh", alice, &link::token(&"t".repeat(length), "", None));
    store.close();
    server.restart();
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
