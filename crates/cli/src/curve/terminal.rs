//! The picture of a curve as text: dots of braille, eight to a letter.

use super::Picture;
use crate::client::text::rate;
use memvisor_picture::terminal::{Axis, Line, Stroke, chart};
use memvisor_proto::size::Size;

/// Lines of a picture: half of what a common terminal has.
const LINES: u16 = 18;
/// The picture in `columns` columns, and a line that says where the space is.
pub fn text(picture: &Picture, columns: u16) -> String {
    let (dram_max, loads_max) = (picture.dram_max(), picture.loads_max());
    let target = picture.target_bytes as f64;
    let target = [(target, 0.0), (target, loads_max)];
    let (lows, highs) = (dots(&picture.lows, dram_max, columns), dots(&picture.highs, dram_max, columns));
    // What is certain is a line, what it may be at least and at most are dots.
    let lines = [
        Line { stroke: Stroke::Points, points: &lows },
        Line { stroke: Stroke::Points, points: &highs },
        Line { stroke: Stroke::Letter('•'), points: &target },
        Line { stroke: Stroke::Braille, points: &picture.points },
    ];
    let size = |part: f64| Size((dram_max * part) as u64).to_string();
    let x = Axis { most: dram_max, labels: vec!["0".into(), size(0.5), size(1.0)] };
    let y = Axis { most: loads_max, labels: vec!["0".into(), rate(loads_max / 2.0), rate(loads_max)] };
    let drawn = chart(&lines, x, y, (columns, LINES));
    format!("{}: pages loaded each second (up), by DRAM (right)\n{}{}", picture.name, drawn, place(picture))
}

/// Points along `line`, about one for each letter across.
fn dots(line: &[(f64, f64)], dram_max: f64, columns: u16) -> Vec<(f64, f64)> {
    let step = dram_max / f64::from(columns);
    let between = |pair: &[(f64, f64)]| {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        let count = (((x1 - x0) / step).ceil() as usize).clamp(1, columns.into());
        (0..count)
            .map(move |at| at as f64 / count as f64)
            .map(move |part| (x0 + (x1 - x0) * part, y0 + (y1 - y0) * part))
    };
    line.windows(2).flat_map(between).collect()
}

fn place(picture: &Picture) -> String {
    let loads = picture.loads_at(picture.target_bytes);
    let loads = loads.map_or(String::new(), |loads| format!(": {} loads/s by the curve", rate(loads)));
    let mut text =
        format!("• target {}{loads} · charged {} now\n", Size(picture.target_bytes), Size(picture.charged_bytes));
    if !picture.lows.is_empty() {
        text += "dots: at least, at most (95 times in 100)";
        if picture.resolved_bytes > 0 {
            text += &format!("; below {} only the least is known", Size(picture.resolved_bytes));
        }
        text.push('\n');
    }
    text += &format!("{} first touches/s come at every size\n", rate(picture.first_touches_per_s));
    text + &format!(
        "it costs {} faults/s at most: {} pages are watched\n",
        rate(picture.rechecks_per_s),
        picture.watched_pages
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::tests::knee;

    #[test]
    fn the_curve_falls_from_left_to_right_and_the_axes_say_how_much() {
        let text = text(&knee(), 80);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), usize::from(LINES) + 5);
        let braille = |row: &str| row.chars().position(|letter| ('\u{2801}'..='\u{28ff}').contains(&letter));
        let (top, bottom) = (braille(rows[2]).unwrap(), braille(rows[LINES as usize - 2]).unwrap());
        assert!(top < bottom, "{text}");
        for said in [
            "redis: ",
            "9000",
            "4500",
            "512 MiB",
            "1 GiB",
            "• target 384 MiB: 3250 loads/s",
            "charged 380 MiB",
            "below 256 MiB only the least",
            "12 first touches/s",
            "it costs 20 faults/s at most: 512 pages are watched",
        ] {
            assert!(text.contains(said), "{said} is not in\n{text}");
        }
        assert!(rows.iter().all(|row| row.chars().count() <= 80), "{text}");
    }
}
