//! The picture of a miss-ratio curve: what is in it ([`Picture`]), and how it is drawn on a terminal and into files.

pub mod file;
pub mod terminal;

use crate::client::text::clean;
use memvisor_node::wire::{self, CurvePoint};

/// A curve, and where on it the space is.
#[derive(Debug)]
pub struct Picture {
    /// The space, safe to print.
    pub name: String,
    /// DRAM in bytes and loads each second, most likely, by rising DRAM.
    pub points: Vec<(f64, f64)>,
    /// The same, at least.
    pub lows: Vec<(f64, f64)>,
    /// The same, at most: only where that is known.
    pub highs: Vec<(f64, f64)>,
    /// Below this size only the least is known.
    pub resolved_bytes: u64,
    /// First touches each second: no size spares them.
    pub first_touches_per_s: f64,
    /// Pages whose uses are followed for it.
    pub watched_pages: u64,
    /// Pages hidden each second only to see when they are used again: what it costs.
    pub rechecks_per_s: f64,
    /// DRAM that is granted, in bytes.
    pub target_bytes: u64,
    /// DRAM that is charged, in bytes.
    pub charged_bytes: u64,
}

impl Picture {
    /// The picture of `curve`, which is that of `space`.
    pub fn of(mut curve: wire::Curve, space: &wire::Space) -> Self {
        // Drawn from left to right, whatever a node of another version does.
        curve.points.sort_by_key(|point| point.dram_bytes);
        let line = |loads: fn(&CurvePoint) -> Option<f64>| {
            let points = curve.points.iter();
            points.filter_map(|point| Some((point.dram_bytes as f64, loads(point)?.max(0.0)))).collect()
        };
        Self {
            name: clean(&curve.name),
            points: line(|point| Some(point.loads_per_s)),
            lows: line(|point| Some(point.loads_per_s_low)),
            highs: line(|point| point.loads_per_s_high),
            resolved_bytes: curve.resolved_bytes,
            first_touches_per_s: curve.first_touches_per_s,
            watched_pages: curve.watched_pages,
            rechecks_per_s: curve.rechecks_per_s,
            target_bytes: space.target_bytes,
            charged_bytes: space.charged_bytes,
        }
    }

    /// The most DRAM in the picture, in bytes: never nothing.
    pub fn dram_max(&self) -> f64 {
        let last = self.points.last().map_or(0.0, |point| point.0);
        last.max(self.target_bytes as f64).max(1.0)
    }

    /// The most loads a second in the picture: never none.
    pub fn loads_max(&self) -> f64 {
        let most = self.points.iter().chain(&self.highs).map(|point| point.1).fold(0.0, f64::max);
        // A curve that is zero everywhere lies on the floor of a picture, not on its ceiling.
        if most > 0.0 { most } else { 1.0 }
    }

    /// Loads each second at `dram_bytes`, between the points by a straight line; `None` outside the curve.
    pub fn loads_at(&self, dram_bytes: u64) -> Option<f64> {
        let at = dram_bytes as f64;
        let pair = self.points.windows(2).find(|pair| pair[0].0 <= at && at <= pair[1].0)?;
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
        let part = if x1 > x0 { (at - x0) / (x1 - x0) } else { 0.0 };
        Some(y0 + (y1 - y0) * part)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A program with a working set of 512 MiB in 1 GiB.
    pub fn knee() -> Picture {
        let points = [(0, 9000.0), (256, 6000.0), (512, 500.0), (1024, 0.0)];
        let point = |(mib, loads_per_s): (u64, f64)| CurvePoint {
            part: mib as f64 / 512.0,
            dram_bytes: mib << 20,
            loads_per_s,
            loads_per_s_low: loads_per_s * 0.9,
            loads_per_s_high: (mib > 0).then_some(loads_per_s * 1.1),
        };
        let curve = wire::Curve {
            name: "redis".into(),
            present_bytes: 512 << 20,
            resolved_bytes: 256 << 20,
            first_touches_per_s: 12.0,
            watched_pages: 512,
            rechecks_per_s: 20.0,
            points: points.map(point).to_vec(),
        };
        let space = wire::Space { target_bytes: 384 << 20, charged_bytes: 380 << 20, ..wire::Space::default() };
        Picture::of(curve, &space)
    }

    #[test]
    fn loads_between_two_points_lie_on_the_line() {
        let picture = knee();
        assert_eq!(picture.loads_at(384 << 20), Some(3250.0));
        assert_eq!(picture.loads_at(1024 << 20), Some(0.0));
        assert_eq!(picture.loads_at(2048 << 20), None);
    }

    #[test]
    fn a_curve_without_points_has_a_picture_all_the_same() {
        let picture = Picture::of(wire::Curve::default(), &wire::Space::default());
        assert_eq!((picture.dram_max(), picture.loads_max(), picture.loads_at(0)), (1.0, 1.0, None));
    }
}
