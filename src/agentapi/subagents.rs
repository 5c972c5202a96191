//! Sub-agents: one per dev container, declared by the agent that runs it.

use std::collections::HashSet;

use prost::Message;
use ring::digest::{SHA256, digest};

use super::{Reply, Session, cut, decode, write};
use crate::config::limits::{REPORTED_TEXT_BYTES, SUB_AGENT_APPS, SUB_AGENTS};
use crate::domain::{Error, Fault, tokens};
use crate::model::{AgentId, AppId, Timestamp, WorkspaceId};
use crate::ops::hub::Topic;
use crate::store::agents::{self, Agent};
use crate::store::apps::{self, App, Health};
use crate::store::audit::{self, Actor, Entry, Verdict};
use crate::store::{Sealer, Write};
use crate::wire::proto::agent::create_sub_agent_request::{self, DisplayApp, app};
use crate::wire::proto::agent::create_sub_agent_response::AppCreationError;
use crate::wire::proto::agent::{
    CreateSubAgentRequest, CreateSubAgentResponse, DeleteSubAgentRequest, DeleteSubAgentResponse, ListSubAgentsRequest,
    ListSubAgentsResponse, SubAgent,
};

/// Longest name, bytes; the column's limit.
const NAME_BYTES: usize = 64;
/// Longest slug before its hash is put in front, bytes.
const SLUG_BYTES: usize = 64;

/// Makes a sub-agent below the caller. Errors are logged by the agent and cost it the container only.
pub(super) fn create(session: &Session, body: &[u8], reply: Reply) {
    let request: CreateSubAgentRequest = match decode(body) {
        Ok(request) => request,
        Err(error) => return reply(Err(error)),
    };
    if session.parent.is_some() {
        return reply(Err(Error::new(Fault::Forbidden, "A sub-agent cannot have sub-agents of its own.")));
    }
    let (app, parent, caller) = (session.app.clone(), session.agent, caller(session));
    write(session, reply, None, move |write| {
        let sealer = app.store.sealer();
        match &request.id {
            Some(id) => {
                let child = child(write, parent, id)?.ok_or_else(|| {
                    Error::new(Fault::NotFound, "The agent has no sub-agent with this id to be activated.")
                })?;
                let agent = Some(describe(sealer, &child)?);
                Ok(CreateSubAgentResponse { agent, app_creation_errors: Vec::new() })
            }
            None => insert(write, sealer, parent, request, &caller),
        }
    });
}

/// The caller's sub-agents with their tokens, so that it can start them again.
pub(super) fn list(session: &Session, body: &[u8]) -> Result<Vec<u8>, Error> {
    decode::<ListSubAgentsRequest>(body)?;
    let store = &session.app.store;
    let children = store.read(|conn| Ok::<_, Error>(agents::of_parent(conn, session.agent)?))?;
    let agents = children.iter().map(|child| describe(store.sealer(), child)).collect::<Result<_, _>>()?;
    Ok(ListSubAgentsResponse { agents }.encode_to_vec())
}

/// Removes a sub-agent and ends its connections. One that is gone already is no error.
pub(super) fn delete(session: &Session, body: &[u8], reply: Reply) {
    let request: DeleteSubAgentRequest = match decode(body) {
        Ok(request) => request,
        Err(error) => return reply(Err(error)),
    };
    let (parent, workspace, caller) = (session.agent, session.workspace, caller(session));
    write(session, reply, None, move |write| {
        if let Some(child) = child(write, parent, &request.id)? {
            let now = Timestamp::now();
            agents::remove(write, child.id, now)?;
            note(write, now, &caller, "agent.remove", &child)?;
            write.publish(Topic::AgentRevoked(child.id));
            write.publish(Topic::Agent(parent));
            announce(write, parent, workspace)?;
        }
        Ok(DeleteSubAgentResponse {})
    });
}

struct Caller {
    id: AgentId,
    name: String,
    ip: String,
}

fn caller(session: &Session) -> Caller {
    Caller { id: session.agent, name: session.name.clone(), ip: session.peer.clone() }
}

/// The caller's sub-agent with this id; one of somebody else is refused.
fn child(write: &Write<'_>, parent: AgentId, id: &[u8]) -> Result<Option<Agent>, Error> {
    let id = AgentId::from_slice(id).ok_or_else(|| Error::new(Fault::Invalid, "A sub-agent's id has 16 bytes."))?;
    let agent = agents::by_id(write, id)?;
    if agent.as_ref().is_some_and(|agent| agent.parent_id != Some(parent)) {
        return Err(Error::new(Fault::NotFound, "The agent has no such sub-agent."));
    }
    Ok(agent)
}

fn describe(sealer: &Sealer, child: &Agent) -> Result<SubAgent, Error> {
    let token = tokens::open_agent_token(sealer, child.id, &child.token_sealed)?;
    Ok(SubAgent { name: child.name.clone(), id: child.id.as_bytes().to_vec(), auth_token: token.as_bytes().to_vec() })
}

fn insert(
    write: &Write<'_>,
    sealer: &Sealer,
    parent: AgentId,
    request: CreateSubAgentRequest,
    caller: &Caller,
) -> Result<CreateSubAgentResponse, Error> {
    if request.name.len() > NAME_BYTES || !is_name(&request.name.to_ascii_lowercase()) {
        return Err(Error::new(
            Fault::Invalid,
            "A sub-agent's name has 1 to 64 letters and digits, with single hyphens between.",
        ));
    }
    let gone = || Error::new(Fault::NotFound, "The agent was removed.");
    let parent = agents::by_id(write, parent)?.ok_or_else(gone)?;
    if agents::of_parent(write, parent.id)?.len() >= SUB_AGENTS {
        return Err(Error::new(Fault::TooMany, format!("An agent has {SUB_AGENTS} sub-agents at most.")));
    }
    let siblings = agents::of_workspace(write, parent.workspace_id)?;
    if siblings.iter().any(|sibling| sibling.name.eq_ignore_ascii_case(&request.name)) {
        return Err(Error::new(
            Fault::Conflict,
            format!("The workspace has an agent named {:?} already.", request.name),
        ));
    }
    let (id, now) = (AgentId::random(), Timestamp::now());
    let token = tokens::mint_agent_token(sealer, id)?;
    let child = Agent {
        parent_id: Some(parent.id),
        operating_system: cut(request.operating_system, REPORTED_TEXT_BYTES),
        architecture: cut(request.architecture, REPORTED_TEXT_BYTES),
        directory: cut(request.directory, REPORTED_TEXT_BYTES),
        troubleshooting_url: parent.troubleshooting_url,
        connection_timeout_seconds: parent.connection_timeout_seconds,
        display_apps: display_apps(&request.display_apps),
        ..Agent::blank(id, parent.workspace_id, request.name, (token.hash, token.sealed), now)
    };
    agents::insert(write, &child)?;
    let (apps, app_creation_errors) = wanted_apps(&child.name, request.apps, now);
    for app in &apps {
        apps::insert(write, id, app)?;
    }
    note(write, now, caller, "agent.create", &child)?;
    write.publish(Topic::Agent(parent.id));
    announce(write, parent.id, child.workspace_id)?;
    let agent = SubAgent { name: child.name, id: id.as_bytes().to_vec(), auth_token: token.token.as_bytes().to_vec() };
    Ok(CreateSubAgentResponse { agent: Some(agent), app_creation_errors })
}

/// The workspace has other agents than before.
fn announce(write: &Write<'_>, parent: AgentId, workspace: WorkspaceId) -> Result<(), Error> {
    write.publish(Topic::Workspace(workspace));
    if let Some(owner) = agents::owner(write, parent)? {
        write.publish(Topic::WorkspacesOf(owner));
    }
    Ok(())
}

fn note(write: &Write<'_>, at: Timestamp, caller: &Caller, action: &'static str, child: &Agent) -> Result<(), Error> {
    let entry = Entry {
        actor: Actor::Agent(caller.id, caller.name.clone()),
        action,
        target: child.name.clone(),
        ip: caller.ip.clone(),
        verdict: Verdict::Ok,
        detail: format!("sub-agent {}", child.id),
    };
    Ok(audit::insert(write, at, &entry)?)
}

/// `^[a-z0-9](-?[a-z0-9])*$`
fn is_name(text: &str) -> bool {
    let plain = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    plain && text.split('-').all(|part| !part.is_empty())
}

fn display_apps(wanted: &[i32]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for one in wanted {
        let word = match DisplayApp::try_from(*one) {
            Ok(DisplayApp::Vscode) => "vscode",
            Ok(DisplayApp::VscodeInsiders) => "vscode_insiders",
            Ok(DisplayApp::WebTerminal) => "web_terminal",
            Ok(DisplayApp::SshHelper) => "ssh_helper",
            Ok(DisplayApp::PortForwardingHelper) => "port_forwarding_helper",
            Err(_) => continue,
        };
        if !words.iter().any(|known| known == word) {
            words.push(word.to_owned());
        }
    }
    words
}

/// The apps that can be made, and an error for each that cannot; a bad app does not fail the call.
fn wanted_apps(
    agent: &str,
    wanted: Vec<create_sub_agent_request::App>,
    now: Timestamp,
) -> (Vec<App>, Vec<AppCreationError>) {
    let (mut apps, mut errors, mut slugs) = (Vec::new(), Vec::new(), HashSet::new());
    for (index, wanted) in (0_i32..).zip(wanted) {
        let slug = wanted.slug.clone();
        match app(agent, wanted, now) {
            _ if apps.len() >= SUB_AGENT_APPS => errors.push(AppCreationError {
                index,
                field: None,
                error: format!("A sub-agent has {SUB_AGENT_APPS} apps at most."),
            }),
            Ok(_) if !slugs.insert(slug.clone()) => errors.push(AppCreationError {
                index,
                field: Some("slug".into()),
                error: format!("The slug {slug:?} is used twice in this request."),
            }),
            Ok(app) => apps.push(app),
            Err((field, error)) => errors.push(AppCreationError { index, field: Some(field.into()), error }),
        }
    }
    (apps, errors)
}

fn app(agent: &str, wanted: create_sub_agent_request::App, now: Timestamp) -> Result<App, (&'static str, String)> {
    if wanted.slug.len() > SLUG_BYTES || !is_name(&wanted.slug) {
        return Err(("slug", "A slug has 1 to 64 lower-case letters and digits, with single hyphens between.".into()));
    }
    let open_in = match app::OpenIn::try_from(wanted.open_in.unwrap_or_default()) {
        Ok(app::OpenIn::SlimWindow) => "slim-window",
        Ok(app::OpenIn::Tab) => "tab",
        Err(error) => return Err(("open_in", error.to_string())),
    };
    let sharing_level = match app::SharingLevel::try_from(wanted.share.unwrap_or_default()) {
        Ok(app::SharingLevel::Owner) => "owner",
        Ok(app::SharingLevel::Authenticated) => "authenticated",
        Ok(app::SharingLevel::Public) => "public",
        Ok(app::SharingLevel::Organization) => "organization",
        Err(error) => return Err(("share", error.to_string())),
    };
    let check = wanted.healthcheck.unwrap_or_default();
    let text = |text: Option<String>| cut(text.unwrap_or_default(), REPORTED_TEXT_BYTES);
    Ok(App {
        id: AppId::random(),
        slug: stored_slug(agent, &wanted.slug),
        display_name: text(wanted.display_name),
        icon: text(wanted.icon),
        url: text(wanted.url),
        command: text(wanted.command),
        display_order: wanted.order.unwrap_or_default().into(),
        display_group: text(wanted.group),
        external: wanted.external.unwrap_or_default(),
        hidden: wanted.hidden.unwrap_or_default(),
        subdomain: wanted.subdomain.unwrap_or_default(),
        sharing_level: sharing_level.into(),
        open_in: open_in.into(),
        health: if check.url.is_empty() { Health::Disabled } else { Health::Initializing },
        healthcheck_url: cut(check.url, REPORTED_TEXT_BYTES),
        healthcheck_interval: check.interval.max(0),
        healthcheck_threshold: check.threshold.max(0),
        created_at: now,
    })
}

/// Slugs are host names of a whole workspace, so those of sub-agents begin with a hash of agent and
/// slug: 8 digits of base 32, "extended hex" alphabet (coderd/agentapi/subagent.go, v2.24.0).
fn stored_slug(agent: &str, slug: &str) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let hash = digest(&SHA256, format!("{agent}/{slug}").as_bytes());
    let bits = hash.as_ref().iter().take(5).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let digits = (0..8).rev().filter_map(|place| {
        let digit = usize::try_from(bits >> (5 * place) & 31).ok()?;
        DIGITS.get(digit).copied().map(char::from)
    });
    digits.chain(['-']).chain(slug.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_names_as_the_pattern_does() {
        for good in ["a", "a1", "a-b", "0-0-0", "dev2"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-", "-a", "a-", "a--b", "A", "a_b", "a b", "ä", "a\n"] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn puts_the_hash_before_the_slug() {
        // By Python: base64.b32hexencode(hashlib.sha256(b"dev/code").digest())[:8].lower()
        assert_eq!(stored_slug("dev", "code"), "3r76u5ml-code");
    }

    #[test]
    fn makes_the_good_apps_and_names_the_bad_ones() {
        let app = |slug: &str| create_sub_agent_request::App { slug: slug.into(), ..Default::default() };
        let odd = create_sub_agent_request::App { share: Some(9), ..app("odd") };
        let (made, errors) =
            wanted_apps("dev", vec![app("one"), app("One"), app("one"), odd, app("two")], Timestamp(1));
        assert_eq!(made.iter().map(|app| app.slug.ends_with("one")).collect::<Vec<_>>(), [true, false]);
        let found: Vec<_> = errors.iter().map(|error| (error.index, error.field.as_deref())).collect();
        assert_eq!(found, [(1, Some("slug")), (2, Some("slug")), (3, Some("share"))]);
    }
}
