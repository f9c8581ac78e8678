//! The programs that the cases run, by name: `acceptance-program NAME ARGUMENTS…`.

use memvisor_acceptance::programs;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    match programs::ALL.iter().find(|(known, _)| *known == name) {
        Some((_, program)) => match program(&rest) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => {
                eprintln!("{name}: {reason}");
                ExitCode::FAILURE
            }
        },
        None => {
            let known: Vec<&str> = programs::ALL.iter().map(|(name, _)| *name).collect();
            eprintln!("no program is called {name:?}; there are: {}", known.join(", "));
            ExitCode::from(2)
        }
    }
}
