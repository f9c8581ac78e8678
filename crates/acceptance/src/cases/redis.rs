//! Redis under write load with BGSAVE.
//!
//! 1. While a writer overwrites keys, a dump is made. A plain Redis loads it, and each value in it is whole and of a version
//!    that was written before the dump was done.
//! 2. The writer stops. Each key has its last version, `DEBUG DIGEST` is taken, a second dump is made, and the plain Redis that
//!    loads it gives the same digest.

use crate::case::{Case, NotPassed, Outcome, Params, failed, must};
use crate::ctx::Ctx;
use crate::pattern::{Dice, Pattern};
use crate::resp::{Answer, Client};
use crate::running::Running;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// The case. Rounds are dumps under load.
pub const CASE: Case = Case {
    name: "redis-bgsave",
    needs: &["root", "redis-server"],
    short: Params::new(128, 1, 240),
    long: Params::new(1024, 5, 1800),
    run,
};

const VALUE_BYTES: usize = 4000;
/// What Redis needs for a key and a value of [`VALUE_BYTES`], with its own structures.
const KEY_COST: u64 = 4608;
/// Commands in flight.
const PIPELINE: u64 = 64;

/// The value of `key` at `version`: says which it is, then contents that follow from it.
fn value(key: u64, version: u64) -> Vec<u8> {
    let pattern = Pattern::new(key, version);
    let words = (2..VALUE_BYTES / 8).map(|at| pattern.word(at));
    [key, version].into_iter().chain(words).flat_map(u64::to_le_bytes).collect()
}

/// The version of a value of `key`, if it is whole.
fn version_of(key: u64, bytes: &[u8]) -> Result<u64, NotPassed> {
    let version = bytes.get(8..16).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
    match version {
        Some(version) if value(key, version) == bytes => Ok(version),
        _ => failed(format!("the value of key {key} is torn: {:02x?}…", &bytes[..bytes.len().min(32)])),
    }
}

fn name(key: u64) -> Vec<u8> {
    format!("key:{key}").into_bytes()
}

/// A Redis with its own directory.
struct Server {
    running: Running,
    socket: PathBuf,
    directory: PathBuf,
}

impl Server {
    /// Starts it, with `dump` to load if there is one, and waits until it has loaded.
    fn start(ctx: &Ctx, label: &str, plain: bool, dump: Option<&Path>) -> Result<Self, NotPassed> {
        let directory = ctx.directory().join(label);
        std::fs::create_dir_all(&directory)?;
        if let Some(dump) = dump {
            std::fs::copy(dump, directory.join("dump.rdb"))?;
        }
        // Socket paths have room for 107 bytes, and a build directory may lie deep.
        let socket = std::env::temp_dir().join(format!("acceptance-{}-{label}.sock", std::process::id()));
        let launch = ctx.program("redis-server").label(label);
        let launch = launch.args(["--port", "0", "--save", "", "--enable-debug-command", "yes"]);
        let launch = launch.args(["--rdbcompression", "no", "--daemonize", "no"]);
        let launch = launch.arg("--dir").arg(&directory).arg("--unixsocket").arg(&socket);
        let launch = if plain { launch.plain() } else { launch };
        let server = Self { running: launch.start()?, socket, directory };
        ctx.until("Redis to answer", || match Client::connect(&server.socket).map(|mut it| it.text("PING")) {
            Ok(Ok(pong)) if pong == "PONG" => Ok(Some(())),
            _ => Ok(None),
        })?;
        Ok(server)
    }

    fn client(&self) -> Result<Client, NotPassed> {
        Ok(Client::connect(&self.socket)?)
    }

    /// Makes a dump and waits for it.
    fn dump(&self, ctx: &Ctx) -> Result<PathBuf, NotPassed> {
        let mut client = self.client()?;
        client.text("BGSAVE")?;
        ctx.until("BGSAVE to end", || {
            let facts = client.text("INFO persistence")?;
            Ok(facts.contains("rdb_bgsave_in_progress:0").then_some(facts))
        })
        .and_then(|facts| match facts.contains("rdb_last_bgsave_status:ok") {
            true => Ok(self.directory.join("dump.rdb")),
            false => failed(format!("BGSAVE failed: {facts}")),
        })
    }

    fn stop(self, ctx: &Ctx) -> Outcome {
        // The server closes the connection instead of answering.
        let _ = self.client()?.text("SHUTDOWN NOSAVE");
        let finished = self.running.finish(ctx)?;
        let _ = std::fs::remove_file(&self.socket);
        finished.must_succeed().map(drop)
    }
}

fn run(ctx: &Ctx) -> Outcome {
    let keys = ctx.params.bytes / KEY_COST;
    let server = Server::start(ctx, "loaded", false, None)?;
    let mut client = server.client()?;
    for first in (0..keys).step_by(PIPELINE as usize) {
        set(&mut client, &(first..keys.min(first + PIPELINE)).map(|key| (key, 0)).collect::<Vec<_>>())?;
    }
    let mut versions = vec![0; keys as usize];
    for round in 0..ctx.params.rounds {
        let (dump, written) = dump_under_load(ctx, &server, versions, round)?;
        versions = written;
        let witness = Server::start(ctx, "witness", true, Some(&dump))?;
        check_all(&witness, keys, |key, version| version <= versions[key as usize])?;
        witness.stop(ctx)?;
    }
    check_all(&server, keys, |key, version| version == versions[key as usize])?;
    let digest = client.text("DEBUG DIGEST")?;
    let dump = server.dump(ctx)?;
    must(client.text("DEBUG DIGEST")? == digest, || "the digest changed without a write".into())?;
    let witness = Server::start(ctx, "witness", true, Some(&dump))?;
    let found = witness.client()?.text("DEBUG DIGEST")?;
    must(found == digest, || format!("the dump's digest is {found}, the server's {digest}"))?;
    witness.stop(ctx)?;
    server.stop(ctx)
}

fn set(client: &mut Client, pairs: &[(u64, u64)]) -> Outcome {
    let parts: Vec<_> = pairs.iter().map(|&(key, version)| (name(key), value(key, version))).collect();
    let commands: Vec<[&[u8]; 3]> = parts.iter().map(|(name, value)| [&b"SET"[..], name, value]).collect();
    client.ask_all(&commands.iter().map(|command| &command[..]).collect::<Vec<_>>())?;
    Ok(())
}

/// Makes a dump while a writer gives random keys new versions; gives the dump and the versions written.
fn dump_under_load(
    ctx: &Ctx,
    server: &Server,
    mut versions: Vec<u64>,
    round: u64,
) -> Result<(PathBuf, Vec<u64>), NotPassed> {
    let over = AtomicBool::new(false);
    let mut client = server.client()?;
    thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<Vec<u64>, NotPassed> {
            let mut dice = Dice::new(round);
            while !over.load(Ordering::Relaxed) {
                let pairs: Vec<(u64, u64)> = (0..PIPELINE)
                    .map(|_| {
                        let key = dice.below(versions.len() as u64);
                        versions[key as usize] += 1;
                        (key, versions[key as usize])
                    })
                    .collect();
                set(&mut client, &pairs)?;
            }
            Ok(versions)
        });
        let dump = server.dump(ctx);
        over.store(true, Ordering::Relaxed);
        let versions = writer.join().expect("the writer does not panic")?;
        Ok((dump?, versions))
    })
}

/// Reads every key and asks whether its version is right.
fn check_all(server: &Server, keys: u64, right: impl Fn(u64, u64) -> bool) -> Outcome {
    let mut client = server.client()?;
    let size = client.text("DBSIZE")?;
    must(size == keys.to_string(), || format!("there are {size} keys, {keys} were written"))?;
    for first in (0..keys).step_by(PIPELINE as usize) {
        let names: Vec<_> = (first..keys.min(first + PIPELINE)).map(name).collect();
        let commands: Vec<[&[u8]; 2]> = names.iter().map(|name| [&b"GET"[..], name]).collect();
        let answers = client.ask_all(&commands.iter().map(|command| &command[..]).collect::<Vec<_>>())?;
        for (key, answer) in (first..).zip(answers) {
            let Answer::Bytes(bytes) = answer else { return failed(format!("key {key} is gone: {answer:?}")) };
            let version = version_of(key, &bytes)?;
            must(right(key, version), || format!("key {key} has version {version}, which is not what was written"))?;
        }
    }
    Ok(())
}
