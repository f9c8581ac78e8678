//! Lines over time, one panel above the other.

use super::COLOURS;
use memvisor_picture::Lettered;
use plotters::prelude::*;
use std::path::Path;

const WIDTH: u32 = 1200;
const PANEL_HEIGHT: u32 = 320;

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

    fn draw(&self, area: &super::Area<'_>) -> Result<(), String> {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let end = points().map(|point| point.0).fold(1.0, f64::max);
        let top = points().map(|point| point.1).fold(0.0, f64::max).max(1e-9) * 1.15;
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
