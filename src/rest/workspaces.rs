//! Workspaces as people see them: lists, one by one, and their one build.

use rusqlite::Connection;
use serde::Serialize;

use super::auth::{self, Seen};
use super::paging::Page;
use super::reply::Reply;
use super::request::Call;
use crate::domain::access::UserAuth;
use crate::domain::inventory::{self, Look};
use crate::domain::search::Search;
use crate::domain::{Error, Fault};
use crate::store::workspaces;

/// Bytes of a list at most: about 16,000 workspaces of one agent. A worker holds one list at a time.
const LIST_BYTES: usize = 32 * 1024 * 1024;

/// `GET …/workspaces`: JetBrains asks every 5 s.
pub(super) fn list(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    let search = Search::parse(call.query.text("q"))?;
    let page = Page::of(call)?;
    let app = &call.service.app;
    let look = Look::new(app);
    let found = app.store.read(|conn| inventory::search(conn, &look, &auth.user, &search, page.offset, page.limit))?;
    let mut body = br#"{"workspaces":["#.to_vec();
    for (index, machine) in found.machines.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write(&mut body, &look.workspace(machine))?;
        if body.len() > LIST_BYTES {
            return Err(Error::new(Fault::Invalid, "The list is too long for one answer; ask for parts of it.")
                .detail("The parameters limit and offset choose a part."));
        }
    }
    body.extend_from_slice(format!(r#"],"count":{}}}"#, found.count).as_bytes());
    Ok(Reply::json_body(200, body))
}

fn write(body: &mut Vec<u8>, value: &impl Serialize) -> Result<(), Error> {
    serde_json::to_writer(body, value)
        .map_err(|error| Error::new(Fault::Internal, "The answer cannot be written.").detail(error.to_string()))
}

/// `GET …/workspaces/{workspace}`.
pub(super) fn show(call: &Call<'_>, conn: &Connection, seen: Seen) -> Result<Reply, Error> {
    include_deleted(call)?;
    shown(call, conn, seen)
}

/// A workspace as the caller sees it.
pub(super) fn shown(call: &Call<'_>, conn: &Connection, seen: Seen) -> Result<Reply, Error> {
    let machine = inventory::machine(conn, &seen.user.user, seen.workspace)?;
    Reply::json(200, &Look::new(&call.service.app).workspace(&machine))
}

/// Removed workspaces are never shown, so it is only checked.
fn include_deleted(call: &Call<'_>) -> Result<(), Error> {
    let text = call.query.text("include_deleted");
    if matches!(text, "" | "1" | "t" | "T" | "true" | "TRUE" | "True" | "0" | "f" | "F" | "false" | "FALSE" | "False") {
        return Ok(());
    }
    Err(Error::new(Fault::Invalid, "The parameter include_deleted is not true or false.")
        .field("include_deleted", "It is true or false."))
}

/// `GET …/users/{user}/workspace/{workspace}`: nearly every command of the CLI begins with it.
pub(super) fn by_name(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    include_deleted(call)?;
    call.service.app.store.read(|conn| {
        let seen = named(call, conn, auth)?;
        shown(call, conn, seen)
    })
}

/// The workspace that a path names by owner and name.
pub(super) fn named(call: &Call<'_>, conn: &Connection, user: UserAuth) -> Result<Seen, Error> {
    let owner = auth::person(conn, &user.user, call.param(0))?;
    // To those who may not see it, an unknown owner and a hidden one are the same.
    let workspace = match &owner {
        Some(owner) if user.may_see(owner.id) => workspaces::by_name(conn, owner.id, call.param(1))?,
        None if user.user.is_admin => return Err(auth::no_such_person(call.param(0))),
        _ => None,
    };
    workspace.map(|workspace| Seen { user, workspace }).ok_or_else(auth::no_such_workspace)
}

#[derive(Serialize)]
struct Mismatch {
    parameter_mismatch: bool,
}

/// `GET …/workspaces/{workspace}/resolve-autostart`.
pub(super) fn resolve_autostart(_: &Call<'_>, _: &Connection, _: Seen) -> Result<Reply, Error> {
    Reply::json(200, &Mismatch { parameter_mismatch: false })
}

#[derive(Serialize)]
struct Shares {
    shares: [(); 0],
}

/// `GET …/workspaces/{workspace}/port-share`: no port is ever shared.
pub(super) fn port_shares(_: &Call<'_>, _: &Connection, _: Seen) -> Result<Reply, Error> {
    Reply::json(200, &Shares { shares: [] })
}
