//! Tables, and what stands in their cells.

use super::super::html::{Html, fill, text};
use super::super::moment;
use crate::model::Timestamp;

/// A table with its caption. The first cell of a row is what the row is about. Without rows it is a sentence.
///
/// On narrow screens each row stands as a block, so every cell has the name of its column with it; the roles are
/// written out because browsers forget what a table is when it is laid out otherwise.
pub(in super::super) fn table(caption: &str, columns: &[&str], rows: Vec<Vec<Html>>, none: &str) -> Html {
    if rows.is_empty() {
        return fill("<p class=\"dim\">{{none}}</p>\n", &[("none", text(none))]);
    }
    let heads =
        columns.iter().map(|column| fill(include_str!("table-head.html").trim_ascii(), &[("name", text(column))]));
    let rows = rows.into_iter().map(|cells| {
        let cells = cells.into_iter().enumerate().map(|(index, cell)| {
            let template = if index == 0 { include_str!("table-first.html") } else { include_str!("table-cell.html") };
            let column = columns.get(index).copied().unwrap_or_default();
            fill(template.trim_ascii(), &[("column", text(column)), ("cell", cell)])
        });
        fill("<tr role=\"row\">{{cells}}</tr>\n", &[("cells", Html::join(cells))])
    });
    let rows = Html::join(rows);
    fill(include_str!("table.html"), &[("caption", text(caption)), ("heads", Html::join(heads)), ("rows", rows)])
}

/// An instant in a cell.
pub(in super::super) fn when(at: Timestamp) -> Html {
    fill("<span class=\"when\">{{at}}</span>", &[("at", moment(at))])
}

/// A cell with a second line below the first.
pub(in super::super) fn cell(first: Html, second: &str) -> Html {
    if second.is_empty() {
        return first;
    }
    fill("{{first}}<br><span class=\"dim\">{{second}}</span>", &[("first", first), ("second", text(second))])
}

/// A link to a page of this server.
pub(in super::super) fn link(path: &str, label: &str) -> Html {
    fill("<a href=\"{{path}}\">{{label}}</a>", &[("path", text(path)), ("label", text(label))])
}

/// A word with its colour: `good`, `wait`, `bad` or `dim`.
pub(in super::super) fn state(word: &str, class: &'static str) -> Html {
    fill(include_str!("../state.html"), &[("word", text(word)), ("class", Html::of(class))])
}
