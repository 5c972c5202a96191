//! Tables, and what stands in their cells.

use super::super::html::{Html, fill, text};

/// A table with its caption. The first cell of a row is what the row is about. Without rows it is a sentence.
pub(in super::super) fn table(caption: &str, columns: &[&str], rows: Vec<Vec<Html>>, none: &str) -> Html {
    if rows.is_empty() {
        return fill("<p class=\"dim\">{{none}}</p>\n", &[("none", text(none))]);
    }
    let heads = columns.iter().map(|column| fill("<th scope=\"col\">{{name}}</th>", &[("name", text(column))]));
    let rows = rows.into_iter().map(|cells| {
        let cells = cells.into_iter().enumerate().map(|(index, cell)| {
            let template = if index == 0 { "<th scope=\"row\">{{cell}}</th>" } else { "<td>{{cell}}</td>" };
            fill(template, &[("cell", cell)])
        });
        fill("<tr>{{cells}}</tr>\n", &[("cells", Html::join(cells))])
    });
    let rows = Html::join(rows);
    fill(include_str!("table.html"), &[("caption", text(caption)), ("heads", Html::join(heads)), ("rows", rows)])
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
    let values = [("agent", Html::default()), ("word", text(word)), ("class", Html::of(class))];
    fill(include_str!("../state.html"), &values)
}
