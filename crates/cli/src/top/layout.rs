//! Which columns a width has room for: the most important first, and always the one that rows are sorted by.

use super::columns::{ALL, Column};
use super::state::HISTORY;

/// Between two columns.
pub const GAP: u16 = 1;
/// The least and the most that a bar of tiers takes.
const BAR: (u16, u16) = (10, 40);
/// The least and the most that a sparkline takes.
const SPARK: (u16, u16) = (8, HISTORY as u16);
/// The most that a name takes.
const NAME_MAX: u16 = 32;

/// A part of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Column(Column),
    Bar,
    Spark,
}

/// What is looked at first comes first.
const RANKS: [Part; 13] = [
    Part::Column(Column::Name),
    Part::Column(Column::Charged),
    Part::Column(Column::Target),
    Part::Bar,
    Part::Column(Column::Faults),
    Part::Column(Column::State),
    Part::Column(Column::Wanted),
    Part::Spark,
    Part::Column(Column::Active),
    Part::Column(Column::Class),
    Part::Column(Column::Limit),
    Part::Column(Column::Reserved),
    Part::Column(Column::Shares),
];

/// The columns with their widths, then the pictures; what is not shown has the width 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// In the order of the table.
    pub columns: Vec<(Column, u16)>,
    /// The bar of tiers.
    pub bar: u16,
    /// The sparkline of faults.
    pub spark: u16,
}

impl Layout {
    /// For `width` columns of a terminal, names that are at most `name` wide, and rows that are sorted by `sort`.
    pub fn new(width: u16, name: u16, sort: Column) -> Self {
        let mut left = width;
        let mut shown = Vec::new();
        let wanted = [Part::Column(Column::Name), Part::Column(sort)].into_iter().chain(RANKS);
        for part in wanted {
            if shown.contains(&part) {
                continue;
            }
            let takes = least(part) + if shown.is_empty() { 0 } else { GAP };
            // What follows matters less: rather than that, what is there already grows.
            let Some(rest) = left.checked_sub(takes) else { break };
            left = rest;
            shown.push(part);
        }
        let has = |part| shown.contains(&part);
        let mut layout = Self {
            columns: ALL
                .into_iter()
                .filter(|column| has(Part::Column(*column)))
                .map(|column| (column, column.width()))
                .collect(),
            bar: if has(Part::Bar) { BAR.0 } else { 0 },
            spark: if has(Part::Spark) { SPARK.0 } else { 0 },
        };
        layout.spend(left, name);
        layout
    }

    /// Gives what is left to names, then to the bar, then to the sparkline.
    fn spend(&mut self, mut left: u16, name: u16) {
        let mut grow = |width: &mut u16, most: u16| {
            let more = most.saturating_sub(*width).min(left);
            if *width > 0 {
                *width += more;
                left -= more;
            }
        };
        if let Some((_, width)) = self.columns.first_mut() {
            grow(width, name.min(NAME_MAX));
        }
        grow(&mut self.bar, BAR.1);
        grow(&mut self.spark, SPARK.1);
    }
}

fn least(part: Part) -> u16 {
    match part {
        Part::Column(column) => column.width(),
        Part::Bar => BAR.0,
        Part::Spark => SPARK.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(layout: &Layout) -> u16 {
        let parts = layout.columns.iter().map(|(_, width)| *width).chain([layout.bar, layout.spark]);
        let (sum, count) = parts.filter(|width| *width > 0).fold((0, 0), |(sum, n), width| (sum + width, n + 1));
        sum + GAP * u16::saturating_sub(count, 1)
    }

    #[test]
    fn no_width_is_overdrawn_and_the_order_is_always_visible() {
        for sort in ALL {
            for width in 0..300 {
                let layout = Layout::new(width, 20, sort);
                assert!(taken(&layout) <= width, "{width} {layout:?}");
                let is_there = layout.columns.iter().any(|(column, _)| *column == sort);
                assert!(is_there || width < 22, "{width} {sort:?}");
            }
        }
    }

    #[test]
    fn a_terminal_of_80_columns_has_the_bar_and_one_of_200_has_everything() {
        let common = Layout::new(80, 12, Column::Charged);
        assert!(common.bar >= BAR.0 && common.columns.len() >= 5, "{common:?}");
        let wide = Layout::new(200, 12, Column::Charged);
        assert_eq!((wide.columns.len(), wide.bar), (ALL.len(), BAR.1));
        assert!(wide.spark > SPARK.0);
    }
}
