//! What a plugin implements, and what a call may come to.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::abi::{self, Status};
use crate::host::Host;
use crate::schema::{
    Anchors, Authorize, AuthorizeRequest, Description, Device, DevicePoll, ExchangeRequest, GitCredentials,
    Installations, Kind, Provider, RefreshRequest, Refused, RevokeRequest, Setup, Token, TokenRequest, Validity,
    Verified, VerifyRequest,
};

/// A result, or why there is none.
pub type Answer<T> = Result<T, Refusal>;

/// Why there is no result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// One of the statuses of [`abi`], not [`abi::OK`].
    pub status: Status,
    /// What the host is told.
    pub refused: Refused,
}

impl Refusal {
    fn new(status: Status, code: &str, message: impl Into<String>) -> Refusal {
        Refusal { status, refused: Refused { code: code.to_owned(), message: message.into(), retry_after: None } }
    }

    /// The request was understood and is refused.
    pub fn refused(code: &str, message: impl Into<String>) -> Refusal {
        Refusal::new(abi::REFUSED, code, message)
    }

    /// Nothing can be said now.
    pub fn unavailable(code: &str, message: impl Into<String>) -> Refusal {
        Refusal::new(abi::UNAVAILABLE, code, message)
    }

    /// The request is not what the contract asks for.
    pub fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(abi::INVALID, "invalid", message)
    }

    /// There is no such method.
    pub fn unsupported(message: impl Into<String>) -> Refusal {
        Refusal::new(abi::UNSUPPORTED, "unsupported", message)
    }

    /// The plugin has a fault.
    pub fn failed(message: impl Into<String>) -> Refusal {
        Refusal::new(abi::FAILED, "failed", message)
    }

    /// When it makes sense to try again.
    pub fn retry_after(mut self, seconds: u64) -> Refusal {
        self.refused.retry_after = Some(seconds);
        self
    }
}

/// Anything that can stand behind the exported symbol; made of an [`Identity`] or an [`ExternalAuth`].
pub trait Instance: Send + Sync + Sized + 'static {
    /// What this is.
    fn describe() -> Description;
    /// An instance for one provider.
    fn create(setup: Setup, host: Host) -> Answer<Self>;
    /// Runs a method; JSON in, JSON out.
    fn call(&self, method: &str, request: &[u8]) -> Answer<Vec<u8>>;
}

/// Proves which machine speaks.
pub trait Identity: Send + Sync + Sized + 'static {
    /// Short name: lower-case letters, digits, hyphens.
    const NAME: &'static str;
    /// The plugin's own version; `env!("CARGO_PKG_VERSION")` does.
    const VERSION: &'static str;
    /// Clouds that it knows.
    const SERVES: &'static [&'static str];

    /// An instance for one provider. What is wrong with the settings or anchors is refused here.
    fn create(setup: Setup, host: Host) -> Answer<Self>;

    /// Looks at what a machine has sent, and says which one it is.
    fn verify(&self, request: VerifyRequest) -> Answer<Verified>;

    /// What it trusts at present.
    fn anchors(&self) -> Answer<Anchors> {
        Ok(Anchors::default())
    }
}

/// Signs people in at a provider. Methods that are not overridden are not supported; name those that are in
/// [`ExternalAuth::CAPABILITIES`].
pub trait ExternalAuth: Send + Sync + Sized + 'static {
    /// Short name: lower-case letters, digits, hyphens.
    const NAME: &'static str;
    /// The plugin's own version; `env!("CARGO_PKG_VERSION")` does.
    const VERSION: &'static str;
    /// Provider types that it knows.
    const SERVES: &'static [&'static str];
    /// Methods beyond `authorize`, `exchange` and `git_credentials` that it has.
    const CAPABILITIES: &'static [&'static str] = &[];

    /// An instance for one provider. What is wrong with the settings is refused here.
    fn create(setup: Setup, host: Host) -> Answer<Self>;

    /// The settings with everything filled in.
    fn defaults(&self) -> Answer<Provider>;

    /// Where to send the browser.
    fn authorize(&self, request: AuthorizeRequest) -> Answer<Authorize>;

    /// Turns the code that the browser brought into a token.
    fn exchange(&self, request: ExchangeRequest) -> Answer<Token>;

    /// Turns a refresh token into a new token.
    fn refresh(&self, request: RefreshRequest) -> Answer<Token> {
        let _ = request;
        Err(Refusal::unsupported("This provider does not refresh tokens."))
    }

    /// Asks the provider whether a token is good.
    fn validate(&self, request: TokenRequest) -> Answer<Validity> {
        let _ = request;
        Err(Refusal::unsupported("This provider does not validate tokens."))
    }

    /// Where the provider's app is installed.
    fn installations(&self, request: TokenRequest) -> Answer<Installations> {
        let _ = request;
        Err(Refusal::unsupported("This provider has no app."))
    }

    /// Begins a device flow.
    fn device_start(&self) -> Answer<Device> {
        Err(Refusal::unsupported("This provider has no device flow."))
    }

    /// Asks whether the person is done.
    fn device_poll(&self, request: DevicePoll) -> Answer<Token> {
        let _ = request;
        Err(Refusal::unsupported("This provider has no device flow."))
    }

    /// Makes a token worthless.
    fn revoke(&self, request: RevokeRequest) -> Answer<()> {
        let _ = request;
        Err(Refusal::unsupported("This provider does not revoke tokens."))
    }

    /// What git is told for a token.
    fn git_credentials(&self, request: TokenRequest) -> Answer<GitCredentials> {
        Ok(GitCredentials { username: request.access_token, password: String::new() })
    }
}

/// An [`Identity`] behind the exported symbol.
pub struct OfIdentity<T>(T);

impl<T: Identity> Instance for OfIdentity<T> {
    fn describe() -> Description {
        Description {
            name: T::NAME.to_owned(),
            version: T::VERSION.to_owned(),
            kind: Kind::Identity,
            capabilities: vec![abi::CONCURRENT.to_owned()],
            serves: T::SERVES.iter().map(|one| (*one).to_owned()).collect(),
        }
    }

    fn create(setup: Setup, host: Host) -> Answer<Self> {
        T::create(setup, host).map(OfIdentity)
    }

    fn call(&self, method: &str, request: &[u8]) -> Answer<Vec<u8>> {
        match method {
            "verify" => answer(self.0.verify(parse(request)?)),
            "anchors" => answer(self.0.anchors()),
            _ => Err(unknown(method)),
        }
    }
}

/// An [`ExternalAuth`] behind the exported symbol.
pub struct OfExternalAuth<T>(T);

impl<T: ExternalAuth> Instance for OfExternalAuth<T> {
    fn describe() -> Description {
        let words = [abi::CONCURRENT].iter().chain(T::CAPABILITIES);
        Description {
            name: T::NAME.to_owned(),
            version: T::VERSION.to_owned(),
            kind: Kind::ExternalAuth,
            capabilities: words.map(|word| (*word).to_owned()).collect(),
            serves: T::SERVES.iter().map(|one| (*one).to_owned()).collect(),
        }
    }

    fn create(setup: Setup, host: Host) -> Answer<Self> {
        T::create(setup, host).map(OfExternalAuth)
    }

    fn call(&self, method: &str, request: &[u8]) -> Answer<Vec<u8>> {
        let plugin = &self.0;
        match method {
            "defaults" => answer(plugin.defaults()),
            "authorize" => answer(plugin.authorize(parse(request)?)),
            "exchange" => answer(plugin.exchange(parse(request)?)),
            "refresh" => answer(plugin.refresh(parse(request)?)),
            "validate" => answer(plugin.validate(parse(request)?)),
            "installations" => answer(plugin.installations(parse(request)?)),
            "device_start" => answer(plugin.device_start()),
            "device_poll" => answer(plugin.device_poll(parse(request)?)),
            "revoke" => answer(plugin.revoke(parse(request)?)),
            "git_credentials" => answer(plugin.git_credentials(parse(request)?)),
            _ => Err(unknown(method)),
        }
    }
}

fn unknown(method: &str) -> Refusal {
    Refusal::unsupported(format!("There is no method {method:?}."))
}

fn parse<T: DeserializeOwned>(request: &[u8]) -> Answer<T> {
    serde_json::from_slice(request).map_err(|error| Refusal::invalid(format!("The request is not as agreed: {error}.")))
}

fn answer<T: Serialize>(result: Answer<T>) -> Answer<Vec<u8>> {
    let value = result?;
    serde_json::to_vec(&value).map_err(|error| Refusal::failed(format!("The reply cannot be written: {error}.")))
}
