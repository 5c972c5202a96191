//! Keys, certificates and documents as the clouds make them, with keys of these tests.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, DnType, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

/// A 2,048-bit RSA key made for tests.
const KEY: &str = include_str!("../../plugins/google-identity/src/test_key.txt");

fn pkcs8() -> Vec<u8> {
    STANDARD.decode(KEY.split_whitespace().collect::<String>()).unwrap()
}

fn sign(bytes: &[u8]) -> Vec<u8> {
    let pair = RsaKeyPair::from_pkcs8(&pkcs8()).unwrap();
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature).unwrap();
    signature
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// The certificate of a key that signs documents of Amazon machines, PEM.
pub fn aws_certificate() -> String {
    named("aws").self_signed(&KeyPair::try_from(pkcs8()).unwrap()).unwrap().pem()
}

/// What an Amazon machine posts.
pub fn aws(instance: &str, region: &str) -> Value {
    let document = json!({"instanceId": instance, "region": region, "accountId": "123456789012"}).to_string();
    json!({"signature": STANDARD.encode(sign(document.as_bytes())), "document": document})
}

/// Who signs documents of Azure machines.
pub struct Azure {
    /// The root, PEM.
    pub root: String,
    signer: Vec<u8>,
}

impl Azure {
    /// With a root of its own that is good until this year.
    pub fn new(until: i32) -> Azure {
        let mut params = named("Test root");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let root = rcgen::CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = named("metadata.azure.com");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let signer = params.signed_by(&KeyPair::try_from(pkcs8()).unwrap(), &root).unwrap();
        Azure { root: root.pem(), signer: signer.der().to_vec() }
    }

    /// What a machine posts; its document was made so many seconds from now, and is good for six hours.
    pub fn document(&self, vm: &str, made: i64) -> Value {
        let now = time::OffsetDateTime::now_utc() + time::Duration::seconds(made);
        let text = |at: time::OffsetDateTime| {
            let (date, clock) = (at.date(), at.time());
            let month = u8::from(date.month());
            format!(
                "{month:02}/{:02}/{:02} {:02}:{:02}:{:02} -0000",
                date.day(),
                date.year() % 100,
                clock.hour(),
                clock.minute(),
                clock.second()
            )
        };
        let stamp = json!({"createdOn": text(now), "expiresOn": text(now + time::Duration::hours(6))});
        let content = json!({"vmId": vm, "subscriptionId": "s", "sku": "", "timeStamp": stamp}).to_string();
        json!({"encoding": "pkcs7", "signature": STANDARD.encode(self.envelope(content.as_bytes()))})
    }

    /// CMS as Azure writes it: no signed attributes, and the name of the signature for that of the digest.
    fn envelope(&self, content: &[u8]) -> Vec<u8> {
        const DATA: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
        const SIGNED_DATA: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
        const SHA256_WITH_RSA: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0];
        const RSA: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
        let one = [2, 1, 1];
        let digest = der(0x30, &[SHA256_WITH_RSA]);
        let text = der(0x30, &[DATA, &der(0xa0, &[&der(0x04, &[content])])]);
        let (issuer, serial) = issuer_and_serial(&self.signer);
        let id = der(0x30, &[&issuer, &serial]);
        let info = der(0x30, &[&one, &id, &digest, &der(0x30, &[RSA]), &der(0x04, &[&sign(content)])]);
        let body = [&one[..], &der(0x31, &[&digest]), &text, &der(0xa0, &[&self.signer]), &der(0x31, &[&info])];
        der(0x30, &[SIGNED_DATA, &der(0xa0, &[&der(0x30, &body)])])
    }
}

/// A DER element.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut bytes = vec![tag];
    match u16::try_from(content.len()).unwrap() {
        short @ 0..=127 => bytes.push(short as u8),
        middle @ 128..=255 => bytes.extend_from_slice(&[0x81, middle as u8]),
        long => {
            bytes.push(0x82);
            bytes.extend_from_slice(&long.to_be_bytes());
        }
    }
    bytes.extend_from_slice(&content);
    bytes
}

/// The first element of some bytes: with its head, its content, and what comes behind it.
fn element(bytes: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let (head, length) = match bytes[1] {
        short @ 0..=127 => (2, usize::from(short)),
        0x81 => (3, usize::from(bytes[2])),
        0x82 => (4, usize::from(bytes[2]) << 8 | usize::from(bytes[3])),
        other => panic!("a length of {other:x}"),
    };
    (&bytes[..head + length], &bytes[head..head + length], &bytes[head + length..])
}

fn issuer_and_serial(certificate: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (_, outer, _) = element(certificate);
    let (_, body, _) = element(outer);
    let (_, _, rest) = element(body);
    let (serial, _, rest) = element(rest);
    let (_, _, rest) = element(rest);
    let (issuer, _, _) = element(rest);
    (issuer.to_vec(), serial.to_vec())
}

/// The key set by which tokens of Google machines are checked.
pub fn google_keys(kid: &str) -> String {
    let public: ring::rsa::PublicKeyComponents<Vec<u8>> = RsaKeyPair::from_pkcs8(&pkcs8()).unwrap().public().into();
    let (n, e) = (URL_SAFE_NO_PAD.encode(public.n), URL_SAFE_NO_PAD.encode(public.e));
    json!({"keys": [{"kid": kid, "n": n, "e": e, "kty": "RSA", "alg": "RS256"}]}).to_string()
}

/// What a Google machine posts; its token was made so many seconds from now, and is good for an hour.
pub fn google(instance: &Value, kid: &str, made: i64) -> Value {
    let now = time::OffsetDateTime::now_utc().unix_timestamp() + made;
    let header = json!({"alg": "RS256", "kid": kid});
    let claims = json!({
        "iss": "https://accounts.google.com", "aud": "coder", "iat": now, "exp": now + 3_600,
        "google": {"compute_engine": {"instance_id": instance, "project_id": "p"}},
    });
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    json!({"json_web_token": format!("{signed}.{}", URL_SAFE_NO_PAD.encode(sign(signed.as_bytes())))})
}
