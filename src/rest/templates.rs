//! The one template, which stands for everything that the operator declares. Clients expect each
//! workspace to have one and ask for its version.

use serde::Deserialize;

use super::auth;
use super::json;
use super::organizations;
use super::reply::Reply;
use super::request::Call;
use super::workspace_changes::{declared_only, not_built};
use crate::domain::access::UserAuth;
use crate::domain::search::finds_template;
use crate::domain::shown::templates::{DEPRECATION, Template, TemplateVersion};
use crate::domain::{Error, Fault, synthetic};
use crate::store::users::User;
use crate::store::{users, workspaces};

fn no_template() -> Error {
    Error::new(Fault::NotFound, "There is no such template.")
}

/// The template's id stands first in the path.
fn template_in_path(call: &Call<'_>) -> Result<(), Error> {
    if auth::uuid(call.param(0))? == call.service.app.ids().template { Ok(()) } else { Err(no_template()) }
}

/// The version's id stands first in the path.
fn version_in_path(call: &Call<'_>) -> Result<(), Error> {
    if auth::uuid(call.param(0))? == call.service.app.ids().template_version {
        Ok(())
    } else {
        Err(Error::new(Fault::NotFound, "There is no such template version."))
    }
}

/// The first person, and how many people have a workspace.
fn facts(call: &Call<'_>) -> Result<(User, i64), Error> {
    call.service.app.store.read(|conn| {
        let first = users::first(conn)?.ok_or_else(no_template)?;
        Ok((first, workspaces::owners(conn)?))
    })
}

fn template(call: &Call<'_>) -> Result<Reply, Error> {
    let (first, owners) = facts(call)?;
    Reply::json(200, &Template::of(&call.service.app.ids(), &first, owners))
}

fn version(call: &Call<'_>) -> Result<Reply, Error> {
    let (first, _) = facts(call)?;
    Reply::json(200, &TemplateVersion::of(&call.service.app.ids(), &first))
}

/// `GET …/templates`: without it `coder create` would show an empty choice that nothing leaves.
pub(super) fn list(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    let ids = call.service.app.ids();
    let found = finds_template(call.query.text("q"), &ids)?;
    let (first, owners) = facts(call)?;
    let templates: Vec<Template<'_>> = found.then(|| Template::of(&ids, &first, owners)).into_iter().collect();
    Reply::json(200, &templates)
}

/// `GET …/organizations/{organization}/templates`.
pub(super) fn list_of_organization(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    organizations::check(call, call.param(0))?;
    list(call, auth)
}

/// `GET …/templates/examples` and the organisation's: nothing can be made of an example.
pub(super) fn examples(_: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    none()
}

/// `GET …/templates/{template}`.
pub(super) fn show(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    template_in_path(call)?;
    template(call)
}

/// `GET …/organizations/{organization}/templates/{name}`.
pub(super) fn by_name(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    organizations::check(call, call.param(0))?;
    if call.param(1) == synthetic::TEMPLATE { template(call) } else { Err(no_template()) }
}

/// `GET …/templates/{template}/versions`.
pub(super) fn versions(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    template_in_path(call)?;
    let (first, _) = facts(call)?;
    Reply::json(200, &[TemplateVersion::of(&call.service.app.ids(), &first)])
}

/// `GET …/templates/{template}/versions/{name}`.
pub(super) fn version_by_name(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    template_in_path(call)?;
    named_version(call, call.param(1))
}

/// `GET …/organizations/{organization}/templates/{template}/versions/{name}`.
pub(super) fn version_by_names(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    organizations::check(call, call.param(0))?;
    if call.param(1) == synthetic::TEMPLATE { named_version(call, call.param(2)) } else { Err(no_template()) }
}

fn named_version(call: &Call<'_>, name: &str) -> Result<Reply, Error> {
    if name == synthetic::TEMPLATE_VERSION {
        version(call)
    } else {
        Err(Error::new(Fault::NotFound, "The template has no such version."))
    }
}

/// `GET …/templateversions/{version}`: `coder ssh` fails without it.
pub(super) fn version_by_id(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    version_in_path(call)?;
    version(call)
}

/// Lists of what the version does not have: parameters, variables, presets, resources, external auth, logs.
pub(super) fn none_of_version(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    version_in_path(call)?;
    none()
}

fn none() -> Result<Reply, Error> {
    Ok(Reply::json_body(200, b"[]".to_vec()))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DryRun {
    workspace_name: String,
}

/// `POST …/templateversions/{version}/dry-run`: start, restart, update and create of the CLI begin with it.
pub(super) fn dry_run(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    version_in_path(call)?;
    let body: DryRun = json::body(&call.body)?;
    let known = call
        .service
        .app
        .store
        .read(|conn| workspaces::by_name(conn, auth.user.id, &body.workspace_name).map_err(Error::from))?;
    Err(match known {
        Some(workspace) => not_built(&workspace),
        None => declared_only(&auth.user.username, &body.workspace_name),
    })
}

/// Dry runs that never began.
pub(super) fn no_dry_run(call: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    version_in_path(call)?;
    Err(Error::new(Fault::NotFound, "There is no such dry run; this server begins none."))
}

/// Whatever would make or change a template.
pub(super) fn refuse(_: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    Err(Error::new(Fault::Invalid, DEPRECATION).detail("There is nothing about templates to make or to change."))
}
