//! What an imported file holds: certificates in PEM or DER, a JWK set, or a list of anchors, a line each.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use moorline_plugin::schema::Anchor;
use serde_json::Value;

/// Most bytes of one anchor: a key set of some hundred keys.
const ANCHOR_BYTES: usize = 64 * 1024;
/// Longest name, bytes.
const NAME_BYTES: usize = 128;
/// Clouds, and what the names of their anchors begin with, by role.
pub(super) const CLOUDS: [(&str, &[(&str, &str)]); 3] = [
    ("aws", &[("aws", "aws/")]),
    ("azure", &[("azure-root", "azure/root/"), ("azure-intermediate", "azure/intermediate/")]),
    ("google", &[("jwks", "google/")]),
];
const ROLES: &str = "aws, aws:REGION,…, azure-root, azure-intermediate, jwks";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The anchors in a file; `name` and `role` are for those that do not say theirs.
pub(super) fn read(content: &[u8], name: &str, role: Option<&str>) -> Result<Vec<Anchor>, String> {
    let text = std::str::from_utf8(content).ok();
    let found = match text {
        Some(text) if text.trim_start().starts_with('{') => vec![key_set(text, name, role)?],
        Some(text) if text.contains(BEGIN) => certificates(pem(text)?, name, role)?,
        // A SEQUENCE; what is no text may be nothing else.
        _ if content.starts_with(&[0x30]) && text.is_none_or(|text| text.contains('\0')) => {
            certificates(vec![content.to_vec()], name, role)?
        }
        Some(text) => lines(text)?,
        None => return Err("The file holds neither certificates (PEM or DER), nor a JWK set, nor a list.".into()),
    };
    for (index, anchor) in found.iter().enumerate() {
        if found.iter().take(index).any(|earlier| earlier.name == anchor.name) {
            return Err(format!("The file has two anchors with the name {}.", anchor.name));
        }
    }
    if found.is_empty() { Err("The file holds no trust anchor.".into()) } else { Ok(found) }
}

fn key_set(text: &str, name: &str, role: Option<&str>) -> Result<Anchor, String> {
    let set: Value = serde_json::from_str(text).map_err(|error| format!("The file is not a JWK set: {error}."))?;
    match set.get("keys").and_then(Value::as_array) {
        Some(keys) if !keys.is_empty() => anchor(name, role.unwrap_or("jwks"), text.trim().as_bytes().to_vec()),
        _ => Err("The file is not a JWK set: it has no keys.".into()),
    }
}

fn certificates(found: Vec<Vec<u8>>, name: &str, role: Option<&str>) -> Result<Vec<Anchor>, String> {
    let role = role.ok_or_else(|| format!("A certificate needs --role, one of {ROLES}."))?;
    if role == "jwks" {
        return Err("The role jwks is for key sets, and this is a certificate.".into());
    }
    let single = found.len() == 1;
    let numbered = found.into_iter().enumerate();
    numbered
        .map(|(index, der)| {
            let name = if single { name.to_owned() } else { format!("{name}-{}", index + 1) };
            anchor(&name, role, der)
        })
        .collect()
}

fn pem(text: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut found = Vec::new();
    for part in text.split(BEGIN).skip(1) {
        let (body, _) = part.split_once(END).ok_or("A certificate of the file has no end.")?;
        let compact: String = body.split_whitespace().collect();
        found.push(STANDARD.decode(compact).map_err(|_| "A certificate of the file is not base64.")?);
    }
    Ok(found)
}

fn lines(text: &str) -> Result<Vec<Anchor>, String> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |why: &str| format!("Line {}: {why}.", index + 1);
        let mut words = line.split_whitespace();
        let (Some(role), Some(name), Some(data), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(wrong("it is not of the form ROLE NAME BASE64"));
        };
        let data = STANDARD.decode(data).map_err(|_| wrong("the third word is not base64"))?;
        found.push(anchor(name, role, data).map_err(|why| wrong(why.trim_end_matches('.')))?);
    }
    Ok(found)
}

fn anchor(name: &str, role: &str, data: Vec<u8>) -> Result<Anchor, String> {
    let kind = role.split_once(':').map_or(role, |(kind, _)| kind);
    let known = CLOUDS.iter().find_map(|(cloud, roles)| {
        let (_, prefix) = roles.iter().find(|(one, _)| *one == kind)?;
        // Regions are of Amazon's.
        (kind == role || kind == "aws").then_some((*cloud, *prefix))
    });
    let Some((cloud, prefix)) = known else {
        return Err(format!("The role `{role}` is not one of {ROLES}."));
    };
    let is_full = name.strip_prefix(cloud).is_some_and(|rest| rest.starts_with('/'));
    let name = if is_full { name.to_owned() } else { format!("{prefix}{name}") };
    let good = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
    if !good || name.len() > NAME_BYTES || name.ends_with('/') {
        let most = NAME_BYTES;
        return Err(format!(
            "The name `{name}` does not have 1 to {most} letters, digits, points, hyphens and slashes."
        ));
    }
    if data.len() > ANCHOR_BYTES {
        return Err(format!("The anchor {name} has {} bytes; {ANCHOR_BYTES} are the most.", data.len()));
    }
    Ok(Anchor { name, role: role.to_owned(), data, not_after: None })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(content: &[u8], role: Option<&str>) -> Result<Vec<(String, String)>, String> {
        Ok(read(content, "mine", role)?.into_iter().map(|anchor| (anchor.name, anchor.role)).collect())
    }

    fn pair(name: &str, role: &str) -> (String, String) {
        (name.into(), role.into())
    }

    #[test]
    fn reads_every_form() {
        let one = format!("hello\n{BEGIN}\nMAMC\nAQE=\n{END}\n");
        assert_eq!(names(one.as_bytes(), Some("aws")), Ok(vec![pair("aws/mine", "aws")]));
        assert_eq!(
            names(one.repeat(2).as_bytes(), Some("azure-root")),
            Ok(vec![pair("azure/root/mine-1", "azure-root"), pair("azure/root/mine-2", "azure-root")])
        );
        assert_eq!(names(b"\x30\x81\x03\x02\x01\x00", Some("aws:eu-x-1")), Ok(vec![pair("aws/mine", "aws:eu-x-1")]));
        assert_eq!(names(br#" {"keys": [{"kid": "a"}]}"#, None), Ok(vec![pair("google/mine", "jwks")]));
        let list = "# list\nazure-intermediate new MAMCAQE=\n\naws aws/other MAMCAQE=\n";
        let found = read(list.as_bytes(), "mine", None).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found.first().map(|one| one.name.as_str()), Some("azure/intermediate/new"));
        assert_eq!(
            found.last().map(|one| (one.name.as_str(), one.data.as_slice())),
            Some(("aws/other", &[48, 3, 2, 1, 1][..]))
        );
    }

    #[test]
    fn says_what_is_wrong() {
        let certificate = format!("{BEGIN}\nMAMCAQE=\n{END}\n");
        for (content, role, hint) in [
            (certificate.as_bytes(), None, "needs --role"),
            (certificate.as_bytes(), Some("root"), "is not one of"),
            (certificate.as_bytes(), Some("azure-root:x"), "is not one of"),
            (certificate.as_bytes(), Some("jwks"), "for key sets"),
            (BEGIN.as_bytes(), Some("aws"), "has no end"),
            (b"{}", None, "has no keys"),
            (b"{", None, "not a JWK set"),
            (b"", None, "no trust anchor"),
            (b"hello", None, "ROLE NAME BASE64"),
            (b"aws a %", None, "not base64"),
            (b"aws a MA==\naws a MA==", None, "two anchors"),
            (b"\xff\xfe", None, "neither"),
        ] {
            let why = names(content, role).unwrap_err();
            assert!(why.contains(hint), "{why}");
        }
        assert!(read(certificate.as_bytes(), "no spaces", Some("aws")).is_err());
    }
}
