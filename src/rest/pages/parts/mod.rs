//! What the pages of one's account and of the administration share: who is at them, forms, tables, messages.

mod fields;
mod message;
mod tables;

pub(super) use fields::Form;
pub(super) use message::Teller;
pub(super) use tables::{cell, link, state, table, when};

use super::html::{Html, fill, text};
use super::{Frame, form, here, sign_in_first, signed_in};
use crate::domain::access::UserAuth;
use crate::domain::{Error, Fault};
use crate::rest::auth::administrator;
use crate::rest::reply::Reply;
use crate::rest::request::{Call, Query};
use crate::store::audit::By;

type Answer = Result<Reply, Error>;

/// Path and label of the pages of a group, which show each other.
type Tabs = &'static [(&'static str, &'static str)];

/// One's own pages.
const ACCOUNT: Tabs = &[
    ("/sessions", "Sessions and tokens"),
    ("/settings/ssh-keys", "SSH key"),
    ("/settings/external-auth", "Linked accounts"),
    ("/settings/security", "Password"),
];

/// The administration.
const ADMIN: Tabs = &[
    ("/admin/users", "Users"),
    ("/admin/workspaces", "Workspaces"),
    ("/admin/plugins", "Plugins"),
    ("/admin/anchors", "Trust anchors"),
    ("/admin/health", "Health"),
    ("/admin/audit", "Audit log"),
];

/// Somebody at a page of a group.
pub(super) struct Desk<'c> {
    pub(super) call: &'c Call<'c>,
    pub(super) user: UserAuth,
    tabs: Tabs,
}

/// A page that asks whether something shall be done that is not easily undone.
pub(super) struct Question<'q> {
    pub(super) title: &'q str,
    /// Where the answer goes, and what it says in its field `action`.
    pub(super) to: &'q str,
    pub(super) action: &'q str,
    /// What follows from it.
    pub(super) text: &'q str,
    /// What else is asked.
    pub(super) fields: Html,
    /// What is wrong with an answer that was given before.
    pub(super) problem: Html,
    pub(super) button: &'q str,
    /// Whether it takes anything away.
    pub(super) is_harmless: bool,
    /// Where whoever does not want it goes.
    pub(super) back: &'q str,
}

/// One of one's own pages.
pub(super) fn account(call: &Call<'_>, show: impl FnOnce(&Desk<'_>) -> Answer) -> Answer {
    let Some(user) = signed_in(call)? else { return Ok(sign_in_first(&here(call))) };
    show(&Desk { call, user, tabs: ACCOUNT })
}

/// A form of one of one's own pages.
pub(super) fn account_form(call: &Call<'_>, act: impl FnOnce(&Desk<'_>, &Query) -> Answer) -> Answer {
    let fields = form(call)?;
    account(call, |desk| act(desk, &fields))
}

/// A page of the administration.
pub(super) fn admin(call: &Call<'_>, show: impl FnOnce(&Desk<'_>) -> Answer) -> Answer {
    let Some(user) = signed_in(call)? else { return Ok(sign_in_first(&here(call))) };
    administrator(&user, "Only administrators may see and change this.")?;
    show(&Desk { call, user, tabs: ADMIN })
}

/// A form of a page of the administration.
pub(super) fn admin_form(call: &Call<'_>, act: impl FnOnce(&Desk<'_>, &Query) -> Answer) -> Answer {
    let fields = form(call)?;
    admin(call, |desk| act(desk, &fields))
}

impl Desk<'_> {
    /// Who acts, for the audit log.
    pub(super) fn by(&self) -> By {
        self.user.by(&self.call.peer)
    }

    /// The hidden field of every form.
    pub(super) fn csrf(&self) -> Html {
        Frame::of(self.call, &self.user).csrf
    }

    /// What is around a page that is made later.
    pub(super) fn board(&self) -> Board {
        let tabs = self.tabs.iter().map(|(path, label)| {
            let rest = self.call.path.strip_prefix(path);
            let current = match rest {
                Some("") => " aria-current=\"page\"",
                Some(rest) if rest.starts_with('/') => " aria-current=\"true\"",
                _ => "",
            };
            let values = [("path", text(path)), ("label", text(label)), ("current", Html::of(current))];
            fill(include_str!("../menu-item.html"), &values)
        });
        let label = if self.tabs == ADMIN { "Administration" } else { "Your account" };
        let tabs = [("label", text(label)), ("items", Html::join(tabs))];
        let teller = self.teller();
        let said = teller.take(self.call);
        Board {
            frame: Frame::of(self.call, &self.user),
            tabs: fill(include_str!("tabs.html"), &tabs),
            said: said.as_deref().map(|said| fill(include_str!("said.html"), &[("text", text(said))])),
            teller,
        }
    }

    /// A page.
    pub(super) fn page(&self, status: u16, title: &str, content: Html) -> Reply {
        self.board().page(status, title, content)
    }

    /// A page with lines that are there to be copied. It goes without its script, too.
    pub(super) fn copyable(&self, title: &str, content: Html) -> Reply {
        self.board().show(content, |frame, content| frame.live(title, "copy.js", content))
    }

    /// Something was done: the browser goes to `path`, whose page says so once.
    pub(super) fn done(&self, path: &str, said: &str) -> Reply {
        self.teller().done(path, said)
    }

    /// Says it on behalf of this page, also later.
    pub(super) fn teller(&self) -> Teller {
        Teller::of(self.call, &self.user.key().id)
    }

    /// The page of a question.
    pub(super) fn ask(&self, status: u16, question: Question<'_>) -> Reply {
        let content = fill(
            include_str!("question.html"),
            &[
                ("title", text(question.title)),
                ("to", text(question.to)),
                ("action", text(question.action)),
                ("csrf", self.csrf()),
                ("problem", question.problem),
                ("text", text(question.text)),
                ("fields", question.fields),
                ("button", text(question.button)),
                ("class", Html::of(if question.is_harmless { "" } else { "danger" })),
                ("back", text(question.back)),
            ],
        );
        self.page(status, question.title, content)
    }
}

/// What is around a page; outlives the request.
pub(super) struct Board {
    frame: Frame,
    tabs: Html,
    said: Option<Html>,
    teller: Teller,
}

impl Board {
    /// A page.
    pub(super) fn page(self, status: u16, title: &str, content: Html) -> Reply {
        self.show(content, |frame, content| frame.page(status, title, content))
    }

    fn show(self, content: Html, show: impl FnOnce(Frame, Html) -> Reply) -> Reply {
        let was_said = self.said.is_some();
        let content = Html::join([self.tabs, self.said.unwrap_or_default(), content]);
        let reply = show(self.frame, content);
        if was_said { reply.header("Set-Cookie", self.teller.silence()) } else { reply }
    }
}

/// The status of a form that is shown again because of this; other errors are no matter of the form.
pub(super) fn mendable(error: Error) -> Result<(u16, Error), Error> {
    match error.fault {
        Fault::Invalid => Ok((400, error)),
        Fault::NotFound => Ok((404, error)),
        Fault::Conflict => Ok((409, error)),
        _ => Err(error),
    }
}
