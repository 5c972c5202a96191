//! Fields of forms: each with its label, a hint, and what is wrong with what was typed.

use super::super::html::{Html, fill, text};
use crate::domain::Error;
use crate::rest::request::Query;

/// A form with what was typed into it, if it is shown again.
#[derive(Clone, Copy)]
pub(in super::super) struct Form<'f> {
    given: Option<&'f Query>,
    error: Option<&'f Error>,
    /// The fields that it has.
    names: &'static [&'static str],
}

impl<'f> Form<'f> {
    /// An empty one.
    pub(in super::super) fn new(names: &'static [&'static str]) -> Form<'f> {
        Form { given: None, error: None, names }
    }

    /// One with what was asked for before.
    pub(in super::super) fn with(names: &'static [&'static str], given: &'f Query) -> Form<'f> {
        Form { given: Some(given), error: None, names }
    }

    /// One that was sent and not taken.
    pub(in super::super) fn again(names: &'static [&'static str], given: &'f Query, error: &'f Error) -> Form<'f> {
        Form { given: Some(given), error: Some(error), names }
    }

    /// What was typed, or what stands there at first.
    fn value(&self, name: &str, first: &'f str) -> &'f str {
        self.given.and_then(|given| given.get(name)).unwrap_or(first)
    }

    fn wrong(&self, name: &str) -> Option<&'f str> {
        let fields = &self.error?.fields;
        fields.iter().find(|field| field.field == name).map(|field| field.detail.as_str())
    }

    /// What is wrong with the whole; also with fields that it does not have.
    pub(in super::super) fn problem(&self) -> Html {
        let Some(error) = self.error else { return Html::default() };
        let mut said = error.message.clone();
        if !error.detail.is_empty() {
            said.push(' ');
            said.push_str(&error.detail);
        }
        for field in error.fields.iter().filter(|field| !self.names.contains(&field.field.as_str())) {
            said.push_str(&format!(" {}: {}", field.field, field.detail));
        }
        fill(include_str!("../problem.html"), &[("message", text(&said))])
    }

    /// The notes below a field, and the attributes that point to them.
    fn notes(&self, name: &str, hint: &str) -> (Html, Html) {
        let wrong = self.wrong(name);
        let mut marks = Vec::new();
        let mut ids = Vec::new();
        let mut notes = Vec::new();
        if !hint.is_empty() {
            ids.push(format!("{name}-hint"));
            notes.push(fill(include_str!("hint.html"), &[("name", text(name)), ("text", text(hint))]));
        }
        if let Some(wrong) = wrong {
            ids.push(format!("{name}-wrong"));
            let values = [("name", text(name)), ("text", text(&sentence(wrong)))];
            notes.push(fill(include_str!("wrong.html"), &values));
            marks.push(Html::of(" aria-invalid=\"true\""));
        }
        if !ids.is_empty() {
            marks.push(fill(" aria-describedby=\"{{ids}}\"", &[("ids", text(&ids.join(" ")))]));
        }
        (Html::join(notes), Html::join(marks))
    }

    /// One line of text. `more` are further attributes.
    pub(in super::super) fn line(
        &self,
        name: &str,
        label: &str,
        first: &'f str,
        hint: &str,
        more: &'static str,
    ) -> Html {
        self.input(name, label, "text", self.value(name, first), hint, more)
    }

    /// A password; what was typed is not shown again.
    pub(in super::super) fn password(&self, name: &str, label: &str, hint: &str, more: &'static str) -> Html {
        self.input(name, label, "password", "", hint, more)
    }

    fn input(&self, name: &str, label: &str, kind: &str, value: &str, hint: &str, more: &'static str) -> Html {
        let (notes, marks) = self.notes(name, hint);
        fill(
            include_str!("field.html"),
            &[
                ("name", text(name)),
                ("label", text(label)),
                ("kind", text(kind)),
                ("value", text(value)),
                ("more", Html::of(more)),
                ("marks", marks),
                ("notes", notes),
            ],
        )
    }

    /// One of several; value and label of each.
    pub(in super::super) fn choice<'o>(
        &self,
        name: &str,
        label: &str,
        first: &'f str,
        hint: &str,
        options: impl IntoIterator<Item = (&'o str, &'o str)>,
    ) -> Html {
        let chosen = self.value(name, first);
        let options = options.into_iter().map(|(value, label)| {
            let selected = Html::of(if value == chosen { " selected" } else { "" });
            fill(include_str!("option.html"), &[("value", text(value)), ("selected", selected), ("label", text(label))])
        });
        let options = Html::join(options);
        let (notes, marks) = self.notes(name, hint);
        let values =
            [("name", text(name)), ("label", text(label)), ("marks", marks), ("options", options), ("notes", notes)];
        fill(include_str!("choice.html"), &values)
    }

    /// Yes or no.
    pub(in super::super) fn tick(&self, name: &str, label: &str, hint: &str) -> Html {
        let (notes, marks) = self.notes(name, hint);
        let checked = Html::of(if self.value(name, "") == "yes" { " checked" } else { "" });
        let values =
            [("name", text(name)), ("label", text(label)), ("marks", marks), ("checked", checked), ("notes", notes)];
        fill(include_str!("tick.html"), &values)
    }
}

/// What rules say of a field begins where its name ends: "must have at least 8 characters".
fn sentence(clause: &str) -> String {
    let mut letters = clause.chars();
    let Some(first) = letters.next() else { return String::new() };
    let end = if clause.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{}{}{end}", first.to_uppercase(), letters.as_str())
}
