//! Sub-agents over RPC.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use moorline::domain::tokens;
use moorline::model::AgentId;
use moorline::store::{agents, apps};
use moorline::streams::rpc;
use moorline::wire::proto::agent::*;
use moorline::wire::proto::methods;
use prost::Message;
use uuid::Uuid;

use super::agent::{Agent, Reply};
use super::driver::{Line, Server};

fn request(name: &str) -> CreateSubAgentRequest {
    CreateSubAgentRequest {
        name: name.into(),
        directory: "/workspaces/app".into(),
        architecture: "amd64".into(),
        operating_system: "linux".into(),
        display_apps: vec![0, 2, 2, 77],
        ..Default::default()
    }
}

#[test]
fn a_sub_agent_is_made_listed_and_removed() {
    let server = Server::start();
    let mut agent = server.connect();
    let app = |slug: &str| create_sub_agent_request::App { slug: slug.into(), ..Default::default() };
    let wanted = CreateSubAgentRequest { apps: vec![app("code"), app("Bad")], ..request("dc") };
    let made: CreateSubAgentResponse = agent.call(methods::CREATE_SUB_AGENT, &wanted);
    let child = made.agent.expect("the agent dereferences it");
    assert_eq!((made.app_creation_errors.len(), made.app_creation_errors[0].index), (1, 1));
    let id = AgentId::from_slice(&child.id).unwrap();
    let token = Uuid::from_slice(&child.auth_token).unwrap();
    let row = server.read(|conn| agents::by_token_hash(conn, &tokens::agent_token_hash(token))).unwrap();
    assert_eq!((row.id, row.parent_id, row.name.as_str()), (id, Some(server.agent), "dc"));
    assert_eq!(row.troubleshooting_url, "https://help.example.com");
    assert_eq!(row.display_apps, ["vscode", "web_terminal"]);
    assert!(server.read(|conn| apps::of_agent(conn, id))[0].slug.ends_with("-code"));

    let listed: ListSubAgentsResponse = agent.call(methods::LIST_SUB_AGENTS, &ListSubAgentsRequest {});
    assert_eq!(listed.agents, std::slice::from_ref(&child), "with the token, opened");

    let stream = rpc::agent(server.app.clone(), row, "2.6".into(), true, String::new());
    let mut sub = Agent::on(Line::open(stream));
    let manifest: Manifest = sub.call(methods::GET_MANIFEST, &GetManifestRequest {});
    assert_eq!(manifest.parent_id.as_deref(), Some(server.agent.as_bytes().as_slice()));
    let refused = sub.call_raw(methods::CREATE_SUB_AGENT, &request("nested").encode_to_vec());
    assert!(matches!(refused, Reply::Error(0, _)));

    let delete = DeleteSubAgentRequest { id: child.id };
    agent.call::<DeleteSubAgentResponse>(methods::DELETE_SUB_AGENT, &delete);
    assert_eq!(sub.until_closed().0, 1008, "its token stops working at once");
    assert!(server.read(|conn| agents::by_id(conn, id)).is_none());
    agent.call::<DeleteSubAgentResponse>(methods::DELETE_SUB_AGENT, &delete);
    let listed: ListSubAgentsResponse = agent.call(methods::LIST_SUB_AGENTS, &ListSubAgentsRequest {});
    assert_eq!(listed.agents, []);
}

#[test]
fn bad_names_and_strangers_are_refused() {
    let server = Server::start();
    let mut agent = server.connect();
    agent.call::<CreateSubAgentResponse>(methods::CREATE_SUB_AGENT, &request("Dev-1"));
    for name in ["", "-a", "a--b", "a_b", "main", "MAIN", "dev-1", &"x".repeat(65)] {
        let reply = agent.call_raw(methods::CREATE_SUB_AGENT, &request(name).encode_to_vec());
        assert!(matches!(reply, Reply::Error(0, _)), "{name}");
    }
    let stranger = DeleteSubAgentRequest { id: server.agent.as_bytes().to_vec() };
    let reply = agent.call_raw(methods::DELETE_SUB_AGENT, &stranger.encode_to_vec());
    assert!(matches!(reply, Reply::Error(0, _)), "an agent cannot remove itself");
    assert_eq!(agent.closed, None);
}

#[test]
fn a_sub_agent_made_beforehand_is_activated_by_its_id() {
    let server = Server::start();
    let mut agent = server.connect();
    let made: CreateSubAgentResponse = agent.call(methods::CREATE_SUB_AGENT, &request("dc"));
    let child = made.agent.unwrap();
    let again = CreateSubAgentRequest { id: Some(child.id.clone()), ..request("ignored") };
    let found: CreateSubAgentResponse = agent.call(methods::CREATE_SUB_AGENT, &again);
    assert_eq!(found.agent, Some(child));
    let unknown = CreateSubAgentRequest { id: Some(vec![5; 16]), ..request("dc2") };
    assert!(matches!(agent.call_raw(methods::CREATE_SUB_AGENT, &unknown.encode_to_vec()), Reply::Error(0, _)));
}
