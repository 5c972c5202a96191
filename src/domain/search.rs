//! What the terms of a search mean for workspaces and templates (coder v2.24.0
//! coderd/searchquery/search.go).
//!
//! A key that clients know and that says nothing about declared workspaces finds none of them; only a
//! key that no client knows is refused, because editors read a refusal as "this server is too old".

use uuid::Uuid;

use super::agents::{Health, Status};
use super::synthetic::{self, Ids};
use super::terms::{Terms, refusal};
use super::{Error, Field};
use crate::model::{Timestamp, WorkspaceId};
use crate::store::workspaces::Workspace;

/// States that a build can be in; all of ours are running.
const STATUSES: [&str; 10] =
    ["pending", "starting", "running", "stopping", "stopped", "failed", "canceling", "canceled", "deleting", "deleted"];

/// A search for workspaces.
#[derive(Debug, Default, PartialEq)]
pub struct Search {
    /// A user name, or `me`.
    pub owner: Option<String>,
    /// Each is part of the name.
    names: Vec<String>,
    ids: Option<Vec<WorkspaceId>>,
    used_after: Option<Timestamp>,
    used_before: Option<Timestamp>,
    agent: Option<Status>,
    healthy: Option<bool>,
    template: Option<String>,
    organization: Option<String>,
    /// Asks for something that no declared workspace is.
    never: bool,
}

impl Search {
    /// Reads `q`.
    pub fn parse(text: &str) -> Result<Search, Error> {
        let mut search = Search::default();
        let mut refused: Vec<Field> = Vec::new();
        let mut given: Vec<String> = Vec::new();
        for (key, value) in Terms::parse(text)?.0 {
            if key.is_empty() {
                search.add_word(&value)?;
                continue;
            }
            if given.contains(&key) && key != "name" && key != "param" {
                refused.push(Field::new(&key, "It may be given once only."));
            } else if let Err(why) = search.add(&key, &value) {
                refused.push(Field::new(&key, why));
            }
            given.push(key);
        }
        if refused.is_empty() { Ok(search) } else { Err(Error { fields: refused, ..refusal() }) }
    }

    /// `name` or `owner/name`.
    fn add_word(&mut self, word: &str) -> Result<(), Error> {
        match word.split('/').collect::<Vec<_>>().as_slice() {
            [name] => self.names.push((*name).to_owned()),
            [owner, name] => {
                self.names.push((*name).to_owned());
                self.owner = Some((*owner).to_owned());
            }
            _ => return Err(refusal().field("q", format!("{word:?} may have one / only."))),
        }
        Ok(())
    }

    fn add(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "owner" => self.owner = Some(value.to_owned()),
            "name" => self.names.push(value.to_owned()),
            "template" => self.template = Some(value.to_owned()),
            "organization" => self.organization = Some(value.to_owned()),
            "id" => self.ids = Some(ids(value)?.into_iter().map(WorkspaceId).collect()),
            "status" if STATUSES.contains(&value) => self.never |= value != "running",
            "status" => return Err(format!("{value:?} is none of {}.", STATUSES.join(", "))),
            "has-agent" => {
                self.agent = Some(match value {
                    "connecting" => Status::Connecting,
                    "connected" => Status::Connected,
                    "disconnected" => Status::Disconnected,
                    "timeout" => Status::Timeout,
                    _ => return Err("It is connecting, connected, disconnected or timeout.".into()),
                });
            }
            "healthy" => self.healthy = Some(boolean(value)?),
            "dormant" | "outdated" | "has-ai-task" | "has-external-agent" | "shared" | "deleted" => {
                self.never |= boolean(value)?;
            }
            "last_used_after" => self.used_after = Some(instant(value)?),
            "last_used_before" => self.used_before = Some(instant(value)?),
            "param" | "shared_with_user" | "shared_with_group" => self.never = true,
            _ => return Err("It is not something to search by here.".into()),
        }
        Ok(())
    }

    /// Whether any workspace can be found at all.
    pub(super) fn can_match(&self, ids: &Ids) -> bool {
        let organization = self.organization.as_deref().is_none_or(|wanted| ids.is_organization(wanted));
        !self.never && organization && self.template.as_deref().is_none_or(|wanted| wanted == synthetic::TEMPLATE)
    }

    /// Whether a workspace fits, but for its owner and its agents.
    pub(super) fn takes(&self, row: &Workspace) -> bool {
        let name = row.name.to_lowercase();
        self.names.iter().all(|part| name.contains(part.as_str()))
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&row.id))
            && self.used_after.is_none_or(|after| row.last_used_at >= after)
            && self.used_before.is_none_or(|before| row.last_used_at <= before)
    }

    /// Whether agents matter.
    pub(super) fn asks_for_agents(&self) -> bool {
        self.agent.is_some() || self.healthy.is_some()
    }

    /// Whether a workspace with agents in these states fits.
    pub(super) fn takes_agents(&self, states: &[(Status, Health)]) -> bool {
        self.agent.is_none_or(|wanted| states.iter().any(|(status, _)| *status == wanted))
            && self.healthy.is_none_or(|wanted| states.iter().all(|(_, health)| health.healthy) == wanted)
    }
}

/// A search for templates: whether it finds the one there is. `deprecated` tells nothing apart, because
/// `coder create` would stop at an empty list.
pub fn finds_template(text: &str, ids: &Ids) -> Result<bool, Error> {
    let mut found = true;
    for (key, value) in Terms::parse(text)?.0 {
        let fits = match key.as_str() {
            "" | "name" => Ok(synthetic::TEMPLATE.contains(&value)),
            "exact_name" => Ok(value == synthetic::TEMPLATE),
            "ids" => self::ids(&value).map(|wanted| wanted.contains(&ids.template)),
            "organization" => Ok(ids.is_organization(&value)),
            "deprecated" => boolean(&value).map(|_| true),
            "deleted" | "has-ai-task" | "has-external-agent" => boolean(&value).map(|wanted| !wanted),
            "author" | "author_id" | "author_username" => Ok(false),
            _ => return Err(Terms::unknown(&key)),
        };
        found &= fits.map_err(|why| refusal().field(&key, why))?;
    }
    Ok(found)
}

fn boolean(value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "true" => Ok(true),
        "0" | "f" | "false" => Ok(false),
        _ => Err("It is true or false.".into()),
    }
}

fn instant(value: &str) -> Result<Timestamp, String> {
    // The search was put into lower case, letters of the instant too.
    Timestamp::parse(&value.to_uppercase()).map_err(|error| format!("It is {error}."))
}

fn ids(value: &str) -> Result<Vec<Uuid>, String> {
    let one = |text: &str| Uuid::try_parse(text.trim()).map_err(|_| format!("{text:?} is not a UUID."));
    value.split(',').filter(|text| !text.is_empty()).map(one).collect()
}
