//! A table of texts in columns, as wide as what is in them.

use unicode_width::UnicodeWidthStr;

/// On which side a column is even.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Names.
    Left,
    /// Numbers.
    Right,
}

/// Between two columns.
const GAP: &str = "  ";

/// Lines of `rows` under `heads`; nothing stands behind the last text of a line.
pub fn table<const N: usize>(heads: [(&str, Side); N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].width());
        cells.chain([heads[column].0.width()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let padded: Vec<String> = (0..N).map(|column| pad(cells[column], widths[column], heads[column].1)).collect();
        padded.join(GAP).trim_end().to_owned() + "\n"
    };
    let head = line(heads.map(|(name, _)| name));
    rows.iter().fold(head, |text, row| text + &line(std::array::from_fn(|column| row[column].as_str())))
}

/// `text` filled with blanks to `width` columns of a terminal.
fn pad(text: &str, width: usize, side: Side) -> String {
    let blanks = " ".repeat(width.saturating_sub(text.width()));
    match side {
        Side::Left => format!("{text}{blanks}"),
        Side::Right => format!("{blanks}{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_text_on_a_terminal() {
        let rows = [["日本", "1 B"], ["a", "1.50 GiB"]].map(|row| row.map(str::to_owned));
        let text = table([("NAME", Side::Left), ("SIZE", Side::Right)], &rows);
        assert_eq!(text, "NAME      SIZE\n日本       1 B\na     1.50 GiB\n");
    }
}
