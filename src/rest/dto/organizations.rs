//! The one organization and its members (coder v2.24.0 codersdk/organizations.go).

use serde::Serialize;
use uuid::Uuid;

use super::users::{Role, roles};
use crate::domain::synthetic;
use crate::model::{Timestamp, UserId};
use crate::store::users::User;

#[derive(Serialize)]
pub(in crate::rest) struct Organization {
    id: Uuid,
    name: &'static str,
    display_name: &'static str,
    icon: &'static str,
    description: &'static str,
    created_at: Timestamp,
    updated_at: Timestamp,
    is_default: bool,
}

impl Organization {
    /// `since` is when the server got its first person.
    pub(in crate::rest) fn of(id: Uuid, since: Timestamp) -> Organization {
        Organization {
            id,
            name: synthetic::ORGANIZATION,
            display_name: synthetic::ORGANIZATION_TITLE,
            icon: "",
            description: "Everybody on this server.",
            created_at: since,
            updated_at: since,
            is_default: true,
        }
    }
}

#[derive(Serialize)]
pub(in crate::rest) struct Member<'a> {
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    email: &'a str,
    global_roles: Vec<Role>,
    user_id: UserId,
    organization_id: Uuid,
    created_at: Timestamp,
    updated_at: Timestamp,
    roles: [Role; 0],
}

impl<'a> Member<'a> {
    pub(in crate::rest) fn of(user: &'a User, organization: Uuid) -> Member<'a> {
        Member {
            username: &user.username,
            name: &user.full_name,
            email: &user.email,
            global_roles: roles(user),
            user_id: user.id,
            organization_id: organization,
            created_at: user.created_at,
            updated_at: user.created_at,
            roles: [],
        }
    }
}
