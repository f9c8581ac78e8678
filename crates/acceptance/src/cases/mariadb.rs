//! MariaDB under `sysbench oltp_read_write`, checked by its own `CHECK TABLE … EXTENDED` and by checksums of all rows.
//!
//! The tables are made by a plain server. The server under test reads the same checksums, bears the load, checks its tables and
//! stops; a plain server then reads the checksums that it left.

use crate::case::{Case, NotPassed, Outcome, Params, failed, must};
use crate::ctx::Ctx;
use crate::running::{Running, tail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The case. Two thirds of the need is the buffer pool, which the tables fill; rounds are the seconds of load.
pub const CASE: Case = Case {
    name: "mariadb",
    needs: &["root", "mariadbd", "mariadb", "mariadb-install-db", "sysbench"],
    short: Params::new(192, 10, 300),
    long: Params::new(1024, 180, 3600),
    run,
};

const TABLES: u64 = 4;
/// Bytes that a row of sysbench takes in the buffer pool, with its index; measured.
const ROW_COST: u64 = 280;
const SCHEMA: &str = "sbtest";

struct Server<'c> {
    ctx: &'c Ctx,
    running: Running,
    socket: PathBuf,
}

impl<'c> Server<'c> {
    fn start(ctx: &'c Ctx, label: &str, plain: bool) -> Result<Self, NotPassed> {
        // Socket paths have room for 107 bytes, and a build directory may lie deep.
        let socket = std::env::temp_dir().join(format!("acceptance-{}.mysql", std::process::id()));
        let pool = format!("--innodb-buffer-pool-size={}", pool(ctx));
        let launch = ctx.program("mariadbd").label(label);
        let launch = launch.args(["--no-defaults", "--user=root", "--skip-networking", "--skip-grant-tables"]);
        let launch = launch.args([&*pool, "--innodb-flush-log-at-trx-commit=2", "--loose-innodb-log-file-size=64M"]);
        let launch = launch.arg(format!("--datadir={}", data(ctx).display()));
        let launch = launch.arg(format!("--socket={}", socket.display()));
        let launch = launch.arg(format!("--pid-file={}", ctx.directory().join("pid").display()));
        let launch = if plain { launch.plain() } else { launch };
        let mut server = Self { ctx, running: launch.start()?, socket };
        ctx.until("MariaDB to answer", || match (server.running.ended()?, server.sql("SELECT 1")) {
            (Some(status), _) => failed(format!("mariadbd: {status}{}", tail(&server.running.stderr()))),
            (None, answer) => Ok(answer.ok()),
        })?;
        Ok(server)
    }

    fn sql(&self, statement: &str) -> Result<String, NotPassed> {
        let mut command = Command::new("mariadb");
        command.arg("--no-defaults").arg(format!("--socket={}", self.socket.display()));
        said(command.args(["--user=root", "--batch", "--skip-column-names", "-e", statement]))
    }

    fn sysbench(&self, order: &str, seconds: u64) -> Result<String, NotPassed> {
        let rows = pool(self.ctx) / ROW_COST / TABLES;
        let mut command = Command::new("sysbench");
        command.arg("oltp_read_write").arg(format!("--mysql-socket={}", self.socket.display()));
        command.args(["--mysql-user=root", "--mysql-db=sbtest", "--threads=4", "--db-driver=mysql"]);
        command.args([format!("--tables={TABLES}"), format!("--table-size={rows}"), format!("--time={seconds}")]);
        said(command.arg("--mysql-ignore-errors=1213,1205,1020").arg(order))
    }

    /// `statement` for each table, one answer a line.
    fn for_tables(&self, statement: &str, end: &str) -> Result<String, NotPassed> {
        let tables: Vec<String> = (1..=TABLES).map(|table| format!("{SCHEMA}.sbtest{table}")).collect();
        self.sql(&format!("{statement} {}{end}", tables.join(", ")))
    }

    fn checksums(&self) -> Result<String, NotPassed> {
        self.for_tables("CHECKSUM TABLE", " EXTENDED")
    }

    fn stop(self) -> Outcome {
        self.sql("SHUTDOWN")?;
        self.running.finish(self.ctx)?.must_succeed().map(drop)
    }
}

/// The rest of the need is what the server takes for itself: 90 MiB and more with each connection.
fn pool(ctx: &Ctx) -> u64 {
    ctx.params.bytes / 3 * 2
}

fn data(ctx: &Ctx) -> PathBuf {
    ctx.directory().join("data")
}

/// Runs a client to its end and gives what it said.
fn said(command: &mut Command) -> Result<String, NotPassed> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(text),
        false => {
            let program = command.get_program().to_string_lossy().into_owned();
            let error = String::from_utf8_lossy(&output.stderr);
            failed(format!("{program}: {}{}{}", output.status, tail(&text), tail(&error)))
        }
    }
}

fn run(ctx: &Ctx) -> Outcome {
    let mut install = Command::new("mariadb-install-db");
    install.args(["--no-defaults", "--user=root", "--skip-test-db", "--auth-root-authentication-method=normal"]);
    said(install.arg(format!("--datadir={}", data(ctx).display())))?;

    let maker = Server::start(ctx, "maker", true)?;
    maker.sql(&format!("CREATE DATABASE {SCHEMA}"))?;
    maker.sysbench("prepare", 0)?;
    let made = maker.checksums()?;
    maker.stop()?;

    let server = Server::start(ctx, "server", false)?;
    let found = server.checksums()?;
    must(found == made, || format!("checksums before the load: {found}, must be {made}"))?;
    let load = server.sysbench("run", ctx.params.rounds)?;
    must(load.contains("transactions:"), || format!("no load: {}", tail(&load)))?;
    let checked = server.for_tables("CHECK TABLE", " EXTENDED")?;
    let sound = checked.lines().filter(|line| line.ends_with("\tOK")).count();
    must(sound as u64 == TABLES, || format!("CHECK TABLE found: {checked}"))?;
    let left = server.checksums()?;
    must(left != made, || "the load changed nothing".into())?;
    server.stop()?;

    let witness = Server::start(ctx, "witness", true)?;
    let found = witness.checksums()?;
    must(found == left, || format!("checksums after the load: {found}, the server left {left}"))?;
    witness.stop()?;
    // The data is large; a failure keeps it to look at.
    Ok(fs::remove_dir_all(data(ctx))?)
}
