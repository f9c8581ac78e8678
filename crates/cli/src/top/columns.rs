//! The columns that rows can be sorted by: what stands in each, and what comes first.

use crate::client::text::{class, clean, rate, size_or_dash, space_state};
use clap::ValueEnum;
use memvisor_node::wire::Space;
use memvisor_proto::size::Size;
use std::cmp::Ordering;

/// A column, in the order of the table.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Column {
    /// What the space is called.
    Name,
    /// Who is cut first.
    Class,
    /// Its weight.
    Shares,
    /// DRAM that is promised.
    Reserved,
    /// The most DRAM.
    Limit,
    /// DRAM that is granted.
    Target,
    /// DRAM that it takes.
    Charged,
    /// DRAM that it would take.
    Wanted,
    /// What of that is in use.
    Active,
    /// Faults served each second.
    Faults,
    /// What is done to it.
    State,
}

/// All of them, in the order of the table.
pub const ALL: [Column; 11] = [
    Column::Name,
    Column::Class,
    Column::Shares,
    Column::Reserved,
    Column::Limit,
    Column::Target,
    Column::Charged,
    Column::Wanted,
    Column::Active,
    Column::Faults,
    Column::State,
];

impl Column {
    /// Its head.
    pub fn head(self) -> &'static str {
        match self {
            Column::Name => "NAME",
            Column::Class => "CLASS",
            Column::Shares => "SHARES",
            Column::Reserved => "RESERVED",
            Column::Limit => "LIMIT",
            Column::Target => "TARGET",
            Column::Charged => "CHARGED",
            Column::Wanted => "WANTED",
            Column::Active => "ACTIVE",
            Column::Faults => "FAULTS/s",
            Column::State => "STATE",
        }
    }

    /// How wide it is at least: its head with the arrow of the order, and what stands in it.
    pub fn width(self) -> u16 {
        match self {
            Column::Name => 12,
            Column::Class | Column::State => 8,
            Column::Shares => 7,
            Column::Reserved
            | Column::Limit
            | Column::Target
            | Column::Charged
            | Column::Wanted
            | Column::Active
            | Column::Faults => 9,
        }
    }

    /// Whether it holds numbers, which end in the same column.
    pub fn is_number(self) -> bool {
        !matches!(self, Column::Name | Column::Class | Column::State)
    }

    /// What stands in it.
    pub fn cell(self, space: &Space) -> String {
        let size = |bytes| Size(bytes).to_string();
        match self {
            Column::Name => clean(&space.name),
            Column::Class => class(space.intent.class).into(),
            Column::Shares => space.intent.shares.to_string(),
            Column::Reserved => size_or_dash(space.intent.reservation_bytes),
            Column::Limit => space.intent.limit_bytes.map_or("-".into(), size),
            Column::Target => size(space.target_bytes),
            Column::Charged => size(space.charged_bytes),
            Column::Wanted => size(space.wanted_bytes),
            Column::Active => size(space.active_bytes),
            Column::Faults => rate(space.rates.faults_per_s),
            Column::State => space_state(space).into(),
        }
    }

    /// Which of two spaces comes first: names by the alphabet, numbers the largest first. Equals stay in the order of
    /// their numbers, so that rows do not jump.
    pub fn order(self, a: &Space, b: &Space) -> Ordering {
        let largest_first = |key: fn(&Space) -> u64| key(b).cmp(&key(a));
        let order = match self {
            Column::Name => a.name.cmp(&b.name),
            Column::Class => (b.intent.class as u8).cmp(&(a.intent.class as u8)),
            Column::Shares => largest_first(|space| space.intent.shares.into()),
            Column::Reserved => largest_first(|space| space.intent.reservation_bytes),
            // No limit is the largest.
            Column::Limit => largest_first(|space| space.intent.limit_bytes.unwrap_or(u64::MAX)),
            Column::Target => largest_first(|space| space.target_bytes),
            Column::Charged => largest_first(|space| space.charged_bytes),
            Column::Wanted => largest_first(|space| space.wanted_bytes),
            Column::Active => largest_first(|space| space.active_bytes),
            Column::Faults => b.rates.faults_per_s.total_cmp(&a.rates.faults_per_s),
            Column::State => space_state(a).cmp(space_state(b)),
        };
        order.then(a.number.cmp(&b.number))
    }

    /// The column to the right, or the first behind the last.
    pub fn next(self) -> Column {
        ALL[(self.at() + 1) % ALL.len()]
    }

    /// The column to the left, or the last before the first.
    pub fn previous(self) -> Column {
        ALL[(self.at() + ALL.len() - 1) % ALL.len()]
    }

    fn at(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_right_through_all_columns_comes_back_and_left_undoes_it() {
        for (at, column) in ALL.into_iter().enumerate() {
            assert_eq!(column.at(), at);
            assert_eq!(column.next().previous(), column);
        }
        assert_eq!(ALL.iter().fold(Column::Name, |column, _| column.next()), Column::Name);
    }

    #[test]
    fn every_head_fits_into_its_column_with_an_arrow() {
        for column in ALL {
            assert!(column.head().len() < column.width().into(), "{column:?}");
        }
    }
}
