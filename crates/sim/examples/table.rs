//! Prints the misses of every replacement on every standard trace.

use memvisor_sim::table::{CAPACITY, HEAD, cases, line};

fn main() {
    println!("{CAPACITY} pages of DRAM");
    println!("{HEAD}");
    for (name, trace) in cases() {
        println!("{}", line(name, &trace));
    }
}
