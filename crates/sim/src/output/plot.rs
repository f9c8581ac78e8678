//! The plot: what is charged to each group, what it was granted, and how fast it ran, over time.
//!
//! The picture is for a glance; the figures that count are in the table and in the JSON series.

use crate::scenario::Scenario;
use crate::series::{Series, Spread, Sums};
use memvisor_picture::Lettered;
use plotters::prelude::*;
use std::fmt;
use std::path::Path;

const WIDTH: u32 = 1200;
const ROW_HEIGHT: u32 = 360;
const LETTERS: (&str, u32) = ("sans-serif", 12);
const MIB: f64 = (1 << 20) as f64;
/// More points than dots across show nothing more.
const POINTS_MAX: usize = 1000;

/// Colours that people with any colour vision can tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// Why there is no plot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlotError {
    /// The name of the file says neither PNG nor SVG.
    Kind,
    /// It cannot be drawn or written.
    Draw(String),
}

impl fmt::Display for PlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind => f.write_str("a plot is a file whose name ends in .png or .svg"),
            Self::Draw(reason) => write!(f, "the plot cannot be drawn: {reason}"),
        }
    }
}

impl std::error::Error for PlotError {}

/// One part of the picture.
struct Row {
    title: &'static str,
    solid: fn(&Sums) -> Spread,
    dashed: Option<fn(&Sums) -> Spread>,
    unit: f64,
}

const ROWS: [Row; 3] = [
    Row {
        title: "MiB charged to a space (thin: granted)",
        solid: |sums| sums.charged_bytes,
        dashed: Some(|sums| sums.target_bytes),
        unit: MIB,
    },
    Row {
        title: "MiB that a space uses, as the policy is told (thin: in truth, in DRAM)",
        solid: |sums| sums.active_bytes,
        dashed: Some(|sums| sums.used_bytes),
        unit: MIB,
    },
    Row {
        title: "throughput as a part of that with all in DRAM",
        solid: |sums| sums.throughput,
        dashed: None,
        unit: 1.0,
    },
];

/// Draws a series into the file `path`, PNG or SVG by its name.
///
/// # Errors
/// When the name is another, or the file cannot be written.
pub fn plot(scenario: &Scenario, series: &Series, path: &Path) -> Result<(), PlotError> {
    let size = (WIDTH, ROW_HEIGHT * ROWS.len() as u32);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("png") => draw(scenario, series, &Lettered::new(path, size, 1).into_drawing_area()),
        Some("svg") => draw(scenario, series, &SVGBackend::new(path, size).into_drawing_area()),
        Some(_) | None => return Err(PlotError::Kind),
    }
    .map_err(PlotError::Draw)
}

type Area<B> = DrawingArea<B, plotters::coord::Shift>;

fn draw<B: DrawingBackend>(scenario: &Scenario, series: &Series, area: &Area<B>) -> Result<(), String> {
    area.fill(&WHITE).map_err(|error| error.to_string())?;
    for (row, area) in ROWS.iter().zip(area.split_evenly((ROWS.len(), 1))) {
        draw_row(scenario, series, row, &area).map_err(|error| error.to_string())?;
    }
    area.present().map_err(|error| error.to_string())
}

fn draw_row<B: DrawingBackend>(
    scenario: &Scenario,
    series: &Series,
    row: &Row,
    area: &Area<B>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let every = series.samples.len().div_ceil(POINTS_MAX).max(1);
    let points = |group: usize, of: fn(&Sums) -> Spread| -> Vec<(f64, f64)> {
        let samples = series.samples.iter().step_by(every);
        let point = |at_ns: u64, mean: f64| (at_ns as f64 / 1e9, mean / row.unit);
        samples.filter_map(|sample| Some(point(sample.at_ns, of(&sample.groups[group]).mean()?))).collect()
    };
    let groups = 0..scenario.groups.len();
    let drawn = |group: usize| std::iter::once(row.solid).chain(row.dashed).map(move |of| points(group, of));
    let top = groups.clone().flat_map(drawn).flatten().map(|point| point.1).fold(0.0, f64::max).max(0.001) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(row.title, LETTERS)
        .margin(10)
        .x_label_area_size(24)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..scenario.length_ns as f64 / 1e9, 0.0..top)?;
    let label = |value: &f64| if top < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") };
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .label_style(LETTERS)
        .x_label_formatter(&|second| format!("{second:.0} s"))
        .y_label_formatter(&label)
        .draw()?;
    for group in groups {
        let colour = COLOURS[group % COLOURS.len()];
        chart
            .draw_series(LineSeries::new(points(group, row.solid), colour.stroke_width(2)))?
            .label(scenario.groups[group].name.clone())
            .legend(move |(x, y)| Rectangle::new([(x, y - 3), (x + 12, y + 3)], colour.filled()));
        if let Some(of) = row.dashed {
            chart.draw_series(LineSeries::new(points(group, of), colour.mix(0.5).stroke_width(1)))?;
        }
    }
    let legend = &mut chart.configure_series_labels();
    legend.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.8)).label_font(LETTERS).draw()
}
