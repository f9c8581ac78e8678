//! Finds the memory limit at which limit and compressed pool together make the wanted total.
//!
//! With `S` the set, `L` the limit and `c` the pool's bytes for each byte swapped, the pool holds `c·(S − L)`. A trial
//! run measures `c`; from `L + c·(S − L) = T` follows the next limit. Two or three trials are enough.

/// Trials before giving up: the second is mostly right, the third always was.
const TRIALS: usize = 4;

/// How far the total may be off, as a share of it.
const TOLERANCE: f64 = 0.01;

/// A limit below this share of the set is no working configuration: the kernel would only thrash.
const LIMIT_SHARE_MIN: f64 = 0.04;

/// A limit that gives the wanted total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calibration {
    /// To be set on the control group.
    pub limit_bytes: u64,
    /// What the pool used at that limit.
    pub pool_bytes: u64,
}

/// Finds the limit for `total_bytes` of DRAM for a set of `set_bytes`. `trial` runs once with a limit and gives the most
/// bytes that the pool used.
///
/// # Errors
/// When no limit can give that total since even the compressed set is too large, or when a trial fails.
pub fn calibrate(
    set_bytes: u64,
    total_bytes: u64,
    mut trial: impl FnMut(u64) -> Result<u64, String>,
) -> Result<Calibration, String> {
    let (set, total) = (set_bytes as f64, total_bytes as f64);
    // Assumes pages that compress to half: right for the data of these benches, and a start for any other.
    let mut limit =
        if total >= set { total } else { (2.0 * total - set).max(set * LIMIT_SHARE_MIN * 2.0).min(total * 0.9) };
    for _ in 0..TRIALS {
        let pool = trial(limit as u64)? as f64;
        if (limit + pool - total).abs() <= TOLERANCE * total {
            return Ok(Calibration { limit_bytes: limit as u64, pool_bytes: pool as u64 });
        }
        let ratio = pool / (set - limit).max(1.0);
        limit = if pool == 0.0 || ratio >= 0.95 {
            limit + (total - limit - pool) / 2.0
        } else {
            (total - ratio * set) / (1.0 - ratio)
        };
        if limit < set * LIMIT_SHARE_MIN {
            return Err(format!(
                "{} MiB cannot hold {} MiB that compress to {:.0} %",
                total_bytes >> 20,
                set_bytes >> 20,
                ratio * 100.0
            ));
        }
        limit = limit.min(total);
    }
    Err(format!("found no limit that makes {} MiB in {TRIALS} trials", total_bytes >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(set: u64, share: f64) -> impl FnMut(u64) -> Result<u64, String> {
        move |limit| Ok((set.saturating_sub(limit) as f64 * share) as u64)
    }

    #[test]
    fn limit_and_pool_together_make_the_total() {
        for share in [0.3, 0.5, 0.55, 0.7] {
            let found = calibrate(1 << 30, 800 << 20, pool(1 << 30, share)).expect("it fits");
            let total = found.limit_bytes + found.pool_bytes;
            assert!(total.abs_diff(800 << 20) < 9 << 20, "{share}: {total}");
        }
    }

    #[test]
    fn a_total_below_the_compressed_set_is_refused() {
        assert!(calibrate(1 << 30, 256 << 20, pool(1 << 30, 0.53)).unwrap_err().contains("cannot hold"));
    }

    #[test]
    fn a_total_above_the_set_needs_no_pool() {
        let found = calibrate(1 << 30, 2 << 30, pool(1 << 30, 0.5)).expect("it fits");
        assert_eq!(found, Calibration { limit_bytes: 2 << 30, pool_bytes: 0 });
    }
}
