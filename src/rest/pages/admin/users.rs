//! People: who there is, and how one is added.

use super::super::html::{Html, fill, text};
use super::super::parts::{self, Desk, Form, cell, link, state, table, when};
use super::{SHOWN, left_out};
use crate::domain::users::{self, NewUser};
use crate::domain::{Error, Fault, tokens};
use crate::rest::reply::Reply;
use crate::rest::request::Call;
use crate::rest::users::Wanted;
use crate::store::users::{self as stored, Status, User};

pub(super) const PATH: &str = "/admin/users";

const FIELDS: &[&str] = &["name", "email", "full_name", "admin", "password"];
/// Letters and digits of a password that the server makes: 119 bits.
const PASSWORD_CHARS: usize = 20;

/// `GET /admin/users`.
pub(in crate::rest) fn list(call: &Call<'_>) -> Result<Reply, Error> {
    parts::admin(call, |desk| {
        let asked = call.query.text("q").trim();
        let wanted = Wanted::of(asked);
        let (wanted, problem) = match wanted {
            Ok(wanted) => (wanted, None),
            Err(error) if error.fault == Fault::Invalid => (Wanted::default(), Some(error)),
            Err(error) => return Err(error),
        };
        let mut found = call.service.app.store.read(|conn| stored::list(conn).map_err(Error::from))?;
        found.retain(|user| wanted.fits(user));
        let rows = found.iter().take(SHOWN).map(row).collect();
        let columns = ["Name", "E-mail address", "Role", "State", "Last seen"];
        let form = match &problem {
            Some(error) => Form::again(&[], &call.query, error),
            None => Form::new(&[]),
        };
        let values = [
            ("problem", form.problem()),
            ("query", text(asked)),
            ("table", table("Users", &columns, rows, "There is nobody of that kind.")),
            ("left_out", text(&left_out(found.len()))),
        ];
        let status = if problem.is_some() { 400 } else { 200 };
        Ok(desk.page(status, "Users", fill(include_str!("users.html"), &values)))
    })
}

fn row(user: &User) -> Vec<Html> {
    vec![
        cell(link(&format!("{PATH}/{}", user.username), &user.username), &user.full_name),
        text(&user.email),
        role(user),
        standing(user),
        user.last_seen_at.map_or_else(|| text("never"), when),
    ]
}

pub(super) fn role(user: &User) -> Html {
    text(if user.is_admin { "Administrator" } else { "Member" })
}

pub(super) fn standing(user: &User) -> Html {
    match user.status {
        Status::Active => state("active", "good"),
        Status::Suspended => state("suspended", "bad"),
    }
}

/// `GET /admin/users/new`.
pub(in crate::rest) fn new(call: &Call<'_>) -> Result<Reply, Error> {
    parts::admin(call, |desk| Ok(show_form(desk, 200, Form::new(FIELDS))))
}

fn show_form(desk: &Desk<'_>, status: u16, form: Form<'_>) -> Reply {
    let plain = " autocomplete=\"off\" autocapitalize=\"none\" spellcheck=\"false\" required";
    let values = [
        ("csrf", desk.csrf()),
        ("problem", form.problem()),
        ("name", form.line("name", "Name", "", "1 to 32 letters, digits and single hyphens.", plain)),
        ("email", form.line("email", "E-mail address", "", "", plain)),
        ("full_name", form.line("full_name", "Full name", "", "May be left empty.", " autocomplete=\"off\"")),
        ("password", form.password("password", "Password", MADE, " autocomplete=\"new-password\"")),
        ("admin", form.tick("admin", "Administrator", "May do everything, also what is on these pages.")),
    ];
    desk.page(status, "Add a user", fill(include_str!("user-new.html"), &values))
}

/// Hint of a field for somebody else's password.
pub(super) const MADE: &str = "Leave it empty to have one made, which is then shown once.";

/// The password that was typed, or a new one; and whether it is new.
pub(super) fn typed_or_made(typed: &str) -> Result<(String, bool), Error> {
    if typed.is_empty() { Ok((tokens::random_text(PASSWORD_CHARS)?, true)) } else { Ok((typed.to_owned(), false)) }
}

/// `POST /admin/users/new`.
pub(in crate::rest) fn add(call: &Call<'_>) -> Result<Reply, Error> {
    parts::admin_form(call, |desk, fields| {
        let (password, made) = typed_or_made(fields.text("password"))?;
        let new = NewUser {
            name: fields.text("name").trim().to_owned(),
            email: fields.text("email").trim().to_owned(),
            full_name: fields.text("full_name").trim().to_owned(),
            admin: fields.text("admin") == "yes",
            password: Some(password.clone()),
        };
        let user = match users::add(&call.service.app.store, &desk.by(), new) {
            Ok(user) => user,
            Err(error) => {
                let (status, error) = parts::mendable(error)?;
                return Ok(show_form(desk, status, Form::again(FIELDS, fields, &error)));
            }
        };
        let said = format!("{} was added.", user.username);
        if made { Ok(show_password(desk, &user, &said, &password)) } else { Ok(desk.done(PATH, &said)) }
    })
}

/// A password that the server has made.
pub(super) fn show_password(desk: &Desk<'_>, user: &User, said: &str, password: &str) -> Reply {
    let values = [
        ("said", text(said)),
        ("name", text(&user.username)),
        ("password", text(password)),
        ("page", link(&format!("{PATH}/{}", user.username), &format!("To {}", user.username))),
    ];
    desk.copyable("Password", fill(include_str!("password-made.html"), &values))
}
