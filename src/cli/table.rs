//! Aligned columns, and how values look in them.

use serde_json::Value;

/// Columns with a head, aligned by their widest cell.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head: Vec<String> = head.iter().map(|cell| cell.to_uppercase()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A field as text; absent and null are empty.
pub(super) fn text(value: &Value, key: &str) -> String {
    match value.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// An instant to the second, with a space between date and time; `-` if there is none.
pub(super) fn instant(value: &Value, key: &str) -> String {
    let text = text(value, key);
    match text.get(..19) {
        Some(seconds) => seconds.replace('T', " "),
        None => "-".into(),
    }
}

/// The elements of an array field.
pub(super) fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_by_the_widest_cell_without_trailing_spaces() {
        let rows = vec![vec!["ä".into(), "x".into()], vec!["long one".into(), String::new()]];
        assert_eq!(table(&["a", "b"], &rows), "A         B\nä         x\nlong one\n");
    }
}
