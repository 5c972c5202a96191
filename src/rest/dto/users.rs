//! People and their keys (coder v2.24.0 codersdk/users.go, apikey.go).

use serde::Serialize;
use uuid::Uuid;

use crate::model::{Timestamp, UserId};
use crate::store::keys::{ApiKey, LoginType, Scope};
use crate::store::users::{self, GitSshKey, Status};

#[derive(Serialize)]
pub(in crate::rest) struct User<'a> {
    id: UserId,
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    email: &'a str,
    created_at: Timestamp,
    updated_at: Timestamp,
    last_seen_at: Timestamp,
    status: Status,
    login_type: &'static str,
    organization_ids: [Uuid; 1],
    roles: Vec<Role>,
}

#[derive(Serialize)]
pub(in crate::rest) struct Role {
    name: &'static str,
    display_name: &'static str,
}

impl<'a> User<'a> {
    pub(in crate::rest) fn of(user: &'a users::User, organization: Uuid) -> User<'a> {
        User {
            id: user.id,
            username: &user.username,
            name: &user.full_name,
            email: &user.email,
            created_at: user.created_at,
            updated_at: user.updated_at,
            last_seen_at: user.last_seen_at.unwrap_or(Timestamp::GO_ZERO),
            status: user.status,
            login_type: "password",
            organization_ids: [organization],
            roles: roles(user),
        }
    }
}

/// The names of a person's roles. VS Code shows the view of all workspaces to the role named owner.
pub(in crate::rest) fn role_names(user: &users::User) -> &'static [&'static str] {
    if user.is_admin { &["owner"] } else { &[] }
}

/// A person's roles. There is but one.
pub(in crate::rest) fn roles(user: &users::User) -> Vec<Role> {
    if user.is_admin { vec![Role { name: "owner", display_name: "Owner" }] } else { Vec::new() }
}

#[derive(Serialize)]
pub(in crate::rest) struct Key<'a> {
    id: &'a str,
    user_id: UserId,
    last_used: Timestamp,
    expires_at: Timestamp,
    created_at: Timestamp,
    updated_at: Timestamp,
    login_type: LoginType,
    scope: Scope,
    token_name: &'a str,
    lifetime_seconds: i64,
    /// In lists only.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
}

impl<'a> Key<'a> {
    pub(in crate::rest) fn of(key: &'a ApiKey, username: Option<&'a str>) -> Key<'a> {
        Key {
            id: &key.id,
            user_id: key.user_id,
            last_used: key.last_used_at,
            expires_at: key.expires_at,
            created_at: key.created_at,
            updated_at: key.updated_at,
            login_type: key.login_type,
            scope: key.scope,
            token_name: &key.token_name,
            lifetime_seconds: key.lifetime_seconds,
            username,
        }
    }
}

#[derive(Serialize)]
pub(in crate::rest) struct PublicKey<'a> {
    user_id: UserId,
    created_at: Timestamp,
    updated_at: Timestamp,
    public_key: &'a str,
}

impl<'a> PublicKey<'a> {
    pub(in crate::rest) fn of(key: &'a GitSshKey) -> PublicKey<'a> {
        PublicKey {
            user_id: key.user_id,
            created_at: key.created_at,
            updated_at: key.updated_at,
            public_key: &key.public_key,
        }
    }
}
