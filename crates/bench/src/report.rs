//! What a bench says at its end: a table, one verdict a goal, a JSON file and a plot.

use crate::pairs::Series;
use crate::stats::{CLAIM_ROUNDS, Spread};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A promise about a ratio: ours is at most so many times the peer's best.
#[derive(Clone, Debug)]
pub struct Goal {
    /// What is promised, in words.
    pub what: String,
    /// The series it is about.
    pub series: String,
    /// The side that promises.
    pub ours: String,
    /// The sides of which the one with the least median cost is the peer.
    pub peers: Vec<String>,
    /// The cost that is compared.
    pub cost: &'static str,
    /// The largest ratio that keeps the promise; none for a ratio that is only shown.
    pub at_most: Option<f64>,
}

/// How a goal stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The median ratio is within the goal.
    Met(Spread),
    /// It is not.
    Missed(Spread),
    /// There is no goal, only a ratio.
    Shown(Spread),
    /// One of the sides did not run.
    NotMeasured(String),
}

/// All results of one bench.
pub struct Bench {
    /// File name of the results.
    pub name: String,
    /// From [`crate::machine::facts`].
    pub facts: Value,
    /// Sizes, limits and tunings.
    pub settings: Value,
    /// What was compared.
    pub series: Vec<Series>,
    /// What was promised.
    pub goals: Vec<Goal>,
    /// Sentences that belong beside the figures.
    pub notes: Vec<String>,
}

impl Goal {
    /// Compares the sides.
    #[must_use]
    pub fn judge(&self, all: &[Series]) -> (Verdict, Option<String>) {
        let Some(series) = all.iter().find(|series| series.name == self.series) else {
            return (Verdict::NotMeasured(format!("{} did not run", self.series)), None);
        };
        let names: Vec<&str> = self.peers.iter().map(String::as_str).collect();
        let Some(peer) = series.best_of(&names, self.cost) else {
            return (Verdict::NotMeasured(absence(series, &names)), None);
        };
        let Some(spread) = Spread::of(series.ratios(&self.ours, peer, self.cost)) else {
            return (Verdict::NotMeasured(absence(series, &[&self.ours])), Some(peer.to_owned()));
        };
        let failed = series.track(&self.ours).and_then(|track| track.failure.as_deref());
        let verdict = match (self.at_most, failed) {
            (_, Some(failure)) => Verdict::NotMeasured(format!("{} failed: {}", self.ours, first_line(failure))),
            (None, None) => Verdict::Shown(spread),
            (Some(limit), None) if spread.median <= limit => Verdict::Met(spread),
            (Some(_), None) => Verdict::Missed(spread),
        };
        (verdict, Some(peer.to_owned()))
    }
}

fn absence(series: &Series, names: &[&str]) -> String {
    let why = |name: &&str| match series.track(name).map(|track| &track.failure) {
        Some(Some(failure)) => format!("{name} failed: {}", first_line(failure)),
        Some(None) | None => format!("{name} was not run"),
    };
    names.iter().map(why).collect::<Vec<_>>().join("; ")
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

impl Bench {
    /// Prints the tables and verdicts and writes `NAME.json` and `NAME.png` into `dir`.
    ///
    /// True if no goal was missed.
    ///
    /// # Errors
    /// When a file cannot be written, or, after all were written, when a side failed.
    pub fn finish(&self, dir: &Path) -> Result<bool, String> {
        println!("{}", self.text());
        std::fs::create_dir_all(dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
        let json = dir.join(format!("{}.json", self.name));
        let text = serde_json::to_string_pretty(&self.to_json()).map_err(|error| error.to_string())?;
        std::fs::write(&json, text + "\n").map_err(|error| format!("cannot write {}: {error}", json.display()))?;
        let plot: PathBuf = dir.join(format!("{}.png", self.name));
        crate::plot::draw(self, &plot)?;
        println!("written: {} and {}", json.display(), plot.display());
        let tracks = self.series.iter().flat_map(|series| series.tracks.iter().map(move |track| (series, track)));
        let failed: Vec<String> = tracks
            .filter(|(_, track)| track.failure.is_some())
            .map(|(series, track)| format!("{} ({})", track.name, series.name))
            .collect();
        if !failed.is_empty() {
            return Err(format!("failed: {}", failed.join(", ")));
        }
        Ok(!self.goals.iter().any(|goal| matches!(goal.judge(&self.series).0, Verdict::Missed(_))))
    }

    /// Tables and verdicts as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("\n== {} ==\n", self.name);
        for series in &self.series {
            text += &table(series);
        }
        for goal in &self.goals {
            text += &line(goal, &self.series);
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }

    fn to_json(&self) -> Value {
        let goals: Vec<Value> = self.goals.iter().map(|goal| self.goal_json(goal)).collect();
        let series: Vec<Value> = self.series.iter().map(Series::to_json).collect();
        json!({
            "bench": self.name, "machine": self.facts, "settings": self.settings,
            "goals": goals, "notes": self.notes, "series": series,
        })
    }

    fn goal_json(&self, goal: &Goal) -> Value {
        let (verdict, peer) = goal.judge(&self.series);
        let (word, spread, why) = match &verdict {
            Verdict::Met(spread) => ("met", Some(spread), None),
            Verdict::Missed(spread) => ("missed", Some(spread), None),
            Verdict::Shown(spread) => ("shown", Some(spread), None),
            Verdict::NotMeasured(why) => ("not measured", None, Some(why)),
        };
        let all = self.series.iter().find(|series| series.name == goal.series);
        let ratios = all.zip(peer.as_deref()).map(|(series, peer)| series.ratios(&goal.ours, peer, goal.cost));
        json!({
            "what": goal.what, "series": goal.series, "ours": goal.ours, "peer": peer, "cost": goal.cost,
            "at_most": goal.at_most, "verdict": word, "why": why,
            "ratio": spread.map(Spread::to_json), "ratios": ratios,
        })
    }
}

/// One line a side: the median and the spread of each cost.
fn table(series: &Series) -> String {
    let mut text = format!("\n{}\n", series.name);
    let width = series.tracks.iter().map(|track| track.name.len()).max().unwrap_or(0);
    for track in &series.tracks {
        let mut costs: Vec<&str> = track.samples.iter().flat_map(|sample| sample.costs.keys().copied()).collect();
        costs.sort_unstable();
        costs.dedup();
        let mut cells: Vec<String> = costs
            .into_iter()
            .filter_map(|cost| {
                let spread = series.spread(&track.name, cost)?;
                Some(format!("{cost} {} [{} … {}]", short(spread.median), short(spread.min), short(spread.max)))
            })
            .collect();
        if let Some(stumble) = track.stumbles.first() {
            cells.push(format!("failed and ran again {} times: {}", track.stumbles.len(), first_line(stumble)));
        }
        if let Some(failure) = &track.failure {
            cells.push(format!("FAILED: {}", first_line(failure)));
        }
        if cells.is_empty() {
            cells.push("not run".into());
        }
        let _ = writeln!(text, "  {:width$}  {}", track.name, cells.join("   "));
    }
    text
}

/// The verdict line of one goal.
fn line(goal: &Goal, all: &[Series]) -> String {
    let (verdict, peer) = goal.judge(all);
    let peer = peer.map(|peer| format!(" to {peer}")).unwrap_or_default();
    let wanted = goal.at_most.map(|limit| format!(", goal ≤ {limit}")).unwrap_or_default();
    let measured = |spread: &Spread| {
        let claim = if spread.count < CLAIM_ROUNDS {
            format!("; {} pairs are an impression, not a claim", spread.count)
        } else {
            String::new()
        };
        format!(
            "ratio {} (quartiles {} … {}, all {} … {}, {} pairs{claim})",
            short(spread.median),
            short(spread.quartile_1),
            short(spread.quartile_3),
            short(spread.min),
            short(spread.max),
            spread.count
        )
    };
    match verdict {
        Verdict::Met(spread) => format!("met     {}{peer}{wanted}: {}\n", goal.what, measured(&spread)),
        Verdict::Missed(spread) => format!("MISSED  {}{peer}{wanted}: {}\n", goal.what, measured(&spread)),
        Verdict::Shown(spread) => format!("shown   {}{peer}: {}\n", goal.what, measured(&spread)),
        Verdict::NotMeasured(why) => format!("NOT MEASURED  {}{wanted}: {why}\n", goal.what),
    }
}

/// A number with three digits that mean something.
fn short(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { (2 - value.abs().log10().floor() as i32).clamp(0, 4) as usize };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::{Sample, Side, interleave};

    fn series(ours: Result<f64, String>, peer: f64) -> Series {
        let sides = vec![
            Side::new("zram pc0", move || Ok(Sample::of([("wall", peer)]))),
            Side::new("zram pc3", move || Ok(Sample::of([("wall", peer * 2.0)]))),
            Side::new("memvisor", move || ours.clone().map(|cost| Sample::of([("wall", cost)]))),
        ];
        interleave("random", sides, 10, |_, _| {})
    }

    fn goal() -> Goal {
        Goal {
            what: "wall time".into(),
            series: "random".into(),
            ours: "memvisor".into(),
            peers: vec!["zram pc0".into(), "zram pc3".into()],
            cost: "wall",
            at_most: Some(1.0),
        }
    }

    #[test]
    fn a_goal_is_judged_against_the_best_peer() {
        let met = line(&goal(), &[series(Ok(9.0), 10.0)]);
        assert!(met.starts_with("met") && met.contains("to zram pc0") && met.contains("ratio 0.900"), "{met}");
        let missed = line(&goal(), &[series(Ok(15.0), 10.0)]);
        assert!(missed.starts_with("MISSED") && missed.contains("ratio 1.50"), "{missed}");
    }

    #[test]
    fn a_side_that_failed_is_never_a_goal_met() {
        let text = line(&goal(), &[series(Err("it broke\nbadly".into()), 10.0)]);
        assert!(text.starts_with("NOT MEASURED") && text.contains("it broke"), "{text}");
        assert!(line(&goal(), &[]).starts_with("NOT MEASURED"));
    }

    #[test]
    fn numbers_are_shown_with_three_digits_that_mean_something() {
        assert_eq!([11.094, 0.8764, 1234.5, 0.0].map(short), ["11.1", "0.876", "1234", "0"]);
    }
}
