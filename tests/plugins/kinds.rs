//! Good plugins in C, one of each kind.

use moorline::config::providers::ProviderConfig;
use moorline::plugins::{CallError, Plugins};
use moorline_plugin::schema::{
    Authorize, AuthorizeRequest, ExchangeRequest, GitCredentials, Kind, Provider, Token, TokenRequest, Validity,
};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

use super::cc;
use super::rig::{Rig, identity, prove};

fn external_auth(id: &str) -> ProviderConfig {
    ProviderConfig {
        kind: Kind::ExternalAuth,
        kind_word: "plain".into(),
        settings: json!({"auth_url": "https://git.example.test/authorize"}),
        ..identity(id, &cc::library("external_auth", ""))
    }
}

#[test]
fn a_plugin_in_c_proves_machines() {
    let rig = Rig::new([]);
    assert_eq!(prove(&rig, "good"), Ok("i-123".into()));
    let verify = |fields| rig.call("good", "verify", &json!({"fields": fields}));
    let claims = verify(json!({"document": "ab", "signature": "ba"})).unwrap();
    assert_eq!(claims, json!({"instance_id": "ab", "claims": {"checked_by": "C"}}));
    match verify(json!({"document": "ab", "signature": "ab"})) {
        Err(CallError::Refused(refused)) => {
            assert_eq!((&*refused.code, &*refused.message), ("bad_signature", "It is not backwards."));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(verify(json!({})), Err(CallError::Invalid(refused)) if refused.code == "malformed"));
    assert_eq!(rig.call("good", "anchors", &json!({})), Ok(json!({"anchors": []})));
    let description = rig.status("good").description.unwrap();
    assert_eq!((&*description.name, &*description.version), ("backwards", "1.0.0"));
}

#[test]
fn a_plugin_in_c_signs_people_in_and_its_cache_outlives_it() {
    let rig = Rig::new([external_auth("plain")]);
    let plain = rig.provider("plain");
    let plugins = &rig.app.plugins;
    let provider: Provider = plugins.call(&plain, "defaults", &json!({})).unwrap();
    assert_eq!((&*provider.display_name, provider.git), ("Plain", true));
    let request = AuthorizeRequest { state: "s1".into(), ..AuthorizeRequest::default() };
    let authorize: Authorize = plugins.call(&plain, "authorize", &request).unwrap();
    assert_eq!(authorize.url, "https://git.example.test/authorize?state=s1");
    let request = ExchangeRequest { code: "c1".into(), ..ExchangeRequest::default() };
    let token: Token = plugins.call(&plain, "exchange", &request).unwrap();
    assert_eq!((&*token.access_token, token.expires_at), ("c1", None));
    let request = TokenRequest { access_token: "c1".into() };
    let git: GitCredentials = plugins.call(&plain, "git_credentials", &request).unwrap();
    assert_eq!((&*git.username, &*git.password), ("oauth2", "c1"));
    let revoked = rig.call("plain", "revoke", &json!({"access_token": "c1"}));
    assert!(matches!(revoked, Err(CallError::Unsupported(_))));
    // What it keeps is there for its next process.
    plugins.stop();
    let again = Plugins::new(&[Arc::clone(&plain)], &rig.app.store, Path::new(env!("CARGO_BIN_EXE_moorline")));
    let validity: Validity = again.call(&plain, "validate", &request).unwrap();
    assert!(validity.valid);
    again.stop();
}

/// Ids are unique within a kind only, and a cache is one provider's alone.
#[test]
fn providers_of_one_name_do_not_share_a_cache() {
    let odd = identity("same", &cc::library("odd", ""));
    let rig = Rig::new([odd, external_auth("same"), external_auth("other")]);
    let find = |kind| Arc::clone(rig.app.plugins.provider(kind, "same").unwrap());
    let (same_identity, same_auth) = (find(Kind::Identity), find(Kind::ExternalAuth));
    let request = ExchangeRequest { code: "v".into(), ..ExchangeRequest::default() };
    let _: Token = rig.app.plugins.call(&same_auth, "exchange", &request).unwrap();
    // The same key and value as the others look for, in the cache of the identity provider.
    let _: serde_json::Value = rig.app.plugins.call(&same_identity, "keep_last", &json!({})).unwrap();
    let request = TokenRequest { access_token: "mine".into() };
    for provider in [&same_auth, &rig.provider("other")] {
        let validity: Validity = rig.app.plugins.call(provider, "validate", &request).unwrap();
        assert!(!validity.valid);
    }
    let request = TokenRequest { access_token: "v".into() };
    let validity: Validity = rig.app.plugins.call(&same_auth, "validate", &request).unwrap();
    assert!(validity.valid);
}
