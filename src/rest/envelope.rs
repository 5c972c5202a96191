//! What an answer must know of its request. It owns what it holds, so an answer can be written when the
//! request is long forgotten.

use uuid::Uuid;

use super::limiter::Rate;
use super::pages;
use super::reply::Reply;
use super::request::Call;
use crate::domain::{Error, Fault};
use crate::model::version;

/// Taken from the request once it is known how it counts against the limits.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    pub id: Uuid,
    pub method: String,
    pub path: String,
    /// The version that this client is told.
    pub version: String,
    pub rate: Option<Rate>,
    /// The value of `Set-Cookie` that gives a browser its token against forged requests, if it has none.
    pub csrf_cookie: Option<String>,
    /// Errors go to somebody who looks at pages.
    wants_page: bool,
    /// The connection ends with the answer.
    pub closes: bool,
}

impl Envelope {
    /// For the answer to this request.
    pub(super) fn of(call: &Call<'_>) -> Envelope {
        Envelope {
            id: call.id,
            method: call.method.clone(),
            path: call.path.clone(),
            version: version::claimed(call.header("User-Agent")).into_owned(),
            rate: call.rate,
            csrf_cookie: csrf_cookie(call),
            wants_page: pages::are_wanted(call),
            closes: false,
        }
    }

    /// The connection ends with this answer.
    pub(super) fn closing(mut self) -> Envelope {
        self.closes = true;
        self
    }

    /// The answer, or how its failure looks to this client.
    pub(super) fn reply(&self, outcome: Result<Reply, Error>) -> Reply {
        match outcome {
            Ok(reply) => reply,
            Err(error) if self.wants_page => pages::error(&error, self),
            Err(error) => Reply::error(&error, self),
        }
    }

    /// The answer after a panic.
    pub(super) fn failed(&self) -> Reply {
        Reply::error(&Error::new(Fault::Internal, "The server failed to answer; its log says why."), self)
    }
}

/// Browsers get a token to send back with what they change; clients that are none ignore it.
fn csrf_cookie(call: &Call<'_>) -> Option<String> {
    if call.cookie(super::auth::CSRF_COOKIE).is_some() {
        return None;
    }
    let token = super::auth::csrf_token(call);
    let secure = if call.secure { "; Secure" } else { "" };
    let name = super::auth::CSRF_COOKIE;
    (!token.is_empty()).then(|| format!("{name}={token}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax{secure}"))
}
