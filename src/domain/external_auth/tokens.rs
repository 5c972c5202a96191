//! Tokens as rows keep them: sealed, each for its own row.

use moorline_plugin::schema::Token;
use serde_json::Value;

use super::{App, Error, Fault};
use crate::model::{MICROS_PER_SECOND, Timestamp, UserId};
use crate::store::external_auth::{Link, State};

const TABLE: &str = "external_auth_links";

/// The key of a row, as sealed values are bound to it.
fn row(provider: &str, user: UserId) -> Vec<u8> {
    [provider.as_bytes(), &[0], user.as_bytes().as_slice()].concat()
}

/// A row for a token that a provider has just given.
pub(super) fn seal(app: &App, provider: &str, user: UserId, token: &Token, now: Timestamp) -> Result<Link, Error> {
    let sealed = |column: &str, plain: &[u8]| {
        app.store.sealer().seal(TABLE, column, &row(provider, user), plain).map_err(failed)
    };
    let extra = match &token.extra {
        None | Some(Value::Null) => None,
        Some(extra) => Some(sealed("extra_sealed", extra.to_string().as_bytes())?),
    };
    let refresh = match token.refresh_token.as_str() {
        "" => None,
        refresh => Some(sealed("refresh_sealed", refresh.as_bytes())?),
    };
    Ok(Link {
        provider: provider.to_owned(),
        user,
        created_at: now,
        updated_at: now,
        // Larger than any that the row had before it was removed and made again.
        version: now.0,
        access_sealed: sealed("access_sealed", token.access_token.as_bytes())?,
        refresh_sealed: refresh,
        extra_sealed: extra,
        expires_at: token.expires_at.map(|seconds| Timestamp(seconds.saturating_mul(MICROS_PER_SECOND))),
        state: State::Good,
        failure: String::new(),
    })
}

pub(super) fn access(app: &App, link: &Link) -> Result<String, Error> {
    open(app, link, "access_sealed", &link.access_sealed)
}

pub(super) fn refresh(app: &App, link: &Link) -> Result<Option<String>, Error> {
    link.refresh_sealed.as_deref().map(|sealed| open(app, link, "refresh_sealed", sealed)).transpose()
}

pub(super) fn extra(app: &App, link: &Link) -> Result<Option<Value>, Error> {
    let Some(sealed) = link.extra_sealed.as_deref() else { return Ok(None) };
    Ok(serde_json::from_str(&open(app, link, "extra_sealed", sealed)?).ok())
}

fn open(app: &App, link: &Link, column: &str, sealed: &[u8]) -> Result<String, Error> {
    let plain =
        app.store.sealer().open_sealed(TABLE, column, &row(&link.provider, link.user), sealed).map_err(failed)?;
    Ok(String::from_utf8_lossy(&plain).into_owned())
}

fn failed(error: crate::store::SealError) -> Error {
    Error::new(Fault::Internal, "A stored token cannot be sealed or opened.").detail(error.to_string())
}
