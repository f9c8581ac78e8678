//! The plot of a bench: for each series the ratio in each pair, and beside it the median cost of each side.
//!
//! The picture is for a glance; the figures that count are in the table and in the JSON file.

pub mod lines;

use crate::pairs::Series;
use crate::report::{Bench, Goal};
use memvisor_picture::Lettered;
use plotters::prelude::*;
use std::path::Path;

const WIDTH: u32 = 1200;
const ROW_HEIGHT: u32 = 340;

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

/// Draws `bench` into the PNG file `path`.
///
/// # Errors
/// When the file cannot be written.
pub fn draw(bench: &Bench, path: &Path) -> Result<(), String> {
    let rows = bench.series.len().max(1);
    let size = (WIDTH, ROW_HEIGHT * rows as u32);
    let area = Lettered::new(path, size, 1).into_drawing_area();
    let wrong = |error: String| format!("cannot draw {}: {error}", path.display());
    area.fill(&WHITE).map_err(|error| wrong(error.to_string()))?;
    for (series, row) in bench.series.iter().zip(area.split_evenly((rows, 1))) {
        let (left, right) = row.split_horizontally(WIDTH * 3 / 5);
        let goals: Vec<&Goal> = bench.goals.iter().filter(|goal| goal.series == series.name).collect();
        ratios(series, &goals, &left).map_err(wrong)?;
        bars(series, &right).map_err(wrong)?;
    }
    area.present().map_err(|error| wrong(error.to_string()))
}

type Area<'a> = DrawingArea<Lettered<'a>, plotters::coord::Shift>;

/// Ratio per pair, one line a goal.
fn ratios(series: &Series, goals: &[&Goal], area: &Area<'_>) -> Result<(), String> {
    let lines: Vec<(&Goal, String, Vec<f64>)> = goals
        .iter()
        .filter_map(|goal| {
            let names: Vec<&str> = goal.peers.iter().map(String::as_str).collect();
            let peer = series.best_of(&names, goal.cost)?;
            Some((*goal, peer.to_owned(), series.ratios(&goal.ours, peer, goal.cost)))
        })
        .collect();
    let rounds = lines.iter().map(|(_, _, ratios)| ratios.len()).max().unwrap_or(1).max(2);
    let limits = lines.iter().filter_map(|(goal, _, _)| goal.at_most);
    let top = lines.iter().flat_map(|(_, _, ratios)| ratios.iter().copied()).chain(limits).fold(1.2, f64::max) * 1.15;
    let title = format!("{}: ratio in each pair (below 1: ours is less)", series.name);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 8))
        .margin(10)
        .x_label_area_size(24)
        .y_label_area_size(56)
        .build_cartesian_2d(0.5..rounds as f64 + 0.5, 0.0..top)
        .map_err(|error| error.to_string())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_labels(rounds.min(20))
        .x_label_formatter(&|round| format!("{round:.0}"))
        .y_label_formatter(&|ratio| format!("{ratio:.2}"))
        .draw()
        .map_err(|error| error.to_string())?;
    let level = |ratio: f64| vec![(0.5, ratio), (rounds as f64 + 0.5, ratio)];
    chart.draw_series(LineSeries::new(level(1.0), BLACK.mix(0.5))).map_err(|error| error.to_string())?;
    for (at, (goal, peer, ratios)) in lines.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        if let Some(limit) = goal.at_most {
            chart
                .draw_series(DashedLineSeries::new(level(limit), 6, 4, colour.stroke_width(1)))
                .map_err(|error| error.to_string())?;
        }
        let points = || ratios.iter().enumerate().map(|(pair, &ratio)| (pair as f64 + 1.0, ratio));
        chart
            .draw_series(LineSeries::new(points(), colour.stroke_width(2)))
            .map_err(|error| error.to_string())?
            .label(format!("{} / {peer}", goal.what))
            .legend(move |(x, y)| Rectangle::new([(x, y - 3), (x + 12, y + 3)], colour.filled()));
        chart
            .draw_series(points().map(|point| Circle::new(point, 3, colour.filled())))
            .map_err(|error| error.to_string())?;
    }
    if lines.is_empty() {
        return Ok(());
    }
    let legend = &mut chart.configure_series_labels();
    legend.position(SeriesLabelPosition::UpperLeft);
    legend.label_font(("sans-serif", 8)).draw().map_err(|error| error.to_string())
}

/// Median of the series' leading cost, one bar a side, with a whisker from least to most.
fn bars(series: &Series, area: &Area<'_>) -> Result<(), String> {
    let sampled = series.tracks.iter().flat_map(|track| &track.samples);
    let costs: Vec<&str> = sampled.flat_map(|sample| sample.costs.keys().copied()).collect();
    let Some(cost) = costs.iter().find(|cost| cost.starts_with("wall")).or(costs.first()).copied() else {
        return Ok(());
    };
    let spreads: Vec<_> =
        series.tracks.iter().filter_map(|track| Some((&track.name, series.spread(&track.name, cost)?))).collect();
    let top = spreads.iter().map(|(_, spread)| spread.max).fold(0.0, f64::max) * 1.15;
    if top <= 0.0 {
        return Ok(());
    }
    let count = spreads.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{cost}: median, least, most"), ("sans-serif", 8))
        .margin(10)
        .x_label_area_size(24)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..count, 0.0..top)
        .map_err(|error| error.to_string())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_labels(0)
        .y_label_formatter(&|value| format!("{value:.3}").chars().take(7).collect())
        .draw()
        .map_err(|error| error.to_string())?;
    for (at, (name, spread)) in spreads.iter().enumerate() {
        let x = at as f64;
        let colour = COLOURS[at % COLOURS.len()];
        let bar = Rectangle::new([(x + 0.15, 0.0), (x + 0.85, spread.median)], colour.mix(0.8).filled());
        chart.draw_series([bar]).map_err(|error| error.to_string())?;
        let whisker = PathElement::new([(x + 0.5, spread.min), (x + 0.5, spread.max)], BLACK);
        chart.draw_series([whisker]).map_err(|error| error.to_string())?;
        // Alternating heights keep long names of neighbours apart.
        let height = top * if at % 2 == 0 { 0.03 } else { 0.09 };
        let text = Text::new((*name).clone(), (x + 0.05, height), ("sans-serif", 8));
        chart.draw_series([text]).map_err(|error| error.to_string())?;
    }
    Ok(())
}
