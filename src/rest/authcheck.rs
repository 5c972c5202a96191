//! `POST …/authcheck`: which of some actions the caller may do here. Pages and `coder support bundle` ask before
//! they show a button or begin. "Yes" is only said to what this server does.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde::Deserialize;
use uuid::Uuid;

use super::json;
use super::reply::Reply;
use super::request::Call;
use crate::domain::access::UserAuth;
use crate::domain::{Error, Fault};
use crate::model::{UserId, WorkspaceId};
use crate::store::{users, workspaces};

/// Checks in one request, which each may cost a look into the file.
const CHECKS: usize = 256;
/// Checks by `resource_id`, as the real server limits them (coder v2.24.0 coderd/authorize.go).
const CHECKS_BY_ID: usize = 10;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    checks: BTreeMap<String, Check>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Check {
    action: String,
    object: Object,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Object {
    resource_type: String,
    owner_id: String,
    resource_id: String,
}

/// `POST …/authcheck`.
pub(super) fn check(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    let body: Body = json::body(&call.body)?;
    let by_id = body.checks.values().filter(|check| !check.object.resource_id.is_empty()).count();
    if body.checks.len() > CHECKS || by_id > CHECKS_BY_ID {
        let message = format!("At most {CHECKS} checks are made at once, {CHECKS_BY_ID} of them by resource_id.");
        return Err(Error::new(Fault::Invalid, message));
    }
    let answer: BTreeMap<String, bool> = call.service.app.store.read(|conn| {
        let mut answer = BTreeMap::new();
        for (name, check) in body.checks {
            let allowed = allowed(conn, &auth, &name, &check)?;
            answer.insert(name, allowed);
        }
        Ok::<_, Error>(answer)
    })?;
    Reply::json(200, &answer)
}

fn allowed(conn: &Connection, auth: &UserAuth, name: &str, check: &Check) -> Result<bool, Error> {
    let object = &check.object;
    if object.resource_type.is_empty() {
        let shown: String = name.chars().take(64).collect();
        return Err(Error::new(Fault::Invalid, format!("The check {shown:?} names no resource_type.")));
    }
    let is_mine = match owner(conn, object)? {
        Owner::Nobody => false,
        Owner::Unknown => return Ok(false),
        Owner::Person(owner) => owner == auth.user.id,
        Owner::Me => true,
    };
    let admin = auth.user.is_admin;
    let action = check.action.as_str();
    Ok(match object.resource_type.as_str() {
        "workspace" => (admin || is_mine) && matches!(action, "read" | "ssh" | "application_connect"),
        "user" => match action {
            "create" | "delete" | "update" => admin,
            "read" | "read_personal" | "update_personal" => admin || is_mine,
            _ => false,
        },
        "api_key" => (admin || is_mine) && matches!(action, "create" | "read" | "update" | "delete"),
        "assign_role" => admin && matches!(action, "assign" | "unassign" | "read"),
        "organization_member" => (admin || is_mine) && action == "read",
        "organization" | "template" | "deployment_stats" => action == "read",
        "audit_log" | "debug_info" | "deployment_config" => admin && action == "read",
        _ => false,
    })
}

enum Owner {
    /// The check is about all things of a kind.
    Nobody,
    /// The caller.
    Me,
    Person(UserId),
    /// There is no such thing.
    Unknown,
}

fn owner(conn: &Connection, object: &Object) -> Result<Owner, Error> {
    let uuid = |text: &str, field: &str| {
        let refusal = || Error::new(Fault::Invalid, format!("The {field} of a check is not a UUID."));
        Uuid::try_parse(text).map_err(|why| refusal().field(field.to_owned(), why.to_string()))
    };
    if !object.resource_id.is_empty() {
        let id = uuid(&object.resource_id, "resource_id")?;
        let owner = match object.resource_type.as_str() {
            "workspace" => workspaces::by_id(conn, WorkspaceId(id))?.map(|workspace| workspace.owner_id),
            "user" => users::by_id(conn, UserId(id))?.map(|user| user.id),
            // The synthetic template belongs to nobody.
            "template" => return Ok(Owner::Nobody),
            _ => {
                return Err(Error::new(
                    Fault::Invalid,
                    "Only workspaces, users and templates are checked by resource_id.",
                )
                .field("resource_type", "One of workspace, user and template."));
            }
        };
        return Ok(owner.map_or(Owner::Unknown, Owner::Person));
    }
    match object.owner_id.as_str() {
        "" => Ok(Owner::Nobody),
        "me" => Ok(Owner::Me),
        text => Ok(Owner::Person(UserId(uuid(text, "owner_id")?))),
    }
}
