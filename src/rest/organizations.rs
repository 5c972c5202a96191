//! The one organization that everybody is in.

use serde::Serialize;
use uuid::Uuid;

use super::auth::Target;
use super::dto::organizations::{Member, Organization};
use super::paging::Page;
use super::reply::Reply;
use super::request::Call;
use crate::domain::access::UserAuth;
use crate::domain::{Error, Fault};
use crate::model::Timestamp;
use crate::store::users;

/// Checks that `text` names the organization: by id or by name.
pub(super) fn check(call: &Call<'_>, text: &str) -> Result<Uuid, Error> {
    let ids = call.service.app.ids();
    if ids.is_organization(text) {
        return Ok(ids.organization);
    }
    Err(Error::new(Fault::NotFound, "The organization does not exist; this server has one, and it is called default."))
}

fn organization(call: &Call<'_>) -> Result<Organization, Error> {
    let first = call.service.app.store.read(|conn| users::first(conn).map_err(Error::from))?;
    let since = first.map_or(Timestamp::GO_ZERO, |first| first.created_at);
    Ok(Organization::of(call.service.app.organization_id(), since))
}

/// `GET …/organizations`.
pub(super) fn list(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    Reply::json(200, &[organization(call)?])
}

/// `GET …/organizations/{organization}`.
pub(super) fn show(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    check(call, call.param(0))?;
    Reply::json(200, &organization(call)?)
}

/// `GET …/users/{user}/organizations`.
pub(super) fn of_user(call: &Call<'_>, _: Target) -> Result<Reply, Error> {
    Reply::json(200, &[organization(call)?])
}

/// `GET …/users/{user}/organizations/{organization}`.
pub(super) fn of_user_by_name(call: &Call<'_>, _: Target) -> Result<Reply, Error> {
    check(call, call.param(1))?;
    Reply::json(200, &organization(call)?)
}

/// The people whom the caller may see.
fn visible(call: &Call<'_>, auth: UserAuth) -> Result<Vec<users::User>, Error> {
    if !auth.user.is_admin {
        return Ok(vec![auth.user]);
    }
    call.service.app.store.read(|conn| users::list(conn).map_err(Error::from))
}

/// `GET …/organizations/{organization}/members`: everybody for administrators, oneself for others.
pub(super) fn members(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    let id = check(call, call.param(0))?;
    let people = visible(call, auth)?;
    let members: Vec<Member<'_>> = people.iter().map(|user| Member::of(user, id)).collect();
    Reply::json(200, &members)
}

#[derive(Serialize)]
struct Members<'a> {
    members: Vec<Member<'a>>,
    count: usize,
}

/// `GET …/organizations/{organization}/paginated-members`.
pub(super) fn paginated_members(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    let id = check(call, call.param(0))?;
    let page = Page::of(call)?;
    let people = visible(call, auth)?;
    let members = page.take(people.iter()).map(|user| Member::of(user, id)).collect();
    Reply::json(200, &Members { members, count: people.len() })
}

/// `GET …/organizations/{organization}/members/roles`: there is no role within the organization.
pub(super) fn roles(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    check(call, call.param(0))?;
    Reply::json(200, &[(); 0])
}

#[derive(Serialize)]
struct SiteRole {
    name: &'static str,
    display_name: &'static str,
    site_permissions: Vec<Permission>,
    organization_permissions: [Permission; 0],
    user_permissions: [Permission; 0],
    assignable: bool,
    built_in: bool,
}

#[derive(Serialize)]
struct Permission {
    negate: bool,
    resource_type: &'static str,
    action: &'static str,
}

/// `GET …/users/roles`: the roles that administrators may give. `member` stands for none: `coder users edit-roles`
/// takes no empty list (v2.24.0 cli/usereditroles.go), so nobody could be made an ordinary person again.
pub(super) fn site_roles(_: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    let role = |name, display_name, site_permissions| SiteRole {
        name,
        display_name,
        site_permissions,
        organization_permissions: [],
        user_permissions: [],
        assignable: auth.user.is_admin,
        built_in: true,
    };
    let everything = Permission { negate: false, resource_type: "*", action: "*" };
    Reply::json(200, &[role("owner", "Owner", vec![everything]), role("member", "Member", Vec::new())])
}

/// `GET …/organizations/{organization}/provisionerdaemons` and `…/provisionerjobs`: nothing is provisioned here.
pub(super) fn provisioners(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    check(call, call.param(0))?;
    Reply::json(200, &[(); 0])
}

/// Whatever would make, change or leave an organization.
pub(super) fn refuse(_: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    Err(Error::new(
        Fault::Invalid,
        "This server has one organization that everybody is in; administrators are made with `coder users edit-roles`.",
    ))
}
