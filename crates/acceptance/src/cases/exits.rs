//! Programs that cannot be managed or started: what is said, and which exit code follows.
//!
//! | program | | exit code |
//! | --- | --- | --- |
//! | static | runs unmanaged, said once; with `--strict` not at all | its own; not 0 |
//! | setuid | the same | |
//! | either, started by a child | the same | |
//! | missing | | 127 |
//! | no permission to execute | | 126 |
//! | ends by itself | | its own, 128 and the number for a signal |

use crate::case::{Case, NotPassed, Outcome, Params, must};
use crate::ctx::Ctx;
use crate::launch::Launch;
use crate::running::{Finished, tail};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// The case.
pub const CASE: Case = Case {
    name: "exits",
    needs: &["root", "rustc", "gcc", "sh"],
    short: Params::new(64, 1, 120),
    long: Params::new(64, 1, 120),
    run,
};

/// Nobody, by number: every Debian has it.
const NOBODY: u32 = 65534;

fn run(ctx: &Ctx) -> Outcome {
    own_codes(ctx)?;
    if !ctx.managed() {
        return Ok(());
    }
    let static_program = crate::guest::static_check(ctx)?;
    unmanaged(ctx, &static_program, &["hello"], "static")?;
    let setuid = setuid_copy(ctx)?;
    unmanaged(ctx, &setuid, &["touch", "4096", "1"], "set-user-ID")?;
    // `"$@"; exit $?` keeps the shell: it starts the program as a child.
    let as_a_child = |program: &Path, arguments: &[&str], word: &str| {
        let program = program.to_string_lossy();
        let words = [&["-c", "\"$@\"; exit $?", "sh", &*program], arguments].concat();
        unmanaged(ctx, Path::new("sh"), &words, word)
    };
    as_a_child(&static_program, &["hello"], "static")?;
    as_a_child(&setuid, &["touch", "4096", "1"], "set-user-ID")?;
    refused(ctx, &ctx.directory().join("no-such-program"), 127, "no-such-program")?;
    let plain_file = ctx.directory().join("no-program");
    fs::write(&plain_file, "text")?;
    refused(ctx, &plain_file, 126, "no-program")
}

/// The exit code is the program's own.
fn own_codes(ctx: &Ctx) -> Outcome {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15), ("kill -SEGV $$", 128 + 11)] {
        let finished = ctx.program("sh").label("codes").args(["-c", script]).may_fit().run()?;
        must(finished.code() == code, || format!("{script:?} gave {}, must give {code}", finished.code()))?;
    }
    Ok(())
}

fn setuid_copy(ctx: &Ctx) -> Result<PathBuf, NotPassed> {
    let copy = ctx.directory().join("gains-privileges");
    fs::copy(&ctx.places.program, &copy)?;
    chown(&copy, Some(NOBODY), Some(NOBODY))?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755))?;
    Ok(copy)
}

/// The program runs unmanaged, which is said once with `word`; with `--strict` it does not run and the reason is said.
fn unmanaged(ctx: &Ctx, program: &Path, arguments: &[&str], word: &str) -> Outcome {
    let start = |flags: &[&str], label: &str| -> Result<Finished, NotPassed> {
        let launch: Launch = ctx.program(&program.to_string_lossy()).label(&format!("{word}-{label}"));
        launch.args(arguments).flags(flags).may_fit().start()?.finish_any()
    };
    let free = start(&[], "free")?;
    must(free.code() == 0, || format!("the {word} program gave {}: {}", free.code(), tail(&free.stderr)))?;
    let said = free.stderr.lines().filter(|line| line.starts_with("memvisor:") && line.contains(word)).count();
    must(said == 1, || format!("{said} lines say that the program is {word}: {}", tail(&free.stderr)))?;
    let strict = start(&["--strict"], "strict")?;
    must(strict.code() != 0, || format!("--strict ran the {word} program"))?;
    must(strict.stdout.is_empty(), || format!("--strict ran the {word} program: {}", strict.stdout))?;
    must(strict.stderr.contains(word), || format!("--strict did not say {word}: {}", tail(&strict.stderr)))
}

/// Nothing runs, the exit code is `code` and the message names `name`.
fn refused(ctx: &Ctx, program: &Path, code: i32, name: &str) -> Outcome {
    let launch = ctx.program(&program.to_string_lossy()).label("refused").may_fit();
    let finished = launch.start()?.finish_any()?;
    must(finished.code() == code, || format!("{name} gave {}, must give {code}", finished.code()))?;
    must(finished.stderr.contains(name), || format!("the message does not name it: {}", tail(&finished.stderr)))
}
