#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use base64::Engine;
use moorline_plugin::schema::{Anchor, Setup, VerifyRequest};
use moorline_plugin::testing::{Exchange, Replay};
use moorline_plugin::{Host, Identity, Refusal, abi};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

use super::*;
use crate::token::BASE64;

const NOW: i64 = 1_700_000_000;
/// A 2,048-bit key made for these tests.
const KEY: &str = include_str!("test_key.txt");

fn pair() -> RsaKeyPair {
    let der = base64::engine::general_purpose::STANDARD.decode(KEY.split_whitespace().collect::<String>()).unwrap();
    RsaKeyPair::from_pkcs8(&der).unwrap()
}

fn key_set(kid: &str) -> String {
    let public: ring::rsa::PublicKeyComponents<Vec<u8>> = pair().public().into();
    let (n, e) = (BASE64.encode(public.n), BASE64.encode(public.e));
    json!({"keys": [{"kid": kid, "n": n, "e": e, "kty": "RSA", "alg": "RS256", "use": "sig"}]}).to_string()
}

fn claims() -> Value {
    json!({
        "iss": "https://accounts.google.com", "aud": "coder", "iat": NOW, "exp": NOW + 3_600, "sub": "1",
        "google": {"compute_engine": {"instance_id": "7", "project_id": "p", "zone": "z", "instance_name": "n"}},
    })
}

fn signed_as(header: &Value, claims: &Value) -> String {
    let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
    let pair = pair();
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    format!("{signed}.{}", BASE64.encode(signature))
}

fn signed(claims: &Value) -> String {
    signed_as(&json!({"alg": "RS256", "kid": "k1"}), claims)
}

fn offline() -> Google {
    let anchor =
        Anchor { name: "google/keys".into(), role: "jwks".into(), data: key_set("k1").into_bytes(), not_after: None };
    let setup = Setup { anchors: vec![anchor], settings: json!({"offline": true}), ..Setup::default() };
    Google::create(setup, Host::new(Replay::new(NOW))).unwrap()
}

fn ask(google: &Google, token: &str) -> Result<Verified, Refusal> {
    let fields = [("json_web_token".to_owned(), token.to_owned())].into();
    google.verify(VerifyRequest { fields })
}

fn code(result: Result<Verified, Refusal>) -> String {
    result.unwrap_err().refused.code
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

#[test]
fn proves_a_machine_with_imported_keys() {
    let verified = ask(&offline(), &signed(&claims())).unwrap();
    assert_eq!(verified.instance_id, "7");
    assert_eq!(verified.claims["project_id"], "p");
}

#[test]
fn refuses_other_algorithms_keys_and_signatures() {
    let google = offline();
    for (header, expected) in [
        (json!({"alg": "none", "kid": "k1"}), "bad_algorithm"),
        (json!({"alg": "HS256", "kid": "k1"}), "bad_algorithm"),
        (json!({"alg": "RS256", "kid": "k2"}), "unknown_key"),
        (json!({"alg": "RS256"}), "unknown_key"),
    ] {
        assert_eq!(code(ask(&google, &signed_as(&header, &claims()))), expected, "{header}");
    }
    let token = signed(&claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let other = BASE64.encode(with("sub", json!("2")).to_string());
    assert_eq!(code(ask(&google, &format!("{header}.{other}.{signature}"))), "bad_signature");
}

#[test]
fn refuses_what_has_not_the_form() {
    for token in ["", "a.b", "a.b.c", "e30.e30.!", "e30.W10.AA", "not a token", "e30.e30.e30.e30"] {
        assert!(matches!(code(ask(&offline(), token)).as_str(), "malformed" | "bad_algorithm"), "{token}");
    }
    assert_eq!(code(ask(&offline(), &"a".repeat(20_000))), "malformed");
}

#[test]
fn checks_issuer_audience_and_times() {
    let google = offline();
    for (claims, expected) in [
        (with("iss", json!("https://accounts.example.com")), "bad_issuer"),
        (with("aud", json!("vault")), "bad_audience"),
        (with("exp", json!(NOW - 61)), "expired"),
        (with("exp", json!("soon")), "expired"),
        (with("exp", Value::Null), "expired"),
        (with("iat", json!(NOW + 61)), "clock_skew"),
        (with("google", json!({})), "no_instance"),
        (with("google", json!({"compute_engine": {}})), "no_instance"),
    ] {
        assert_eq!(code(ask(&google, &signed(&claims))), expected, "{claims}");
    }
    for claims in [with("exp", json!(NOW)), with("exp", json!(NOW - 60)), with("iat", json!(NOW + 60))] {
        assert!(ask(&google, &signed(&claims)).is_ok(), "{claims}");
    }
    let number = with("google", json!({"compute_engine": {"instance_id": 7}}));
    assert_eq!(ask(&google, &signed(&number)).unwrap_err().status, abi::INVALID);
}

fn keys_answer(kid: &str) -> Exchange {
    Exchange {
        method: "GET".into(),
        url: "https://www.googleapis.com/oauth2/v3/certs".into(),
        status: 200,
        headers: vec![("Cache-Control".into(), "public, max-age=3600".into()), ("Age".into(), "600".into())],
        body: key_set(kid),
        ..Exchange::default()
    }
}

fn online(replay: &Replay) -> Google {
    Google::create(Setup::default(), Host::new(replay.clone())).unwrap()
}

#[test]
fn fetches_keys_once_and_again_when_they_are_old() {
    let replay = Replay::new(NOW);
    let google = online(&replay);
    replay.expect([keys_answer("k1")]);
    assert!(ask(&google, &signed(&claims())).is_ok());
    assert!(ask(&google, &signed(&claims())).is_ok());
    assert_eq!(replay.wrong(), Vec::<String>::new());
    replay.wait(3_001);
    replay.expect([keys_answer("k1")]);
    assert!(ask(&google, &signed(&claims())).is_ok());
    assert_eq!(replay.wrong(), Vec::<String>::new());
}

#[test]
fn looks_for_an_unknown_key_once_in_a_while() {
    let replay = Replay::new(NOW);
    let google = online(&replay);
    replay.expect([keys_answer("other")]);
    for _ in 0..3 {
        assert_eq!(code(ask(&google, &signed(&claims()))), "unknown_key");
    }
    assert_eq!(replay.wrong(), Vec::<String>::new());
    replay.wait(301);
    replay.expect([keys_answer("k1")]);
    assert!(ask(&google, &signed(&claims())).is_ok());
}

#[test]
fn uses_older_keys_while_google_is_away() {
    let replay = Replay::new(NOW);
    let google = online(&replay);
    let down = Exchange { fault: "connect".into(), body: String::new(), ..keys_answer("k1") };
    replay.expect([down.clone()]);
    let refusal = ask(&google, &signed(&claims())).unwrap_err();
    assert_eq!((refusal.status, refusal.refused.code.as_str()), (abi::UNAVAILABLE, "keys_unreachable"));
    replay.expect([keys_answer("k1")]);
    assert!(ask(&google, &signed(&claims())).is_ok());
    replay.wait(3_100);
    replay.expect([down]);
    assert!(ask(&google, &signed(&claims())).is_ok());
    assert_eq!(replay.wrong(), Vec::<String>::new());
    assert_eq!(replay.logged().len(), 1);
}
