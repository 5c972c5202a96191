//! The whole server with a plugin that does everything wrong: it stays up, holds no more than before, and the others work.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::cc;
use crate::harness::http::Client;
use crate::harness::{Server, until};

/// The server's processes: number and state, `Z` for zombies.
fn children(server: &Server) -> BTreeMap<u32, String> {
    let mut found = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap() {
        let text = fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        for pid in text.split_whitespace().map(|child| child.parse::<u32>().unwrap()) {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).unwrap_or("gone");
            found.insert(pid, state.to_owned());
        }
    }
    found
}

fn count(server: &Server, what: &str) -> usize {
    fs::read_dir(format!("/proc/{}/{what}", server.pid())).unwrap().count()
}

/// What the server makes of a body: the status, and message and detail.
fn sign_in(server: &Server, cloud: &str, body: &Value) -> (u16, String) {
    let mut client = Client::connect(&server.address).unwrap();
    let got =
        client.request("POST", &format!("/api/v2/workspaceagents/{cloud}-instance-identity"), Some(body)).unwrap();
    let said = got.json();
    (got.status, format!("{} {}", said["message"].as_str().unwrap(), said["detail"].as_str().unwrap_or_default()))
}

/// Has the odd plugin do what the document says.
fn odd(server: &Server, document: &str) -> (u16, String) {
    sign_in(server, "aws", &json!({"document": document, "signature": "x"}))
}

fn others_are_fine(server: &Server) {
    assert_eq!(Client::connect(&server.address).unwrap().get("/healthz").unwrap().status, 200);
    for (cloud, body) in
        [("google", json!({"json_web_token": "x"})), ("azure", json!({"signature": "x", "encoding": "pkcs7"}))]
    {
        // In the words of the plugin, which knows Amazon's members only.
        let (status, said) = sign_in(server, cloud, &body);
        assert_eq!((status, said.contains("A member is missing.")), (400, true), "{said}");
    }
}

#[test]
fn a_crashing_plugin_leaves_the_server_as_it_was() {
    let mut server = Server::start();
    server.terminate();
    let good = cc::library("identity", "");
    let config = format!(
        "[[identity]]\nid = 'odd'\ntype = 'aws'\nlibrary = '{}'\n\
         [[identity]]\nid = 'blue'\ntype = 'azure'\nlibrary = '{good}'\n\
         [[identity]]\nid = 'many'\ntype = 'google'\nlibrary = '{good}'\n",
        cc::library("odd", "").display(),
        good = good.display()
    );
    fs::write(server.dir().join("moorline.toml"), config).unwrap();
    server.restart();
    assert!(children(&server).is_empty(), "none is started until it is used");
    others_are_fine(&server);
    let proved = |said: &(u16, String)| said.0 == 404;
    let (status, said) = odd(&server, "echo");
    assert_eq!((status, said.contains("i-odd")), (404, true), "{said}");
    let before = until("the server is at rest", || (children(&server).len() == 3).then(|| count(&server, "fd")));
    let threads = count(&server, "task");
    for document in ["segfault", "abort", "exit", "forge_huge", "forge_closed"] {
        let (status, said) = odd(&server, document);
        assert_eq!(status, 502, "{document}: {said}");
        assert!(said.starts_with("The AWS identity cannot be checked at present; try again."), "{said}");
        assert!(!said.contains(".so"), "{said}");
        others_are_fine(&server);
        until("the plugin is back", || proved(&odd(&server, "echo")).then_some(()));
        assert!(server.log().contains(&format!("provider odd is down: {}", cc::library("odd", "").display())));
    }
    // Lines of log are one line each, whatever is in them.
    odd(&server, "bad_pointers");
    until("the line of log", || server.log().contains("plugin of provider odd: a line and a second [2J").then_some(()));
    until("nothing is left of the ended processes", || {
        let now = children(&server);
        let all_live = now.len() == 3 && now.values().all(|state| state != "Z");
        (all_live && count(&server, "fd") <= before && count(&server, "task") <= threads).then_some(())
    });
    let (code, _) = server.terminate();
    assert_eq!(code, Some(0));
}
