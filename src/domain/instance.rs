//! The cloud instance that an agent is bound to.

use std::fmt;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::users::note;
use super::workspaces::{self, FullName, title};
use super::{Error, Fault};
use crate::model::Timestamp;
use crate::ops::hub::Topic;
use crate::store::agents::{Agent, Place};
use crate::store::audit::Actor;
use crate::store::instances::{self, Cloud};
use crate::store::workspaces::Workspace;
use crate::store::{self, Store, Write};

/// A machine of a cloud.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Instance {
    /// The cloud.
    pub cloud: Cloud,
    /// As that cloud names it.
    pub id: String,
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.cloud.as_str(), self.id)
    }
}

/// How a cloud is called.
pub(super) fn cloud_name(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Aws => "AWS",
        Cloud::Azure => "Azure",
        Cloud::Google => "Google Cloud",
    }
}

/// The key of a cloud's instance ids in declarations.
pub(super) fn key(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Aws => "aws_instance_id",
        Cloud::Azure => "azure_vm_id",
        Cloud::Google => "google_instance_id",
    }
}

/// The option of a cloud's instance ids on the command line.
fn option(cloud: Cloud) -> String {
    format!("--{}", key(cloud).replace('_', "-"))
}

/// What the agent on a machine of this cloud is told (`CODER_AGENT_AUTH`).
pub fn agent_auth(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Aws => "aws-instance-identity",
        Cloud::Azure => "azure-instance-identity",
        Cloud::Google => "google-instance-identity",
    }
}

impl Instance {
    /// Takes an id in the form that its cloud proves; the error says what that is.
    pub fn parse(cloud: Cloud, text: &str) -> Result<Instance, String> {
        let instance = Instance::proven(cloud, text);
        let id = instance.id.as_str();
        let good = match cloud {
            Cloud::Aws => id.strip_prefix("i-").is_some_and(|rest| {
                (8..=32).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_hexdigit())
            }),
            Cloud::Azure => id.len() == 36 && uuid::Uuid::try_parse(id).is_ok(),
            Cloud::Google => (1..=20).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit()),
        };
        if good {
            return Ok(instance);
        }
        Err(match cloud {
            Cloud::Aws => format!("`{text}` is not an instance id like i-0123456789abcdef0"),
            Cloud::Azure => format!("`{text}` is not a VM id (vmId) like 02aab8a4-74ef-476e-8182-f6d2ba4166a6"),
            Cloud::Google => format!("`{text}` is not an instance id (a number) like 4520031799277581759"),
        })
    }

    /// An id as a cloud has proved it. Azure's are UUIDs, which tools print in either case.
    pub(super) fn proven(cloud: Cloud, id: &str) -> Instance {
        let id = if cloud == Cloud::Azure { id.to_ascii_lowercase() } else { id.to_owned() };
        Instance { cloud, id }
    }

    /// The one that an agent is bound to.
    pub fn of(agent: &Agent) -> Option<Instance> {
        agent.instance_cloud.map(|cloud| Instance { cloud, id: agent.instance_id.clone() })
    }

    /// The living agents that are bound to it, as `OWNER/NAME.AGENT`; the first is the one that counts.
    pub(super) fn holders(&self, conn: &Connection) -> Result<Vec<(Agent, String)>, Error> {
        let bound = instances::bound(conn, self.cloud, &self.id)?;
        Ok(bound.into_iter().map(|(agent, place)| named(agent, &place)).collect())
    }
}

fn named(agent: Agent, place: &Place) -> (Agent, String) {
    let name = format!("{}/{}.{}", place.owner_name, place.workspace_name, agent.name);
    (agent, name)
}

/// How `workspace show` and `workspace bind` show the instance of an agent.
pub(super) fn view(conn: &Connection, agent: &Agent) -> Result<Value, Error> {
    let Some(instance) = Instance::of(agent) else { return Ok(Value::Null) };
    let holders = instance.holders(conn)?;
    let counts = holders.first().is_none_or(|(first, _)| first.id == agent.id);
    let others: Vec<&String> = holders.iter().filter(|(other, _)| other.id != agent.id).map(|(_, name)| name).collect();
    Ok(json!({
        "cloud": instance.cloud, "id": instance.id, "counts": counts, "also_bound": others,
        "agent_auth": agent_auth(instance.cloud),
    }))
}

/// Binds the agent of a workspace to an instance.
pub fn bind(store: &Store, actor: &Actor, full_name: &FullName, instance: Instance) -> Result<Value, Error> {
    let instance = Instance::parse(instance.cloud, &instance.id).map_err(|why| {
        Error::new(Fault::Invalid, format!("{full_name} was not bound.")).field(option(instance.cloud), why)
    })?;
    change(store, actor, full_name, "agent.bind", move |write, agent, now| {
        instances::bind(write, agent.id, instance.cloud, &instance.id, now)?;
        Ok(instance.to_string())
    })
}

/// Takes the binding of an agent away; its token stays good.
pub fn unbind(store: &Store, actor: &Actor, full_name: &FullName) -> Result<Value, Error> {
    change(store, actor, full_name, "agent.unbind", |write, agent, now| {
        let was = Instance::of(agent)
            .ok_or_else(|| Error::new(Fault::NotFound, format!("Agent {} is not bound to an instance.", agent.name)))?;
        instances::unbind(write, agent.id, now)?;
        Ok(was.to_string())
    })
}

fn change(
    store: &Store,
    actor: &Actor,
    full_name: &FullName,
    action: &'static str,
    act: impl FnOnce(&Write<'_>, &Agent, Timestamp) -> Result<String, Error> + Send + 'static,
) -> Result<Value, Error> {
    let (full_name, actor) = (full_name.clone(), actor.clone());
    store.write(move |write| {
        let now = Timestamp::now();
        let workspace = workspaces::locate(write, &full_name)?;
        let agent = the_agent(write, &workspace, full_name.agent.as_deref())?;
        let instance = act(write, &agent, now)?;
        // Whatever was noticed was about the old binding.
        store::clones::remove(write, agent.id)?;
        note(write, now, &actor, action, &format!("{}.{}", title(&workspace), agent.name), &instance)?;
        write.publish(Topic::Workspace(workspace.id));
        write.publish(Topic::Agent(agent.id));
        let agent = store::agents::by_id(write, agent.id)?.unwrap_or(agent);
        Ok(json!({
            "id": agent.id, "owner": workspace.owner_name, "workspace": workspace.name, "agent": agent.name,
            "instance": view(write, &agent)?, "was": instance,
        }))
    })
}

/// The declared agent of that name, or the only one.
fn the_agent(conn: &Connection, workspace: &Workspace, name: Option<&str>) -> Result<Agent, Error> {
    let declared =
        store::agents::of_workspace(conn, workspace.id)?.into_iter().filter(|agent| agent.parent_id.is_none());
    let mut agents: Vec<Agent> = declared.collect();
    let names: Vec<String> = agents.iter().map(|agent| agent.name.clone()).collect();
    agents.retain(|agent| name.is_none_or(|name| agent.name.eq_ignore_ascii_case(name)));
    let title = title(workspace);
    match (agents.pop(), agents.is_empty()) {
        (Some(agent), true) => Ok(agent),
        (None, _) => {
            let asked = name.map_or_else(|| "agent".to_owned(), |name| format!("agent `{name}`"));
            Err(Error::new(Fault::NotFound, format!("{title} has no {asked}.")).detail(if names.is_empty() {
                String::new()
            } else {
                format!("It has: {}.", names.join(", "))
            }))
        }
        (Some(_), false) => Err(Error::new(
            Fault::Invalid,
            format!("{title} has several agents; name one of them: {title}.{}.", names.join(&format!(", {title}."))),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_ids_in_the_form_of_their_cloud_only() {
        let uuid = "02AAB8A4-74ef-476e-8182-f6d2ba4166a6";
        let good = [(Cloud::Aws, "i-0123456789abcdef0"), (Cloud::Azure, uuid), (Cloud::Google, "4520031799277581759")];
        for (cloud, id) in good {
            assert!(Instance::parse(cloud, id).is_ok(), "{id}");
            for (other, _) in good.iter().filter(|(other, _)| *other != cloud) {
                assert!(Instance::parse(*other, id).is_err(), "{id}");
            }
        }
        for id in ["", "i-", "i-xyz", "I-0123456789abcdef0", "i-0123456789abcdef0\n"] {
            assert!(Instance::parse(Cloud::Aws, id).is_err(), "{id:?}");
        }
        assert_eq!(Instance::parse(Cloud::Azure, uuid), Ok(Instance::proven(Cloud::Azure, &uuid.to_lowercase())));
    }
}
