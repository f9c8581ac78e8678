//! Keeps the memory of a program in less DRAM than it needs: `core` driven through `sys` and `store`.
//!
//! One [`Monitor`] runs in every address space of a space, one [`Keeper`] beside them. They meet in the space's memory
//! file only. The program's threads speak to their monitor through a [`Door`].
//!
//! Absent on purpose: policy (the target is a number in the header), names of programs, configuration.
#![forbid(unsafe_code)]

mod ahead;
mod door;
mod drain;
mod drop;
mod evict;
mod fault;
mod follow;
mod fork;
mod keeper;
mod layout;
mod loads;
mod look;
mod monitor;
mod postpone;
mod reap;
mod regions;
mod save;
pub mod say;
mod space;
mod staging;
mod stores;
mod watch;
mod windows;

pub use door::{Charged, Door, Note};
pub use drop::SpawnThread;
pub use keeper::{FileBytes, Keeper, KeeperHandle, OnLeave, leave_behind};
pub use monitor::{Monitor, SetupError, Start};
pub use space::{MemberIndex, Space};
pub use stores::Stores;
