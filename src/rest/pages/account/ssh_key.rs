//! The key pair with which a person's workspaces reach git hosts.

use super::super::html::{Html, fill, text};
use super::super::moment;
use super::super::parts::{self, Question};
use crate::domain::{Error, git_key};
use crate::rest::reply::Reply;
use crate::rest::request::Call;
use crate::store::users;

const PATH: &str = "/settings/ssh-keys";

/// `GET /settings/ssh-keys`: the public half.
pub(in crate::rest) fn show(call: &Call<'_>) -> Result<Reply, Error> {
    parts::account(call, |desk| {
        let owner = desk.user.user.id;
        let key = call.service.app.store.read(|conn| users::git_ssh_key(conn, owner).map_err(Error::from))?;
        let content = match key {
            Some(key) => fill(
                include_str!("ssh-key.html"),
                &[
                    ("key", text(key.public_key.trim_end())),
                    ("created", moment(key.created_at)),
                    ("changed", moment(key.updated_at)),
                ],
            ),
            None => fill(include_str!("no-ssh-key.html"), &[]),
        };
        Ok(desk.copyable("SSH key", content))
    })
}

/// `GET /settings/ssh-keys/new`: asks whether the pair shall be replaced.
pub(in crate::rest) fn ask(call: &Call<'_>) -> Result<Reply, Error> {
    parts::account(call, |desk| {
        Ok(desk.ask(
            200,
            Question {
                title: "Make a new SSH key?",
                to: PATH,
                action: "renew",
                text: "The present key is deleted and cannot be got back. Every git host that knows it refuses your \
                       workspaces until you have put the new public key there.",
                fields: Html::default(),
                problem: Html::default(),
                button: "Make a new key",
                is_harmless: false,
                back: PATH,
            },
        ))
    })
}

/// `POST /settings/ssh-keys`: a new pair.
pub(in crate::rest) fn renew(call: &Call<'_>) -> Result<Reply, Error> {
    parts::account_form(call, |desk, _| {
        git_key::renew(&call.service.app.store, &desk.by(), &desk.user.user)?;
        Ok(desk.done(PATH, "You have a new key. Put its public half where the old one was."))
    })
}
