//! `acceptance short|long [NAME…] [--plain] [--list]`: runs the cases and prints a table.
//!
//! Exit code: 0 when nothing failed, 1 when a case failed, 2 for a command line that is not understood.

use memvisor_acceptance::{Case, Form, Mode, Places, cases, run, table};
use std::process::ExitCode;

const USAGE: &str = "usage: acceptance short|long [NAME…] [--plain] [--list]";

struct Order {
    form: Form,
    mode: Mode,
    list: bool,
    cases: Vec<Case>,
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Order, String> {
    let (mut form, mut mode, mut list, mut chosen) = (None, Mode::Managed, false, Vec::new());
    for argument in arguments {
        match argument.as_str() {
            "short" => form = Some(Form::Short),
            "long" => form = Some(Form::Long),
            "--plain" => mode = Mode::Plain,
            "--list" => list = true,
            name => match cases::ALL.iter().find(|case| case.name == name) {
                Some(case) => chosen.push(*case),
                None => return Err(format!("no case is called {name:?}; --list shows them\n{USAGE}")),
            },
        }
    }
    let form = match form {
        Some(form) => form,
        None if list => Form::Short,
        None => return Err(USAGE.into()),
    };
    let cases = if chosen.is_empty() { cases::ALL.to_vec() } else { chosen };
    Ok(Order { form, mode, list, cases })
}

fn main() -> ExitCode {
    let order = match parse(std::env::args().skip(1)) {
        Ok(order) => order,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    if order.list {
        order.cases.iter().for_each(|case| println!("{:<14} needs {}", case.name, case.needs.join(", ")));
        return ExitCode::SUCCESS;
    }
    let places = Places::find(None);
    println!("{}", table::head());
    let verdicts: Vec<_> = order
        .cases
        .iter()
        .map(|case| {
            let verdict = run(case, order.form, order.mode, &places);
            println!("{}", table::line(case.name, &verdict));
            verdict
        })
        .collect();
    let (summary, failed) = table::summary(&verdicts);
    println!("{summary}");
    ExitCode::from(u8::from(failed > 0))
}
