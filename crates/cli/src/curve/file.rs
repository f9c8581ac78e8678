//! The picture of a curve as a file: PNG with letters of our own, SVG with those of whoever looks at it.

use super::Picture;
use crate::client::text::rate;
use memvisor_picture::Lettered;
use memvisor_proto::size::Size;
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;

const MIB: f64 = 1_048_576.0;
const GIB: f64 = 1024.0 * MIB;
const SIZE: (u32, u32) = (1200, 700);
/// Dots of the picture for each of the font: as large as text in a book at this size.
const SCALE: u8 = 2;
/// Blue and vermilion, which people with any colour vision can tell apart (Okabe and Ito).
const CURVE: RGBColor = RGBColor(0, 114, 178);
const TARGET: RGBColor = RGBColor(213, 94, 0);

/// Why a file cannot be drawn.
pub type DrawFailure = Box<dyn Error + Send + Sync>;

/// Draws `picture` into the PNG file `path`.
///
/// # Errors
/// When the file cannot be written.
pub fn png(picture: &Picture, path: &Path) -> Result<(), DrawFailure> {
    // The picture library panics when its directory is not there, so a file that cannot be is found first.
    std::fs::File::create(path)?;
    draw(picture, &Lettered::new(path, SIZE, SCALE).into_drawing_area())
}

/// Draws `picture` into the SVG file `path`.
///
/// # Errors
/// When the file cannot be written.
pub fn svg(picture: &Picture, path: &Path) -> Result<(), DrawFailure> {
    let mut text = String::new();
    draw(picture, &SVGBackend::with_string(&mut text, SIZE).into_drawing_area())?;
    std::fs::write(path, text)?;
    Ok(())
}

fn draw<B>(picture: &Picture, area: &DrawingArea<B, plotters::coord::Shift>) -> Result<(), DrawFailure>
where
    B: DrawingBackend<ErrorType: 'static>,
{
    area.fill(&WHITE)?;
    let top = picture.loads_max() * 1.05;
    // Marks of the axis are round numbers of this unit.
    let unit = if picture.dram_max() < 4.0 * GIB { MIB } else { GIB };
    let in_unit = |line: &[(f64, f64)]| -> Vec<(f64, f64)> { line.iter().map(|(x, y)| (x / unit, *y)).collect() };
    let font = ("sans-serif", 16);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{}: pages loaded each second, by DRAM (dashed: at least and at most)", picture.name), font)
        .margin(16)
        // Half of the last mark of the axis.
        .margin_right(72)
        .x_label_area_size(40)
        .y_label_area_size(110)
        .build_cartesian_2d(0.0..picture.dram_max() / unit * 1.02, 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(6)
        .y_labels(8)
        .x_label_formatter(&|units| Size((*units * unit) as u64).to_string())
        .y_label_formatter(&|loads| rate(*loads))
        .label_style(font)
        .draw()?;
    for bound in [&picture.lows, &picture.highs] {
        chart.draw_series(DashedLineSeries::new(in_unit(bound), 4, 6, CURVE.mix(0.6).stroke_width(1)))?;
    }
    chart.draw_series(LineSeries::new(in_unit(&picture.points), CURVE.stroke_width(3)))?;
    let target = picture.target_bytes as f64 / unit;
    chart.draw_series(LineSeries::new([(target, 0.0), (target, top)], TARGET.stroke_width(2)))?;
    let label = format!(" target {}", Size(picture.target_bytes));
    chart.draw_series([Text::new(label, (target, top * 0.98), font.into_font().color(&TARGET))])?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::tests::knee;

    #[test]
    fn both_files_are_drawn_and_have_the_curve_in_them() {
        let place = std::env::temp_dir().join(format!("memvisor-curve-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let (dots, lines) = (place.join("curve.png"), place.join("curve.svg"));
        png(&knee(), &dots).unwrap();
        svg(&knee(), &lines).unwrap();
        let (dots, lines) = (std::fs::read(&dots).unwrap(), std::fs::read_to_string(&lines).unwrap());
        std::fs::remove_dir_all(&place).unwrap();
        assert!(dots.starts_with(b"\x89PNG") && dots.len() > 1000, "{}", dots.len());
        for said in ["<svg", "polyline", "target 384 MiB", "redis: pages loaded"] {
            assert!(lines.contains(said), "{said} is not in\n{lines}");
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_to_is_an_error_and_no_panic() {
        let nowhere = Path::new("/no/such/directory/curve");
        assert!(png(&knee(), nowhere).is_err());
        assert!(svg(&knee(), nowhere).is_err());
    }
}
