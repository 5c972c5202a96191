//! A JWT, taken apart.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use moorline_plugin::{Answer, Refusal};
use serde_json::{Map, Value};

/// Base64 as JWTs have it, with or without padding.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Longest token that is looked at, bytes: Google's have about 1,500.
const TOKEN_BYTES: usize = 16 * 1024;

/// The parts of a token; nothing is proved yet.
pub(crate) struct Token {
    /// `alg` of the header.
    pub(crate) algorithm: String,
    /// `kid` of the header.
    pub(crate) key_id: String,
    /// The payload.
    pub(crate) claims: Map<String, Value>,
    /// What is signed.
    pub(crate) signed: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

impl Token {
    pub(crate) fn parse(text: &str) -> Answer<Token> {
        let malformed = |message: &str| Refusal::refused("malformed", message);
        if text.len() > TOKEN_BYTES {
            return Err(malformed("The token is longer than any that Google makes."));
        }
        let mut parts = text.split('.');
        let (header, payload, signature) = (parts.next(), parts.next(), parts.next());
        let (Some(header), Some(payload), Some(signature), None) = (header, payload, signature, parts.next()) else {
            return Err(malformed("The token does not have three parts."));
        };
        let object = |part: &str| -> Option<Map<String, Value>> {
            match serde_json::from_slice(&BASE64.decode(part).ok()?).ok()? {
                Value::Object(members) => Some(members),
                _ => None,
            }
        };
        let head = object(header).ok_or_else(|| malformed("The token's header is not JSON in base64."))?;
        let claims = object(payload).ok_or_else(|| malformed("The token's payload is not JSON in base64."))?;
        let text = |name: &str| head.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Token {
            algorithm: text("alg"),
            key_id: text("kid"),
            claims,
            signed: format!("{header}.{payload}").into_bytes(),
            signature: BASE64.decode(signature).map_err(|_| malformed("The token's signature is not base64."))?,
        })
    }
}
