//! How long a plan for 10,000 spaces takes, on one core: the goal is 10 ms.
//!
//! Each plan is made from fresh observations, with the memory of the one before, on a host that is overcommitted twice.
//! Exit codes: 0 well, 3 the goal was missed.

use memvisor_policy::{Host, Intent, Memory, Observation, Settings, Situation, Space, SpaceId, plan};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const SPACES: u64 = 10_000;
const PLANS: u64 = 201;
/// Plans that are not counted: caches and branch predictors are cold.
const FIRST: u64 = 20;
const GOAL: Duration = Duration::from_millis(10);
const GIB: u64 = 1 << 30;

fn main() -> ExitCode {
    let mut random = Random(1);
    let mut situation = Situation {
        now_ns: 0,
        host: Host { dram_bytes: SPACES * GIB, free_bytes: SPACES * GIB / 10 },
        spaces: (0..SPACES).map(|id| space(id, &mut random)).collect(),
    };
    let mut memory = Memory::default();
    let mut times = Vec::new();
    for round in 0..PLANS + FIRST {
        situation.now_ns += 1_000_000_000;
        for space in &mut situation.spaces {
            space.observation.active_bytes = random.below(space.observation.wanted_bytes);
        }
        let start = Instant::now();
        let (plan, left) = black_box(plan(black_box(&situation), &Settings::default(), &memory));
        let elapsed = start.elapsed();
        black_box(plan);
        memory = left;
        times.extend((round >= FIRST).then_some(elapsed));
    }
    times.sort_unstable();
    tell(&times)
}

fn space(id: u64, random: &mut Random) -> Space {
    let wanted_bytes = random.below(4 * GIB);
    let intent = Intent {
        reservation_bytes: if random.below(4) == 0 { random.below(GIB / 2) } else { 0 },
        limit_bytes: (random.below(8) == 0).then(|| GIB + random.below(2 * GIB)),
        shares: NonZeroU32::new(1 + random.below(4000) as u32).expect("at least one"),
        ..Intent::default()
    };
    let charged_bytes = wanted_bytes / 4;
    Space { id: SpaceId(id), intent, observation: Observation { charged_bytes, wanted_bytes, ..Default::default() } }
}

fn tell(times: &[Duration]) -> ExitCode {
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "plan {SPACES} spaces: median {:.2?}, 5 % to 95 % {:.2?} to {:.2?}, most {:.2?}, of {} plans; goal {GOAL:?}",
        at(50),
        at(5),
        at(95),
        at(100),
        times.len()
    );
    if at(50) <= GOAL { ExitCode::SUCCESS } else { ExitCode::from(3) }
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
