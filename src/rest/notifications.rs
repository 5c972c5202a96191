//! Notifications: there are none, and clients that ask are told so.

use serde::Serialize;

use super::reply::Reply;
use super::request::Call;
use crate::domain::access::UserAuth;
use crate::domain::{Error, Fault};

#[derive(Serialize)]
struct Inbox {
    notifications: [(); 0],
    unread_count: u32,
}

/// `GET …/notifications/inbox`. Its `watch` is 404, which VS Code takes silently for "no notifications"
/// (vscode-coder src/inbox.ts).
pub(super) fn inbox(_: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    Reply::json(200, &Inbox { notifications: [], unread_count: 0 })
}

/// `PUT …/notifications/inbox/mark-all-as-read`.
pub(super) fn mark_all_as_read(_: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    Ok(Reply::empty(204))
}

#[derive(Serialize)]
struct Settings {
    notifier_paused: bool,
}

/// `GET …/notifications/settings`: nothing is sent, which in these words is a paused notifier.
pub(super) fn settings(_: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    Reply::json(200, &Settings { notifier_paused: true })
}

/// `PUT …/notifications/settings` and `POST …/notifications/test`.
pub(super) fn set(_: &Call<'_>, _: UserAuth) -> Result<Reply, Error> {
    Err(none_are_sent())
}

/// What is said to whoever wants to change what is sent.
pub(super) fn none_are_sent() -> Error {
    Error::new(Fault::Invalid, "This server sends no notifications, so there is nothing to set or to test.")
}
