//! `limit`, `offset` and `after_id` of lists (coder v2.24.0 coderd/pagination.go).

use uuid::Uuid;

use super::request::Call;
use crate::domain::{Error, Fault};

/// A part of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Page {
    /// At most so many; `None`: all.
    pub limit: Option<usize>,
    /// Without the first so many.
    pub offset: usize,
    /// What follows this one.
    pub after_id: Option<Uuid>,
}

impl Page {
    /// Reads the parameters; everything that is wrong with them is said.
    pub(super) fn of(call: &Call<'_>) -> Result<Page, Error> {
        let mut error = Error::new(Fault::Invalid, "Query parameters have invalid values.");
        let mut number = |key: &'static str| match call.query.text(key) {
            "" => 0,
            text => text.parse::<i32>().ok().and_then(|number| usize::try_from(number).ok()).unwrap_or_else(|| {
                let shown: String = text.chars().take(64).collect();
                error.fields.push(crate::domain::Field {
                    field: key.into(),
                    detail: format!("{shown:?} is not a whole number from 0 to {}.", i32::MAX),
                });
                0
            }),
        };
        let (limit, offset) = (number("limit"), number("offset"));
        let after_id = match call.query.text("after_id") {
            "" => None,
            text => match Uuid::try_parse(text) {
                Ok(id) => Some(id),
                Err(why) => {
                    error = error.field("after_id", why.to_string());
                    None
                }
            },
        };
        if error.fields.is_empty() {
            Ok(Page { limit: (limit > 0).then_some(limit), offset, after_id })
        } else {
            Err(error)
        }
    }

    /// The part of `all` that `limit` and `offset` ask for.
    pub(super) fn take<T>(self, all: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        all.skip(self.offset).take(self.limit.unwrap_or(usize::MAX))
    }
}
