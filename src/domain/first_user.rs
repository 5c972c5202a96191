//! The administrator that a new file begins with.

use super::sessions::{self, TokenSpec};
use super::users::{self, NewUser};
use super::{Error, passwords, tokens};
use crate::config::limits;
use crate::model::Timestamp;
use crate::store::audit::{Actor, By};
use crate::store::keys::{LoginType, Scope};
use crate::store::{self, Store};

/// Characters of the generated password: 119 bits.
const PASSWORD_CHARS: usize = 20;
/// Their name.
const NAME: &str = "admin";

/// The administrator of a new file; shown once.
pub struct FirstAdmin {
    /// The person's name.
    pub name: String,
    /// In the clear.
    pub password: String,
    /// `ID-SECRET`.
    pub token: String,
}

/// Makes an administrator with a password and a session token, if the file has no user at all. Nobody else
/// can do so: `POST /api/v2/users/first` is refused, so that a new server cannot be claimed from the network.
pub fn create(store: &Store) -> Result<Option<FirstAdmin>, Error> {
    if !store.read(|conn| store::users::list(conn).map_err(Error::from))?.is_empty() {
        return Ok(None);
    }
    let password = tokens::random_text(PASSWORD_CHARS)?;
    let hash = passwords::hash(&password)?;
    let handle = store.clone();
    let by = By::from(&Actor::Operator("first start".into()));
    let token = store.write(move |write| {
        let new = NewUser {
            name: NAME.into(),
            email: "admin@localhost".into(),
            full_name: String::new(),
            admin: true,
            password: None,
        };
        let user = users::insert(write, &handle, &by, new, Some(hash), Timestamp::now())?;
        let spec = TokenSpec {
            login_type: LoginType::Token,
            name: "first-start".into(),
            lifetime: limits::TOKEN_LIFETIME,
            scope: Scope::All,
        };
        sessions::insert(write, &by, &user, spec)
    })?;
    Ok(Some(FirstAdmin { name: NAME.into(), password, token: token.to_string() }))
}
