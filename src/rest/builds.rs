//! The one build of a workspace, which has succeeded.

use rusqlite::Connection;

use super::auth::Seen;
use super::paging::Page;
use super::reply::Reply;
use super::request::Call;
use super::workspaces;
use crate::domain::access::UserAuth;
use crate::domain::inventory::{self, Look};
use crate::domain::shown::timings::Timings;
use crate::domain::{Error, Fault, synthetic};
use crate::model::Timestamp;

/// `GET …/users/{user}/workspace/{workspace}/builds/{number}`.
pub(super) fn by_number(call: &Call<'_>, auth: UserAuth) -> Result<Reply, Error> {
    call.service.app.store.read(|conn| {
        let seen = workspaces::named(call, conn, auth)?;
        let number = call.param(2);
        match number.parse::<i32>() {
            Ok(number) if i64::from(number) == synthetic::BUILD_NUMBER => {
                let machine = inventory::machine(conn, &seen.user.user, seen.workspace)?;
                Reply::json(200, &Look::new(&call.service.app).workspace(&machine).into_build())
            }
            Ok(number) => {
                let name = &seen.workspace.name;
                Err(Error::new(
                    Fault::NotFound,
                    format!("Workspace {name} has no build {number}; it has build 1 only."),
                ))
            }
            Err(_) => Err(Error::new(Fault::Invalid, "The number of a build is a whole number.")
                .detail(number.chars().take(64).collect::<String>())),
        }
    })
}

/// `GET …/workspaces/{workspace}/builds`.
pub(super) fn list(call: &Call<'_>, conn: &Connection, seen: Seen) -> Result<Reply, Error> {
    let page = Page::of(call)?;
    let since = match call.query.text("since") {
        "" => None,
        text => Some(Timestamp::parse(text).map_err(|error| {
            Error::new(Fault::Invalid, "The parameter since cannot be used.").field("since", format!("It is {error}."))
        })?),
    };
    let shown = page.offset == 0 && since.is_none_or(|since| seen.workspace.created_at >= since);
    let machine = inventory::machine(conn, &seen.user.user, seen.workspace)?;
    let look = Look::new(&call.service.app);
    let builds: Vec<_> = shown.then(|| look.workspace(&machine).into_build()).into_iter().collect();
    Reply::json(200, &builds)
}

/// `GET …/workspacebuilds/{build}`.
pub(super) fn show(call: &Call<'_>, conn: &Connection, seen: Seen) -> Result<Reply, Error> {
    let machine = inventory::machine(conn, &seen.user.user, seen.workspace)?;
    Reply::json(200, &Look::new(&call.service.app).workspace(&machine).into_build())
}

/// `GET …/workspacebuilds/{build}/resources`.
pub(super) fn resources(call: &Call<'_>, conn: &Connection, seen: Seen) -> Result<Reply, Error> {
    let machine = inventory::machine(conn, &seen.user.user, seen.workspace)?;
    Reply::json(200, &Look::new(&call.service.app).workspace(&machine).into_build().into_resources())
}

/// `GET …/workspacebuilds/{build}/parameters`: nothing was asked for.
pub(super) fn parameters(_: &Call<'_>, _: &Connection, _: Seen) -> Result<Reply, Error> {
    Ok(Reply::json_body(200, b"[]".to_vec()))
}

/// `GET …/workspacebuilds/{build}/state`: no provisioner ever left one.
pub(super) fn state(_: &Call<'_>, _: &Connection, _: Seen) -> Result<Reply, Error> {
    Ok(Reply::empty(200))
}

/// `GET …/workspacebuilds/{build}/timings` and `…/workspaces/{workspace}/timings`.
pub(super) fn timings(_: &Call<'_>, conn: &Connection, seen: Seen) -> Result<Reply, Error> {
    let runs = inventory::runs(conn, seen.workspace.id)?;
    Reply::json(200, &Timings::of(&runs))
}

/// `PATCH …/workspacebuilds/{build}/cancel`.
pub(super) fn cancel(_: &Call<'_>, _: &Connection, _: Seen) -> Result<Reply, Error> {
    Err(Error::new(Fault::Invalid, "The build cannot be canceled: it has succeeded already."))
}
