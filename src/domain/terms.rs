//! `q=` of lists: terms with blanks between them, each `key:value` or a bare value (coder v2.24.0
//! coderd/searchquery/search.go searchTerms).

use super::{Error, Fault};

/// Longest search that is looked at, bytes.
const QUERY_BYTES: usize = 4_096;

/// Keys, empty for bare terms, and their values; both in lower case.
#[derive(Debug, PartialEq, Eq)]
pub struct Terms(pub Vec<(String, String)>);

impl Terms {
    /// Takes a search apart. Blanks and colons in double quotes are ordinary letters.
    pub fn parse(text: &str) -> Result<Terms, Error> {
        if text.len() > QUERY_BYTES {
            return Err(refusal().field("q", format!("A search has at most {QUERY_BYTES} bytes.")));
        }
        let lower = text.to_lowercase();
        let terms = split(&lower, char::is_whitespace).into_iter().filter(|term| !term.is_empty());
        terms.map(term).collect::<Result<_, _>>().map(Terms)
    }

    /// What is said to a key that a list does not have.
    pub fn unknown(key: &str) -> Error {
        let shown: String = key.chars().take(64).collect();
        refusal().field(shown.clone(), format!("{shown:?} is not something to search by here."))
    }
}

/// What is said to a search that cannot be answered; a field says why.
pub(super) fn refusal() -> Error {
    Error::new(Fault::Invalid, "The search makes no sense.")
}

fn term(text: &str) -> Result<(String, String), Error> {
    let bare = |part: &str| part.trim_matches('"').to_owned();
    match split(text, |letter| letter == ':').as_slice() {
        [value] => Ok((String::new(), bare(value))),
        [key, value] if !key.is_empty() && !bare(value).is_empty() => Ok((bare(key), bare(value))),
        // An instant has colons of its own.
        [key, rest @ ..] if key.ends_with("_after") || key.ends_with("_before") => {
            Ok((bare(key), bare(&rest.join(":"))))
        }
        _ => {
            let shown: String = text.chars().take(64).collect();
            Err(refusal().field("q", format!("{shown:?} is neither a word nor a key, a colon and a value.")))
        }
    }
}

/// The parts of `text` between the letters that `border` names, outside of double quotes.
fn split(text: &str, border: impl Fn(char) -> bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut begin, mut quoted) = (0, false);
    for (at, letter) in text.char_indices() {
        if letter == '"' {
            quoted = !quoted;
        } else if !quoted && border(letter) {
            parts.push(text.get(begin..at).unwrap_or_default());
            begin = at + letter.len_utf8();
        }
    }
    parts.push(text.get(begin..).unwrap_or_default());
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        Terms::parse(text).unwrap().0
    }

    #[test]
    fn splits_at_blanks_and_colons_outside_of_quotes() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(parsed(""), []);
        assert_eq!(parsed("  Oth  status:Active "), [pair("", "oth"), pair("status", "active")]);
        assert_eq!(parsed("\"two words\" owner:\"me\""), [pair("", "two words"), pair("owner", "me")]);
        assert_eq!(parsed("\"a:b\""), [pair("", "a:b")]);
        let instant = "2026-01-31T00:00:00Z";
        for text in [format!("created_after:{instant}"), format!("created_after:\"{instant}\"")] {
            assert_eq!(parsed(&text), [pair("created_after", &instant.to_lowercase())]);
        }
    }

    #[test]
    fn refuses_nonsense_with_its_place() {
        for text in ["a:b:c", "key:", ":value", "key:\"\""] {
            assert!(!Terms::parse(text).unwrap_err().fields.is_empty(), "{text}");
        }
        assert!(Terms::parse(&"x".repeat(QUERY_BYTES + 1)).is_err());
    }
}
