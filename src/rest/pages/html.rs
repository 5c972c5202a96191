//! Markup: templates with `{{name}}` in them, and text that cannot become markup.

/// Markup that is complete in itself.
#[derive(Clone, Default, Debug)]
pub(in crate::rest) struct Html(String);

impl Html {
    /// Markup that stands in the program.
    pub(super) fn of(markup: &'static str) -> Html {
        Html(markup.to_owned())
    }

    /// One after the other.
    pub(in crate::rest) fn join(parts: impl IntoIterator<Item = Html>) -> Html {
        Html(parts.into_iter().map(|part| part.0).collect())
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

/// Text as markup, between tags or between double quotes.
pub(in crate::rest) fn text(text: &str) -> Html {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
    Html(out)
}

/// Puts values in the places of a template. Each is looked for in the template only, so that a value
/// cannot name another one.
pub(in crate::rest) fn fill(template: &'static str, values: &[(&str, Html)]) -> Html {
    let mut out = String::with_capacity(template.len() + 256);
    let mut rest = template;
    while let Some((before, name, after)) = rest
        .split_once("{{")
        .and_then(|(before, tail)| tail.split_once("}}").map(|(name, after)| (before, name, after)))
    {
        out.push_str(before);
        match values.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => out.push_str(&value.0),
            None => log::error!("a page has no value for {name}"),
        }
        rest = after;
    }
    out.push_str(rest);
    Html(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_would_be_markup() {
        let value = text("<b a=\"'\">&{{other}}");
        assert_eq!(value.0, "&lt;b a=&quot;&#39;&quot;&gt;&amp;{{other}}");
        let filled = fill("<i>{{a}}</i>{{b}}", &[("a", value), ("b", text("x")), ("other", text("y"))]);
        assert_eq!(filled.0, "<i>&lt;b a=&quot;&#39;&quot;&gt;&amp;{{other}}</i>x");
    }
}
