//! Lines over time, one panel above the other.

use super::COLOURS;
use memvisor_picture::Lettered;
use memvisor_picture::terminal::{self, Axis, Line, Stroke};
use plotters::prelude::*;
use std::path::Path;

const WIDTH: u32 = 1200;
const PANEL_HEIGHT: u32 = 320;
/// Lines of a panel on a terminal: what stands above it stays in sight.
const TEXT_LINES: u16 = 14;
/// How lines of a panel are told apart without colours.
const STROKES: [Stroke; 5] =
    [Stroke::Braille, Stroke::Letter('•'), Stroke::Letter('+'), Stroke::Letter('x'), Stroke::Letter('o')];

/// Lines that share an axis.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    /// What is drawn, with its unit.
    pub title: String,
    /// Each with a name and its points: seconds, value.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// Draws `panels` into the PNG file `path`.
///
/// # Errors
/// When the file cannot be written.
pub fn draw(panels: &[Panel], path: &Path) -> Result<(), String> {
    let rows = panels.len().max(1);
    let wrong = |error: String| format!("cannot draw {}: {error}", path.display());
    let area = Lettered::new(path, (WIDTH, PANEL_HEIGHT * rows as u32), 1).into_drawing_area();
    area.fill(&WHITE).map_err(|error| wrong(error.to_string()))?;
    for (panel, row) in panels.iter().zip(area.split_evenly((rows, 1))) {
        panel.draw(&row).map_err(wrong)?;
    }
    area.present().map_err(|error| wrong(error.to_string()))
}

impl Panel {
    /// A panel called `title`.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), lines: Vec::new() }
    }

    /// The same with a line more.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        self.lines.push((name.into(), points.into_iter().collect()));
        self
    }

    /// The panel as letters in so many columns, with a legend.
    pub fn text(&self, columns: u16) -> String {
        let (end, top) = (self.end(), self.top());
        let strokes = STROKES.into_iter().cycle();
        let lines: Vec<Line<'_>> =
            self.lines.iter().zip(strokes.clone()).map(|((_, points), stroke)| Line { stroke, points }).collect();
        let labels = |labels: [f64; 3], unit: &str| labels.map(|value| format!("{value:.0}{unit}")).to_vec();
        let x = Axis { most: end, labels: labels([0.0, end / 2.0, end], " s") };
        let y = Axis { most: top, labels: labels([0.0, top / 2.0, top], "") };
        let names = self.lines.iter().zip(strokes).map(|((name, _), stroke)| format!("{} {name}", stroke.letter()));
        let legend = names.collect::<Vec<_>>().join("   ");
        format!("{}: {legend}\n{}", self.title, terminal::chart(&lines, x, y, (columns, TEXT_LINES)))
    }

    /// Where its lines end.
    fn end(&self) -> f64 {
        self.points().map(|point| point.0).fold(1.0, f64::max)
    }

    /// The most of its values: never nothing.
    fn top(&self) -> f64 {
        self.points().map(|point| point.1).fold(0.0, f64::max).max(1e-9)
    }

    fn points(&self) -> impl Iterator<Item = &(f64, f64)> {
        self.lines.iter().flat_map(|(_, points)| points)
    }

    fn draw(&self, area: &super::Area<'_>) -> Result<(), String> {
        let (end, top) = (self.end(), self.top() * 1.15);
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 8))
            .margin(10)
            .x_label_area_size(24)
            .y_label_area_size(72)
            .build_cartesian_2d(0.0..end, 0.0..top)
            .map_err(|error| error.to_string())?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .x_label_formatter(&|seconds| format!("{seconds:.0} s"))
            .y_label_formatter(&|value| format!("{value:.0}"))
            .draw()
            .map_err(|error| error.to_string())?;
        for (at, (name, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))
                .map_err(|error| error.to_string())?
                .label(name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 3), (x + 12, y + 3)], colour.filled()));
        }
        if self.lines.is_empty() {
            return Ok(());
        }
        let legend = &mut chart.configure_series_labels();
        legend.position(SeriesLabelPosition::UpperLeft);
        legend.label_font(("sans-serif", 8)).draw().map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_as_text_has_each_line_by_its_own_letters_and_says_which_is_which() {
        let panel =
            Panel::new("told, MiB").with("busy", [(0.0, 0.0), (60.0, 100.0)]).with("idle", [(0.0, 50.0), (60.0, 50.0)]);
        let text = panel.text(60);
        assert!(text.starts_with("told, MiB: ⠒ busy   • idle\n"), "{text}");
        assert_eq!(text.lines().count(), 1 + usize::from(TEXT_LINES));
        let dots = text.lines().skip(1).flat_map(str::chars);
        assert!(dots.clone().any(|letter| ('\u{2801}'..='\u{28ff}').contains(&letter)), "{text}");
        assert!(dots.filter(|letter| *letter == '•').count() > 20, "{text}");
        assert!(text.contains("60 s") && text.contains("100"), "{text}");
        // A panel without points has a picture all the same.
        assert_eq!(Panel::new("none").text(60).lines().count(), 1 + usize::from(TEXT_LINES));
    }
}
