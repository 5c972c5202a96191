//! What the page after a form says: once, to the session that sent the form. It travels in a cookie that only
//! this server can write, so neither a link nor another site of the domain puts words on our pages.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use super::super::see_other;
use crate::rest::reply::Reply;
use crate::rest::request::Call;

const COOKIE: &str = "moorline_said";
/// The browser forgets it after so many seconds, if no page has shown it.
const SECONDS: u32 = 60;
/// Longest message, characters: with base64 and its proof far below the 4 KiB that browsers keep.
const CHARS: usize = 400;

/// Has the next page of a session say something; outlives the request.
pub(in super::super) struct Teller {
    key: hmac::Key,
    session: String,
    secure: bool,
}

impl Teller {
    /// For the session with this id.
    pub(in super::super) fn of(call: &Call<'_>, session: &str) -> Teller {
        let secret = call.service.app.store.sealer().derive("message of a page");
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref());
        Teller { key, session: session.to_owned(), secure: call.secure }
    }

    /// The id of a session has no zero byte.
    fn proved(&self, said: &str) -> Vec<u8> {
        [self.session.as_bytes(), b"\0", said.as_bytes()].concat()
    }

    /// Something was done: the browser goes to `path`, whose page says so once.
    pub(in super::super) fn done(&self, path: &str, said: &str) -> Reply {
        let said: String = said.chars().take(CHARS).collect();
        let proof = hmac::sign(&self.key, &self.proved(&said));
        let value = format!("{}.{}", URL_SAFE_NO_PAD.encode(&said), URL_SAFE_NO_PAD.encode(proof));
        see_other(path).header("Set-Cookie", self.cookie(&value, SECONDS))
    }

    /// The value of `Set-Cookie` for when it was said.
    pub(super) fn silence(&self) -> String {
        self.cookie("", 0)
    }

    fn cookie(&self, value: &str, seconds: u32) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
    }

    /// What is to be said.
    pub(super) fn take(&self, call: &Call<'_>) -> Option<String> {
        let (said, proof) = call.cookie(COOKIE)?.split_once('.')?;
        let said = String::from_utf8(URL_SAFE_NO_PAD.decode(said).ok()?).ok()?;
        let proof = URL_SAFE_NO_PAD.decode(proof).ok()?;
        hmac::verify(&self.key, &self.proved(&said), &proof).ok()?;
        Some(said)
    }
}
