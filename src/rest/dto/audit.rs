//! The audit log in the words of the real server (coder v2.24.0 codersdk/audit.go).

use serde::Serialize;
use uuid::Uuid;

use super::users::User;
use crate::domain::{synthetic, tokens};
use crate::model::Timestamp;
use crate::store::audit::{Stored, Verdict};

#[derive(Serialize)]
pub(in crate::rest) struct AuditLogs<'a> {
    pub audit_logs: Vec<AuditLog<'a>>,
    pub count: i64,
}

#[derive(Serialize)]
pub(in crate::rest) struct AuditLog<'a> {
    id: Uuid,
    /// Not kept.
    request_id: Uuid,
    time: Timestamp,
    ip: &'a str,
    user_agent: &'static str,
    resource_type: &'static str,
    /// Rows name what they are about.
    resource_id: Uuid,
    resource_target: &'a str,
    resource_icon: &'static str,
    action: &'static str,
    diff: Empty,
    status_code: u16,
    additional_fields: Additional<'a>,
    description: String,
    resource_link: &'static str,
    is_deleted: bool,
    organization_id: Uuid,
    organization: Organization,
    user: Option<User<'a>>,
}

#[derive(Serialize)]
struct Empty {}

/// What the row says in our own words.
#[derive(Serialize)]
struct Additional<'a> {
    actor_kind: &'a str,
    actor_name: &'a str,
    verb: &'a str,
    detail: &'a str,
}

#[derive(Serialize)]
struct Organization {
    id: Uuid,
    name: &'static str,
    display_name: &'static str,
    icon: &'static str,
}

impl<'a> AuditLog<'a> {
    /// `user` is the actor, if it is a person who is still here.
    pub(in crate::rest) fn of(
        row: &'a Stored,
        user: Option<User<'a>>,
        deployment: Uuid,
        organization: Uuid,
    ) -> AuditLog<'a> {
        let (resource_type, action) = meaning(&row.action);
        AuditLog {
            id: id(deployment, row.id),
            request_id: Uuid::nil(),
            time: row.at,
            ip: &row.ip,
            user_agent: "",
            resource_type,
            resource_id: Uuid::nil(),
            resource_target: &row.target,
            resource_icon: "",
            action,
            diff: Empty {},
            status_code: match row.verdict {
                Verdict::Ok => 200,
                Verdict::Refused => 403,
                Verdict::Failed => 500,
            },
            additional_fields: Additional {
                actor_kind: &row.actor_kind,
                actor_name: &row.actor_name,
                verb: &row.action,
                detail: &row.detail,
            },
            description: format!("{} {}: {} {}", row.actor_kind, row.actor_name, row.action, row.target),
            resource_link: "",
            is_deleted: false,
            organization_id: organization,
            organization: Organization {
                id: organization,
                name: synthetic::ORGANIZATION,
                display_name: synthetic::ORGANIZATION_TITLE,
                icon: "",
            },
            user,
        }
    }
}

/// Rows are numbered here; clients want a UUID that stays.
fn id(deployment: Uuid, row: i64) -> Uuid {
    let mut seed = deployment.as_bytes().to_vec();
    seed.extend_from_slice(b"audit");
    seed.extend_from_slice(&row.to_be_bytes());
    let bytes = tokens::hash(&seed).first_chunk::<16>().copied().unwrap_or_default();
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// The resource type and action that stand for one of our verbs.
pub(in crate::rest) fn meaning(verb: &str) -> (&'static str, &'static str) {
    let (thing, what) = verb.split_once('.').unwrap_or((verb, ""));
    match (thing, what) {
        ("user", "login") => ("api_key", "login"),
        ("user", "logout") => ("api_key", "logout"),
        ("user", "gitsshkey") => ("git_ssh_key", "write"),
        _ => (
            match thing {
                "user" => "user",
                "token" => "api_key",
                "workspace" => "workspace",
                _ => "workspace_agent",
            },
            match what {
                "create" | "add" => "create",
                "remove" | "delete" | "revoke" => "delete",
                "sign_in" => "login",
                "connect" => "connect",
                "disconnect" => "disconnect",
                "open" => "open",
                "close" => "close",
                _ => "write",
            },
        ),
    }
}
