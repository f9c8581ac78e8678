//! What an experiment found: a table, a picture, a file, a sentence.

use super::watch::Watched;
use crate::plot::lines::{self, Panel};
use memvisor_picture::terminal;
use serde_json::{Value, json};
use std::path::Path;

/// What an experiment found.
pub struct Finding {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows of the table.
    pub rows: Vec<Vec<String>>,
    /// What is drawn.
    pub panels: Vec<Panel>,
    /// Figures for programs.
    pub figures: Value,
    /// The figure of the claim, in words.
    pub sentence: String,
    /// Whether the claim holds.
    pub holds: bool,
}

impl Finding {
    /// Adds what was seen of all spaces together: the claim holds only if that was within the DRAM of the host.
    pub(super) fn watched(mut self, watched: &Watched) -> Self {
        self.holds &= watched.is_within();
        self.sentence = format!("{}; {}", self.sentence, watched.sentence());
        self.panels.push(watched.panel());
        self.figures["watched"] = watched.figures();
        self
    }

    /// Prints the table and the first plot, writes all of them into `NAME.png` and the figures into `NAME.json`, says where these
    /// are, and prints the sentence last.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn publish(&self, name: &str, out: &Path) -> Result<(), String> {
        print!("{}", self.table());
        if let Some(panel) = self.panels.first() {
            print!("\n{}", panel.text(terminal::columns()));
        }
        let picture = out.join(format!("{name}.png"));
        lines::draw(&self.panels, &picture)?;
        let json = json!({
            "experiment": name, "holds": self.holds, "sentence": self.sentence, "facts": crate::machine::facts(&[]),
            "figures": self.figures, "columns": self.columns, "rows": self.rows,
        });
        let path = out.join(format!("{name}.json"));
        std::fs::write(&path, format!("{json:#}\n"))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        println!("\nplots in {}, figures in {}", picture.display(), path.display());
        println!("{name}: {}: {}", if self.holds { "holds" } else { "DOES NOT HOLD" }, self.sentence);
        Ok(())
    }

    fn table(&self) -> String {
        let width = |at: usize| {
            let cells = self.rows.iter().chain([&self.columns]).filter_map(|row| row.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let line = |row: &Vec<String>| {
            let cells = row.iter().enumerate().map(|(at, cell)| format!("{cell:>width$}", width = width(at)));
            cells.collect::<Vec<_>>().join("  ") + "\n"
        };
        [&self.columns].into_iter().chain(&self.rows).map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_a_table_are_as_wide_as_their_widest_cell() {
        let finding = Finding {
            columns: vec!["a".into(), "long".into()],
            rows: vec![vec!["wide".into(), "b".into()]],
            panels: vec![],
            figures: json!({}),
            sentence: String::new(),
            holds: true,
        };
        assert_eq!(finding.table(), "   a  long\nwide     b\n");
    }
}
