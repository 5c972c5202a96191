//! Accounts at external providers: which there are, and how one stands with each.

use std::sync::Arc;

use super::super::external_auth::after_unlinking;
use super::super::html::{Html, fill, text};
use super::super::parts::{self, Board, Question, cell, link, state, table, when};
use crate::domain::external_auth::{self, Overview, Standing};
use crate::domain::{Error, Fault};
use crate::rest::later;
use crate::rest::reply::Reply;
use crate::rest::request::Call;
use crate::store::external_auth::Link;

const PATH: &str = "/settings/external-auth";

/// `GET /settings/external-auth`. Asks the providers, so it may take a when.
pub(in crate::rest) fn list(call: &Call<'_>) -> Result<Reply, Error> {
    parts::account(call, |desk| {
        let app = &call.service.app;
        let board = desk.board();
        let (reply, mut promise) = later::park(call)?;
        promise.begin();
        external_auth::overview(app, desk.user.user.id, move |found| {
            promise.give(found.map(|found| show(board, &found)));
        });
        Ok(reply)
    })
}

fn show(board: Board, found: &Overview) -> Reply {
    let mut rows = Vec::new();
    for (provider, shown) in &found.providers {
        let known = found.links.iter().find(|(link, _)| link.provider == provider.id);
        let page = format!("/external-auth/{}", provider.id);
        let (how, action) = match known {
            None => (state("not linked", "dim"), link(&page, "Link")),
            Some((_, Some(Ok(Standing::Good(good))))) => {
                let login = good.account.as_ref().map_or("", |account| account.login.as_str());
                (cell(state("linked", "good"), login), unlink(&provider.id))
            }
            Some((_, Some(Ok(Standing::SignIn(why))))) => {
                let actions = [link(&page, "Link again"), text(" "), unlink(&provider.id)];
                (cell(state("must be linked again", "bad"), why), Html::join(actions))
            }
            Some((_, Some(Err(error)))) => {
                (cell(state("not known at present", "wait"), &error.to_string()), unlink(&provider.id))
            }
            Some((_, _)) => (state("not known at present", "wait"), unlink(&provider.id)),
        };
        let name = cell(text(&shown.display_name), &format!("{} ({})", provider.id, external_auth::type_of(provider)));
        rows.push(vec![name, how, changed(known.map(|(link, _)| link)), action]);
    }
    for (link, _) in &found.links {
        if !found.providers.iter().any(|(provider, _)| provider.id == link.provider) {
            let how = state("the server has this provider no more", "dim");
            rows.push(vec![text(&link.provider), how, changed(Some(link)), unlink(&link.provider)]);
        }
    }
    let none = "This server has no external providers; an administrator can configure some.";
    let table = table("Providers", &["Provider", "State", "Last sign-in or renewal", "Action"], rows, none);
    board.page(200, "Linked accounts", fill(include_str!("linked.html"), &[("table", table)]))
}

fn changed(link: Option<&Link>) -> Html {
    link.map_or_else(|| text("–"), |link| when(link.updated_at))
}

fn unlink(provider: &str) -> Html {
    link(&format!("{PATH}/{provider}"), "Unlink…")
}

/// `GET /settings/external-auth/{provider}`: asks whether the link shall be removed.
pub(in crate::rest) fn ask(call: &Call<'_>) -> Result<Reply, Error> {
    parts::account(call, |desk| {
        let id = call.param(0);
        let owner = desk.user.user.id;
        let links =
            |conn: &rusqlite::Connection| crate::store::external_auth::find(conn, id, owner).map_err(Error::from);
        if call.service.app.store.read(links)?.is_none() {
            return Ok(desk.done(PATH, "That account is not linked."));
        }
        Ok(desk.ask(
            200,
            Question {
                title: &format!("Unlink {id}?"),
                to: &format!("{PATH}/{id}"),
                action: "unlink",
                text: "Git in your workspaces gets no token of this provider any more, until you link the account \
                       again.",
                fields: Html::default(),
                problem: Html::default(),
                button: "Unlink",
                is_harmless: false,
                back: PATH,
            },
        ))
    })
}

/// `POST /settings/external-auth/{provider}`: removes the link.
pub(in crate::rest) fn remove(call: &Call<'_>) -> Result<Reply, Error> {
    parts::account_form(call, |desk, _| {
        let app = call.service.app.clone();
        let (id, user, by) = (call.param(0).to_owned(), desk.user.user.id, desk.by());
        let gone = |error: Error| match error.fault {
            // Pressed twice.
            Fault::NotFound => Ok(None),
            _ => Err(error),
        };
        let Ok(provider) = external_auth::provider(&app, &id) else {
            external_auth::removed(&app, &id, user, &by).or_else(|error| gone(error).map(|_| ()))?;
            return Ok(desk.done(PATH, &format!("{id} is not linked any more.")));
        };
        let (there, teller) = (Arc::clone(&provider), desk.teller());
        later::answer(call, &provider, move || {
            let revoked = external_auth::unlink(&app, &there, user, &by).or_else(gone)?;
            let more = after_unlinking(revoked.as_ref());
            Ok(teller.done(PATH, &format!("{id} is not linked any more. {more}")))
        })
    })
}
