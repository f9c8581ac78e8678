//! Lines over an axis, drawn with the letters of a terminal: dots of braille, eight to a letter.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::symbols::Marker;
use ratatui::widgets::{Axis as Scale, Chart, Dataset, GraphType, Widget};
use rustix::termios;
use std::io::stdout;

/// Columns when nothing says how many there are.
const COLUMNS_DEFAULT: u16 = 80;
/// Columns between which a picture can be read.
const COLUMNS_MIN: u16 = 40;
const COLUMNS_MAX: u16 = 120;

/// What a line is drawn with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stroke {
    /// Dots of braille, joined.
    Braille,
    /// Dots of braille at the points alone.
    Points,
    /// A letter, joined.
    Letter(char),
}

/// A line: points, from left to right.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// What it is drawn with.
    pub stroke: Stroke,
    /// Across, up.
    pub points: &'a [(f64, f64)],
}

/// An axis from nothing to `most`, with labels spread along it.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Its end.
    pub most: f64,
    /// From the least to the most.
    pub labels: Vec<String>,
}

impl Stroke {
    /// A letter of it, for a legend.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Braille => '⠒',
            Self::Points => '⠂',
            Self::Letter(letter) => letter,
        }
    }

    fn marker(self) -> Marker {
        match self {
            Self::Braille | Self::Points => Marker::Braille,
            Self::Letter(letter) => Marker::Custom(letter),
        }
    }

    fn graph(self) -> GraphType {
        match self {
            Self::Braille | Self::Letter(_) => GraphType::Line,
            Self::Points => GraphType::Scatter,
        }
    }
}

/// Columns to draw in: those of the terminal, within reason.
#[must_use]
pub fn columns() -> u16 {
    let columns = termios::tcgetwinsize(stdout()).map_or(0, |size| size.ws_col);
    if columns == 0 { COLUMNS_DEFAULT } else { columns.clamp(COLUMNS_MIN, COLUMNS_MAX) }
}

/// `lines` between two axes in so many columns and rows. A later line is drawn over an earlier one.
#[must_use]
pub fn chart(lines: &[Line<'_>], x: Axis, y: Axis, size: (u16, u16)) -> String {
    let mut buffer = Buffer::empty(Rect::new(0, 0, size.0, size.1));
    let dataset = |line: &Line<'_>| Dataset::default().marker(line.stroke.marker()).graph_type(line.stroke.graph());
    let datasets = lines.iter().map(|line| dataset(line).data(line.points)).collect();
    let scale = |axis: Axis| Scale::default().bounds([0.0, axis.most]).labels(axis.labels);
    Chart::new(datasets).x_axis(scale(x)).y_axis(scale(y)).render(buffer.area, &mut buffer);
    text(&buffer)
}

/// The letters of a buffer, without blanks at the ends of lines.
#[must_use]
pub fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let mut text = String::new();
    for y in area.top()..area.bottom() {
        let mut line = String::new();
        // Behind a letter that takes two columns there is a cell that takes none.
        let mut covered = 0;
        for x in area.left()..area.right() {
            if covered > 0 {
                covered -= 1;
                continue;
            }
            let symbol = buffer[(x, y)].symbol();
            covered = unicode_width::UnicodeWidthStr::width(symbol).saturating_sub(1);
            line += symbol;
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}
