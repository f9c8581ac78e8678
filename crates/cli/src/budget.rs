//! The budget of a space: the sizes as meant, from the sizes as typed and what the machine has.

use crate::args::RunArgs;
use crate::exit::Failure;
use crate::host::Memory;
use crate::size::Size;
use std::fmt;

/// The least that a program can run in: its running set of pages, the staging area and the tables of the pager.
pub const DRAM_MIN: u64 = 16 << 20;
/// Part of the available memory that a program gets when nobody says how much, in percent. The rest is for the pages
/// that are not managed, for the file cache and for others.
pub const DEFAULT_PERCENT: u64 = 75;
/// The most of the budget that compressed pages may take when there is nowhere else to put pages, in percent.
const RAM_ALONE_PERCENT: u64 = 85;
/// The same when there is a store below: half, so that what is hot has room.
const RAM_ABOVE_STORE_PERCENT: u64 = 50;

/// How much DRAM a space gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// What it may take now, in bytes.
    pub dram: u64,
    /// The most of it that compressed pages may take, in bytes.
    pub ram_store: u64,
    /// What it is guaranteed, in bytes.
    pub reservation: u64,
    /// What it may never exceed, in bytes; `None` without a limit.
    pub limit: Option<u64>,
    /// Its weight.
    pub shares: u32,
}

/// Why the sizes make no budget.
#[derive(Debug, PartialEq, Eq)]
pub enum BudgetError {
    /// Less than a program can run in.
    TooSmall(&'static str, u64),
    /// A size that must not exceed another does.
    Order {
        /// The option that is too large.
        larger: &'static str,
        /// Its value.
        is: u64,
        /// The option that it must not exceed.
        than: &'static str,
        /// The value of that one.
        most: u64,
    },
    /// More is to be guaranteed than the machine has.
    NotThere {
        /// What is to be guaranteed.
        reservation: u64,
        /// What there is.
        available: u64,
    },
}

impl fmt::Display for BudgetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BudgetError::TooSmall(option, bytes) => {
                write!(f, "{option} {} is too small to hold a program: the least is {}", Size(*bytes), Size(DRAM_MIN))
            }
            BudgetError::Order { larger, is, than, most } => {
                write!(f, "{larger} {} is more than {than} {}", Size(*is), Size(*most))
            }
            BudgetError::NotThere { reservation, available } => write!(
                f,
                "--reservation {} cannot be guaranteed: the machine has {} available",
                Size(*reservation),
                Size(*available)
            ),
        }
    }
}

impl std::error::Error for BudgetError {}

impl Failure for BudgetError {
    fn way_out(&self) -> Option<String> {
        Some(match self {
            BudgetError::TooSmall(option, _) => format!("give {option} 16M or more, such as {option} 256M"),
            BudgetError::Order { larger, than, .. } => {
                format!("lower {larger} or raise {than}; the order is --reservation ≤ --dram ≤ --limit")
            }
            BudgetError::NotThere { available, .. } => {
                format!("reserve at most {}, or free memory first", Size(*available))
            }
        })
    }
}

impl Budget {
    /// The budget that the arguments mean on a machine with this memory.
    ///
    /// # Errors
    /// When they contradict each other or the machine.
    pub fn plan(args: &RunArgs, memory: Memory) -> Result<Self, BudgetError> {
        let bytes = |size: Option<Size>| size.map(|size| size.0);
        let (reservation, limit) = (bytes(args.reservation).unwrap_or(0), bytes(args.limit));
        let dram = bytes(args.dram).unwrap_or_else(|| {
            let fair = memory.available / 100 * DEFAULT_PERCENT;
            fair.max(reservation).max(DRAM_MIN).min(limit.unwrap_or(u64::MAX))
        });
        if let Some(limit) = limit.filter(|limit| *limit < DRAM_MIN) {
            return Err(BudgetError::TooSmall("--limit", limit));
        }
        if dram < DRAM_MIN {
            return Err(BudgetError::TooSmall("--dram", dram));
        }
        at_most("--reservation", reservation, "--limit", limit)?;
        at_most("--dram", dram, "--limit", limit)?;
        at_most("--reservation", reservation, "--dram", Some(dram))?;
        if reservation > memory.available {
            return Err(BudgetError::NotThere { reservation, available: memory.available });
        }
        let percent = if args.store.is_some() { RAM_ABOVE_STORE_PERCENT } else { RAM_ALONE_PERCENT };
        Ok(Self { dram, ram_store: dram / 100 * percent, reservation, limit, shares: args.shares })
    }
}

fn at_most(larger: &'static str, is: u64, than: &'static str, most: Option<u64>) -> Result<(), BudgetError> {
    match most {
        Some(most) if is > most => Err(BudgetError::Order { larger, is, than, most }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    const MACHINE: Memory = Memory { total: 8 << 30, available: 4 << 30 };

    fn plan(typed: &str) -> Result<Budget, BudgetError> {
        let words = ["memvisor", "run"].into_iter().chain(typed.split_ascii_whitespace()).chain(["--", "true"]);
        let Command::Run(args) = Cli::try_parse_from(words).unwrap().command else { panic!("not run") };
        Budget::plan(&args, MACHINE)
    }

    #[test]
    fn without_a_word_a_program_gets_three_quarters_of_what_is_available() {
        let budget = plan("").unwrap();
        assert_eq!(budget.dram, (4u64 << 30) / 100 * 75);
        assert_eq!((budget.reservation, budget.limit, budget.shares), (0, None, 1000));
    }

    #[test]
    fn a_limit_or_a_reservation_bounds_what_is_not_said() {
        assert_eq!(plan("--limit 1G").unwrap().dram, 1 << 30);
        assert_eq!(plan("--reservation 3.5G").unwrap().dram, 7 << 29);
    }

    #[test]
    fn compressed_pages_get_less_when_there_is_a_store_below() {
        let (alone, above) = (plan("--dram 256M").unwrap(), plan("--dram 256M --store /tmp").unwrap());
        assert!(above.ram_store < alone.ram_store && alone.ram_store < alone.dram);
    }

    #[test]
    fn sizes_that_contradict_each_other_are_refused_by_name() {
        let order = |larger, is, than, most| Err(BudgetError::Order { larger, is, than, most });
        assert_eq!(plan("--dram 2G --limit 1G"), order("--dram", 2 << 30, "--limit", 1 << 30));
        assert_eq!(plan("--reservation 2G --limit 1G"), order("--reservation", 2 << 30, "--limit", 1 << 30));
        assert_eq!(plan("--reservation 2G --dram 1G"), order("--reservation", 2 << 30, "--dram", 1 << 30));
        assert_eq!(plan("--dram 1M"), Err(BudgetError::TooSmall("--dram", 1 << 20)));
        assert_eq!(plan("--limit 1M"), Err(BudgetError::TooSmall("--limit", 1 << 20)));
        let error = plan("--reservation 5G --dram 6G").unwrap_err();
        assert_eq!(error, BudgetError::NotThere { reservation: 5 << 30, available: 4 << 30 });
        assert!(error.to_string().contains("cannot be guaranteed") && error.way_out().is_some());
    }
}
