//! What people, workspaces and agents may be called.

/// Characters of a name. Clients allow agents 64, but host names that are made of three names must
/// stay below 255.
pub const NAME_CHARS: usize = 32;
/// Characters of a full name, as the real server bounds it (coder v2.24.0 codersdk/name.go).
const FULL_NAME_CHARS: usize = 128;
/// Bytes of an e-mail address (RFC 5321: 256 with its brackets).
const EMAIL_BYTES: usize = 254;

/// Words that clients take as verbs where a name may stand.
const RESERVED: &[&str] = &["new", "create"];
/// Words that stand where a user's name may in paths under `/api/v2/users/`.
const RESERVED_USERS: &[&str] =
    &["me", "first", "login", "logout", "authmethods", "oauth2", "oidc", "otp", "roles", "validate-password"];

/// Checks a person's name; the text says what is wrong.
pub fn check_user(name: &str) -> Result<(), String> {
    check(name)?;
    if RESERVED_USERS.iter().any(|word| name.eq_ignore_ascii_case(word)) {
        return Err(format!("`{name}` means something else in URLs; choose another name"));
    }
    Ok(())
}

/// Checks the name of a workspace or an agent; the text says what is wrong.
///
/// Clients split at `--`, `.` and `/` (golden rule 10 of the client facts), so none may be inside.
pub fn check(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("must not be empty".into());
    }
    if name.chars().count() > NAME_CHARS {
        return Err(format!("must have at most {NAME_CHARS} characters"));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(format!("`{name}` may consist of letters A-Z a-z, digits and single hyphens only"));
    }
    if name.split('-').any(str::is_empty) {
        return Err(format!("`{name}` may have single hyphens only, and none at its beginning or end"));
    }
    if RESERVED.iter().any(|word| name.eq_ignore_ascii_case(word)) {
        return Err(format!("`{name}` is a word of the command line; choose another name"));
    }
    // 32 hexadecimal digits are a UUID to Go's parser, and most places take a name or an id.
    if name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("`{name}` looks like an id; choose another name"));
    }
    Ok(())
}

/// Checks a person's full name, which may be empty; the text says what is wrong.
pub fn check_full_name(name: &str) -> Result<(), String> {
    if name.chars().count() > FULL_NAME_CHARS {
        return Err(format!("must have at most {FULL_NAME_CHARS} characters"));
    }
    if name.chars().any(char::is_control) {
        return Err("must not contain control characters".into());
    }
    Ok(())
}

/// Checks the form of an e-mail address; the text says what is wrong.
pub fn check_email(email: &str) -> Result<(), String> {
    let bad = || format!("`{email}` is not an e-mail address");
    let (local, domain) = email.split_once('@').ok_or_else(bad)?;
    let odd = |c: char| c.is_whitespace() || c.is_control() || "@<>()[],;:\\\"".contains(c);
    let good_domain = domain.split('.').all(|label| !label.is_empty());
    if local.is_empty() || email.len() > EMAIL_BYTES || local.contains(odd) || domain.contains(odd) || !good_domain {
        return Err(bad());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn takes_what_every_client_can_split() {
        for name in ["a", "A1", "dev-box-2", "abcdefghijklmnopqrstuvwxyz012345"] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn refuses_what_clients_cannot_tell_apart() {
        for name in [
            "",
            "-a",
            "a-",
            "a--b",
            "a.b",
            "a/b",
            "a_b",
            "ä",
            "new",
            "Create",
            " a",
            "abcdefghijklmnopqrstuvwxyz0123456",
            "0123456789abcdef0123456789ABCDEF",
        ] {
            assert!(check(name).is_err(), "{name}");
        }
        assert!(check_user("me").is_err());
        assert!(check_user("Login").is_err());
        assert!(check_user("alice").is_ok());
    }

    #[test]
    fn tells_addresses_from_other_text() {
        for email in ["a@b", "a.b+c@example.com", "ä@example.com"] {
            assert_eq!(check_email(email), Ok(()), "{email}");
        }
        for email in ["", "a", "@b", "a@", "a@b@c", "a b@c", "a@b..c", "A <a@b>", "a@b,c@d"] {
            assert!(check_email(email).is_err(), "{email}");
        }
    }
}
