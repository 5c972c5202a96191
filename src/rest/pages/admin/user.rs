//! One person, and what an administrator may do with them.

use super::super::html::{Html, fill, text};
use super::super::moment;
use super::super::parts::{self, Desk, Form, Question, link};
use super::users::{self as list, MADE, PATH};
use crate::domain::{Error, Fault, users};
use crate::rest::auth::person;
use crate::rest::reply::Reply;
use crate::rest::request::{Call, Query};
use crate::rest::users as rules;
use crate::store::users::{Status, User};
use crate::store::{keys, workspaces};

const PASSWORD: &[&str] = &["password"];
const REMOVE: &[&str] = &["confirm", "with_workspaces"];

/// What can be done with a person, as paths and fields have it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Suspend,
    Activate,
    MakeAdmin,
    MakeMember,
    Password,
    Remove,
}

impl Deed {
    const ALL: [Deed; 6] =
        [Deed::Suspend, Deed::Activate, Deed::MakeAdmin, Deed::MakeMember, Deed::Password, Deed::Remove];

    fn word(self) -> &'static str {
        match self {
            Deed::Suspend => "suspend",
            Deed::Activate => "activate",
            Deed::MakeAdmin => "make-admin",
            Deed::MakeMember => "make-member",
            Deed::Password => "password",
            Deed::Remove => "remove",
        }
    }

    fn of(word: &str) -> Result<Deed, Error> {
        let found = Deed::ALL.into_iter().find(|deed| deed.word() == word);
        found.ok_or_else(|| Error::new(Fault::NotFound, "There is no such page on this server."))
    }

    fn label(self) -> &'static str {
        match self {
            Deed::Suspend => "Suspend…",
            Deed::Activate => "Activate…",
            Deed::MakeAdmin => "Make an administrator…",
            Deed::MakeMember => "Make a member…",
            Deed::Password => "Set a new password…",
            Deed::Remove => "Remove…",
        }
    }

    /// Whether it makes sense for somebody; what concerns oneself, another administrator has to do.
    fn fits(self, user: &User, is_self: bool) -> bool {
        match self {
            Deed::Suspend => !is_self && user.status == Status::Active,
            Deed::Activate => user.status == Status::Suspended,
            Deed::MakeAdmin => !user.is_admin,
            Deed::MakeMember => !is_self && user.is_admin,
            Deed::Password | Deed::Remove => !is_self,
        }
    }
}

/// The person in the path.
fn target(desk: &Desk<'_>) -> Result<User, Error> {
    let found = desk.call.service.app.store.read(|conn| person(conn, &desk.user.user, desk.call.param(0)))?;
    found.ok_or_else(|| Error::new(Fault::NotFound, "There is no such user."))
}

fn page_of(user: &User) -> String {
    format!("{PATH}/{}", user.username)
}

/// `GET /admin/users/{user}`.
pub(in crate::rest) fn show(call: &Call<'_>) -> Result<Reply, Error> {
    parts::admin(call, |desk| {
        let user = target(desk)?;
        let (owned, tokens) = call.service.app.store.read(|conn| -> Result<_, Error> {
            Ok((workspaces::list(conn, Some(user.id))?, keys::list(conn, Some(user.id))?.len()))
        })?;
        let is_self = user.id == desk.user.user.id;
        let own = owned.iter().take(super::SHOWN).map(|workspace| {
            let path = format!("{}/{}/{}", super::workspaces::PATH, workspace.owner_name, workspace.name);
            fill("<li>{{link}}</li>", &[("link", link(&path, &workspace.name))])
        });
        let own = match owned.len() {
            0 => text("none"),
            _ => fill("<ul class=\"plain\">{{items}}</ul>", &[("items", Html::join(own))]),
        };
        let deeds = Deed::ALL.into_iter().filter(|deed| deed.fits(&user, is_self)).map(|deed| {
            fill("<li>{{link}}</li>\n", &[("link", link(&format!("{}/{}", page_of(&user), deed.word()), deed.label()))])
        });
        let deeds = Html::join(deeds);
        let values = [
            ("name", text(&user.username)),
            ("full_name", text(if user.full_name.is_empty() { "–" } else { &user.full_name })),
            ("email", text(&user.email)),
            ("role", list::role(&user)),
            ("state", list::standing(&user)),
            ("password", text(if user.password_hash.is_some() { "set" } else { "none: no sign-in on pages" })),
            ("created", moment(user.created_at)),
            ("seen", user.last_seen_at.map_or_else(|| text("never"), moment)),
            ("tokens", text(&tokens.to_string())),
            ("workspaces", own),
            ("deeds", deeds),
            (
                "note",
                text(if is_self { "This is you: what is missing here, another administrator can do." } else { "" }),
            ),
        ];
        Ok(desk.page(200, &user.username, fill(include_str!("user.html"), &values)))
    })
}

/// `GET /admin/users/{user}/{deed}`: asks whether it shall be done.
pub(in crate::rest) fn ask(call: &Call<'_>) -> Result<Reply, Error> {
    parts::admin(call, |desk| {
        let deed = Deed::of(call.param(1))?;
        let user = target(desk)?;
        let names = if deed == Deed::Password { PASSWORD } else { REMOVE };
        question(desk, 200, deed, &user, Form::new(names))
    })
}

fn question(desk: &Desk<'_>, status: u16, deed: Deed, user: &User, form: Form<'_>) -> Result<Reply, Error> {
    let name = &user.username;
    let (title, said, button) = match deed {
        Deed::Suspend => (
            format!("Suspend {name}?"),
            "They cannot sign in any more, and what they have open ends at once. Their machines go on, and nothing \
             is deleted.",
            "Suspend",
        ),
        Deed::Activate => {
            (format!("Activate {name}?"), "They can sign in again, with the tokens that they had.", "Activate")
        }
        Deed::MakeAdmin => (
            format!("Make {name} an administrator?"),
            "They may then do everything: see all machines, remove people, and take your own role away. What they \
             have open ends at once.",
            "Make an administrator",
        ),
        Deed::MakeMember => (
            format!("Make {name} a member?"),
            "They keep what is theirs and may not administer any more. What they have open ends at once.",
            "Make a member",
        ),
        Deed::Password => (
            format!("New password for {name}"),
            "All of their sessions and tokens are revoked: browsers, command lines and programs have to sign in anew. \
             Their machines go on.",
            "Set the password",
        ),
        Deed::Remove => (
            format!("Remove {name}?"),
            "Their tokens, their SSH key and their linked accounts are deleted. This cannot be undone.",
            "Remove",
        ),
    };
    let fields = match deed {
        Deed::Password => form.password("password", "New password", MADE, " autocomplete=\"new-password\""),
        Deed::Remove => remove_fields(desk, user, form)?,
        _ => Html::default(),
    };
    Ok(desk.ask(
        status,
        Question {
            title: &title,
            to: &page_of(user),
            action: deed.word(),
            text: said,
            fields,
            problem: form.problem(),
            button,
            is_harmless: deed == Deed::Activate,
            back: &page_of(user),
        },
    ))
}

fn remove_fields(desk: &Desk<'_>, user: &User, form: Form<'_>) -> Result<Html, Error> {
    let store = &desk.call.service.app.store;
    let owned = store.read(|conn| workspaces::list(conn, Some(user.id)).map_err(Error::from))?;
    let names: Vec<&str> = owned.iter().map(|workspace| workspace.name.as_str()).collect();
    let tick = match names.len() {
        0 => Html::default(),
        count => {
            let some: Vec<&str> = names.into_iter().take(10).collect();
            let more = if count > some.len() { format!(" and {} more", count - some.len()) } else { String::new() };
            let hint = format!("{}{more}. Their machines are cut off.", some.join(", "));
            form.tick("with_workspaces", "Remove their workspaces, too", &hint)
        }
    };
    let label = format!("To confirm, type the name: {}", user.username);
    let typed = " autocomplete=\"off\" autocapitalize=\"none\" spellcheck=\"false\" required";
    Ok(Html::join([tick, form.line("confirm", &label, "", "", typed)]))
}

/// `POST /admin/users/{user}`: does it.
pub(in crate::rest) fn act(call: &Call<'_>) -> Result<Reply, Error> {
    parts::admin_form(call, |desk, fields| {
        let deed = Deed::of(fields.text("action"))?;
        let target = target(desk)?;
        match done(desk, deed, &target, fields) {
            Ok(reply) => Ok(reply),
            Err(error) => {
                let (status, error) = parts::mendable(error)?;
                let names = if deed == Deed::Password { PASSWORD } else { REMOVE };
                question(desk, status, deed, &target, Form::again(names, fields, &error))
            }
        }
    })
}

fn done(desk: &Desk<'_>, deed: Deed, user: &User, fields: &Query) -> Result<Reply, Error> {
    let (call, by, name) = (desk.call, &desk.user, &user.username);
    let page = page_of(user);
    let said = match deed {
        Deed::Suspend => {
            rules::set_status(call, by, user, Status::Suspended)?;
            format!("{name} is suspended.")
        }
        Deed::Activate => {
            rules::set_status(call, by, user, Status::Active)?;
            format!("{name} may sign in again.")
        }
        Deed::MakeAdmin => {
            rules::set_admin(call, by, user, true)?;
            format!("{name} is an administrator.")
        }
        Deed::MakeMember => {
            rules::set_admin(call, by, user, false)?;
            format!("{name} is a member.")
        }
        // One's own needs the old one.
        Deed::Password if user.id == desk.user.user.id => {
            return Err(Error::new(Fault::Invalid, "You change your own password under Account, Password."));
        }
        Deed::Password => {
            let (password, made) = list::typed_or_made(fields.text("password"))?;
            let store = &call.service.app.store;
            let (_, revoked) = users::set_password(store, &desk.by(), &user.id.to_string(), &password)?;
            let said = format!("{name} has a new password. Sessions and tokens revoked: {revoked}.");
            if made {
                return Ok(list::show_password(desk, user, &said, &password));
            }
            said
        }
        Deed::Remove => {
            if !fields.text("confirm").trim().eq_ignore_ascii_case(name) {
                let error = Error::new(Fault::Invalid, format!("{name} was not removed."));
                return Err(error.field("confirm", "Type the name to confirm."));
            }
            let gone = rules::remove(call, by, user, fields.text("with_workspaces") == "yes")?;
            let with = if gone.is_empty() { String::new() } else { format!(", with {}", gone.join(", ")) };
            return Ok(desk.done(PATH, &format!("{name} was removed{with}.")));
        }
    };
    Ok(desk.done(&page, &said))
}
