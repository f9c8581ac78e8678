//! Compares goals with the optimum that a linear program finds, on small random instances.
//!
//! ```text
//!   cargo x optimum [COUNT [SEED]]
//!   cargo run --release -p memvisor-policy --example optimum -- [--dump] [COUNT [SEED]]
//! ```
//!
//! Each instance is a situation, the settings and the plan that was made of them, as one line of JSON. They are piped into
//! `tools/optimum.py`, which says what is compared with what; with `--dump` they are printed.
//!
//! Exit codes: 0 all goals are as near as is claimed; 1 it cannot run here, and a line with `CANNOT RUN` says why; 2 wrong arguments;
//! 3 a goal is off.

use memvisor_policy::{Host, Intent, Memory, Observation, Settings, Situation, Space, SpaceId, Tax, plan};
use std::io::Write;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

const MIB: u64 = 1 << 20;
const COUNT: u64 = 200;
const SEED: u64 = 1;

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let dump = args.first().is_some_and(|arg| arg == "--dump");
    args.drain(..usize::from(dump));
    let number = |at: usize, usual: u64| args.get(at).map_or(Ok(usual), |arg| arg.parse());
    let (Ok(count), Ok(seed)) = (number(0, COUNT), number(1, SEED)) else {
        eprintln!("usage: optimum [--dump] [COUNT [SEED]]");
        return ExitCode::from(2);
    };
    let lines: Vec<String> =
        (0..count).map(|at| instance(&mut Random(seed.wrapping_mul(1_000_003).wrapping_add(at)))).collect();
    if dump {
        println!("{}", lines.join("\n"));
        return ExitCode::SUCCESS;
    }
    println!("{count} instances from seed {seed}");
    compare(&lines)
}

/// A host with two to eight spaces whose reservations fit, and its first plan, as JSON.
fn instance(random: &mut Random) -> String {
    let spaces: Vec<Space> = (0..2 + random.below(7)).map(|id| space(id, random)).collect();
    let sum = |of: &dyn Fn(&Space) -> u64| spaces.iter().map(of).sum::<u64>();
    let reserved = sum(&|space| space.intent.reserved_bytes());
    let most = sum(&|space| space.intent.limited_bytes(space.observation.wanted_bytes)).max(reserved);
    // Once in a while all fits.
    let capacity = reserved + (most - reserved) / 100 * (1 + random.below(104));
    let dram_bytes = capacity + capacity / 10;
    let situation = Situation { now_ns: 0, host: Host { dram_bytes, free_bytes: dram_bytes }, spaces };
    let tax = [0.0, 0.75, random.below(99) as f64 / 100.0][random.below(3) as usize];
    let settings = Settings { tax: Tax::try_from(tax).expect("below the most"), ..Settings::default() };
    let (plan, _) = plan(&situation, &settings, &Memory::default());
    serde_json::json!({ "situation": situation, "settings": settings, "plan": plan }).to_string()
}

fn space(id: u64, random: &mut Random) -> Space {
    let wanted_bytes = MIB + random.below(8192 * MIB);
    let active_bytes = [0, random.below(wanted_bytes), wanted_bytes][random.below(3) as usize];
    let intent = Intent {
        reservation_bytes: [0, random.below(1024 * MIB)][random.below(2) as usize],
        limit_bytes: (random.below(3) == 0).then(|| MIB + random.below(8192 * MIB)),
        shares: NonZeroU32::new(100 + random.below(4000) as u32).expect("at least 100"),
        ..Intent::default()
    };
    Space { id: SpaceId(id), intent, observation: Observation { wanted_bytes, active_bytes, ..Default::default() } }
}

/// Hands the instances to the script, and its exit code on.
fn compare(lines: &[String]) -> ExitCode {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/optimum.py");
    let target = std::env::current_exe().ok().and_then(|exe| Some(exe.ancestors().nth(3)?.to_owned()));
    let environment = target.unwrap_or_else(std::env::temp_dir).join("highs");
    let child = Command::new("python3").arg(script).arg(environment).stdin(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            println!(
                "CANNOT RUN: comparison with a linear program: python3: {error}; install Python 3 with its module venv"
            );
            return ExitCode::FAILURE;
        }
    };
    // A script that cannot run does not read; its exit code says so.
    let _ = child.stdin.take().expect("it is piped").write_all(lines.join("\n").as_bytes());
    let code = child.wait().ok().and_then(|status| u8::try_from(status.code()?).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ (bits >> 31)) % bound.max(1)
    }
}
