//! What plugins say, fit for logs, tables and answers: short, and without control characters.

use moorline_plugin::schema::{Description, Refused};

/// Longest name or word of a plugin that is kept, bytes.
const WORD_BYTES: usize = 64;
/// Longest sentence of a plugin that is kept, bytes.
pub(super) const SENTENCE_BYTES: usize = 1024;
/// Capabilities, and types served, that are kept of a description.
const WORDS: usize = 64;

/// The beginning of a text, at most so many bytes, with spaces for control characters.
pub(super) fn clean(text: &str, most: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(most));
    for letter in text.chars() {
        if clean.len() + letter.len_utf8() > most {
            break;
        }
        clean.push(if letter.is_control() { ' ' } else { letter });
    }
    clean
}

/// A refusal whose code is a word and whose message is a sentence.
pub(super) fn clean_refusal(refused: &mut Refused) {
    refused.code = clean(&refused.code, WORD_BYTES);
    refused.message = clean(&refused.message, SENTENCE_BYTES);
}

/// A description of bounded size.
pub(super) fn clean_description(description: &mut Description) {
    description.name = clean(&description.name, WORD_BYTES);
    description.version = clean(&description.version, WORD_BYTES);
    for words in [&mut description.capabilities, &mut description.serves] {
        words.truncate(WORDS);
        for word in words {
            *word = clean(word, WORD_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_between_letters_and_takes_control_characters_out() {
        assert_eq!(clean("a\r\nb\u{85}\0", 100), "a  b  ");
        assert_eq!(clean("äää", 5), "ää");
        let mut refused = Refused { code: "x".repeat(99), message: "y\n".repeat(9_999), retry_after: None };
        clean_refusal(&mut refused);
        assert_eq!((refused.code.len(), refused.message.len()), (64, 1024));
        assert!(!refused.message.contains('\n'));
    }
}
