//! The file of a scenario as typed, and what it means, or the line at which it means nothing.

use super::units::{Bytes, Time};
use super::{Deed, Event, Group, Machine, Pattern, Phase, Scenario};
use crate::expect::{Always, Bounds, Expectation, Figure, Mean};
use memvisor_core::sample::PERIOD_NS_DEFAULT;
use memvisor_policy::{Class, Intent, Settings, Tax, Thresholds};
use serde::Deserialize;
use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;
use toml::Spanned;

/// More spaces than the largest host has.
const SPACES_MAX: u32 = 100_000;
/// More plans than are of use: a day, one each second.
const PERIODS_MAX: u64 = 86_400;
/// A node hands out ten times between two plans; more often than a hundred times shows nothing more.
const LOOKS_MAX: u32 = 100;

/// Why a text is no scenario.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there, and what would be right.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for Refusal {}

/// A reason, and the bytes of the text that it speaks of.
type Wrong = (String, Range<usize>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    seed: u64,
    dram: Spanned<Bytes>,
    others: Option<Spanned<Bytes>>,
    length: Spanned<Time>,
    period: Option<Spanned<Time>>,
    looks: Option<Spanned<u32>>,
    sample: Option<Spanned<Time>>,
    tax: Option<Tax>,
    thresholds: Option<Thresholds>,
    #[serde(default)]
    calm: Calm,
    #[serde(default)]
    machine: MachineTable,
    group: Spanned<Vec<Spanned<GroupTable>>>,
    #[serde(default)]
    event: Vec<Spanned<EventTable>>,
    expect: Spanned<Vec<Spanned<ExpectTable>>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Calm {
    dead_band: Option<f64>,
    fall: Option<Time>,
    shrink: Option<Bytes>,
    hysteresis: Option<f64>,
    stalled: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct MachineTable {
    load: Option<Time>,
    unpark: Option<Time>,
    reclaim: Option<Bytes>,
    fill: Option<Bytes>,
    first: Option<Bytes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupTable {
    name: Spanned<String>,
    count: Option<Spanned<u32>>,
    footprint: Spanned<Bytes>,
    reservation: Option<Bytes>,
    limit: Option<Bytes>,
    shares: Option<NonZeroU32>,
    class: Option<Class>,
    start: Option<Time>,
    stagger: Option<Time>,
    stop: Option<Time>,
    spread: Option<Spanned<f64>>,
    shift: Option<Time>,
    phase: Vec<Spanned<PhaseTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PhaseTable {
    r#for: Option<Time>,
    #[serde(default)]
    idle: bool,
    working_set: Option<Bytes>,
    touches: Option<f64>,
    cpu: Option<f64>,
    pattern: Option<PatternName>,
    skew: Option<f64>,
    low: Option<Bytes>,
    every: Option<Time>,
    #[serde(default)]
    moves: bool,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum PatternName {
    Uniform,
    Zipf,
    Scan,
    Toggle,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields)]
struct SetTable {
    reservation: Option<Bytes>,
    limit: Option<Bytes>,
    shares: Option<NonZeroU32>,
    class: Option<Class>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventTable {
    at: Time,
    group: Option<String>,
    set: Option<SetTable>,
    die: Option<bool>,
    tax: Option<Tax>,
    node_away: Option<Time>,
    dram: Option<Bytes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectTable {
    figure: Option<Figure>,
    of: Option<String>,
    from: Option<Time>,
    to: Option<Time>,
    over: Option<OverTable>,
    at_least: Option<f64>,
    at_most: Option<f64>,
    always: Option<Always>,
    follows: Option<String>,
    within: Option<Time>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OverTable {
    figure: Option<Figure>,
    of: String,
    from: Option<Time>,
    to: Option<Time>,
}

/// The scenario that `text` is, or why it is none.
pub(super) fn parse(text: &str) -> Result<Scenario, Refusal> {
    let file: Result<File, Wrong> = toml::from_str(text)
        .map_err(|error| (error.message().trim().replace('\n', ", "), error.span().unwrap_or(0..0)));
    file.and_then(File::mean).map_err(|(reason, span)| {
        let before = text.get(..span.start.min(text.len())).unwrap_or(text);
        Refusal { line: before.matches('\n').count() + 1, reason }
    })
}

impl File {
    fn mean(self) -> Result<Scenario, Wrong> {
        let settings = settings(self.tax, self.thresholds, &self.calm);
        let period = self.period.map_or((1_000_000_000, 0..0), |period| (period.get_ref().0, period.span()));
        let looks = self.looks.map_or((10, 0..0), |looks| (*looks.get_ref(), looks.span()));
        within(looks.0, 1, LOOKS_MAX, "looks in a period", looks.1)?;
        if period.0 < 1_000_000 {
            return Err(("a period is at least 1 ms".into(), period.1));
        }
        let sample = self.sample.map_or((PERIOD_NS_DEFAULT, 0..0), |sample| (sample.get_ref().0, sample.span()));
        if sample.0 < 100_000_000 {
            return Err(("a period of the sampler is at least 100 ms".into(), sample.1));
        }
        let length_ns = self.length.get_ref().0;
        within(length_ns / period.0, 1, PERIODS_MAX, "periods in the whole length", self.length.span())?;
        let dram_bytes = self.dram.get_ref().0;
        within(dram_bytes, 1, 1 << 52, "bytes of DRAM", self.dram.span())?;
        let others_bytes = match &self.others {
            Some(others) => within(others.get_ref().0, 0, dram_bytes, "bytes used by others", others.span())?,
            None => 0,
        };
        let groups = groups(self.group)?;
        let mut events = self
            .event
            .into_iter()
            .map(|table| event(table, &groups, settings))
            .collect::<Result<Vec<Event>, Wrong>>()?;
        events.sort_by_key(|event| event.at_ns);
        let expectations = expectations(self.expect, &groups, length_ns)?;
        let machine = self.machine.mean();
        Ok(Scenario {
            title: self.title,
            seed: self.seed,
            dram_bytes,
            others_bytes,
            length_ns,
            period_ns: period.0,
            looks: looks.0,
            sample_ns: sample.0,
            settings,
            machine,
            groups,
            events,
            expectations,
        })
    }
}

fn within<N: PartialOrd + fmt::Display + Copy>(
    number: N,
    least: N,
    most: N,
    of_what: &str,
    span: Range<usize>,
) -> Result<N, Wrong> {
    if least <= number && number <= most {
        Ok(number)
    } else {
        Err((format!("{number} {of_what}: {least} to {most} can be simulated"), span))
    }
}

fn settings(tax: Option<Tax>, thresholds: Option<Thresholds>, calm: &Calm) -> Settings {
    let usual = Settings::default();
    Settings {
        tax: tax.unwrap_or(usual.tax),
        thresholds: thresholds.unwrap_or(usual.thresholds),
        hysteresis: calm.hysteresis.unwrap_or(usual.hysteresis),
        dead_band: calm.dead_band.unwrap_or(usual.dead_band),
        shrink_bytes_per_s: calm.shrink.map_or(usual.shrink_bytes_per_s, |bytes| bytes.0),
        fall_ns: calm.fall.map_or(usual.fall_ns, |time| time.0),
        stalled: calm.stalled.unwrap_or(usual.stalled),
    }
}

impl MachineTable {
    fn mean(&self) -> Machine {
        let usual = Machine::default();
        Machine {
            load_ns: self.load.map_or(usual.load_ns, |time| time.0),
            unpark_ns: self.unpark.map_or(usual.unpark_ns, |time| time.0),
            reclaim_bytes_per_s: self.reclaim.map_or(usual.reclaim_bytes_per_s, |bytes| bytes.0),
            fill_bytes_per_s: self.fill.map_or(usual.fill_bytes_per_s, |bytes| bytes.0),
            first_bytes: self.first.map_or(usual.first_bytes, |bytes| bytes.0),
        }
    }
}

fn groups(tables: Spanned<Vec<Spanned<GroupTable>>>) -> Result<Vec<Group>, Wrong> {
    let (span, mut groups, mut spaces) = (tables.span(), Vec::<Group>::new(), 0u32);
    for table in tables.into_inner() {
        let (name, at) = (table.get_ref().name.get_ref().clone(), table.get_ref().name.span());
        if groups.iter().any(|group| group.name == name) {
            return Err((format!("there are two groups called `{name}`"), at));
        }
        let group = group(table)?;
        spaces = spaces.saturating_add(group.count);
        within(spaces, 1, SPACES_MAX, "spaces up to this group", at)?;
        groups.push(group);
    }
    if groups.is_empty() { Err(("a scenario has at least one [[group]]".into(), span)) } else { Ok(groups) }
}

fn group(table: Spanned<GroupTable>) -> Result<Group, Wrong> {
    let span = table.span();
    let table = table.into_inner();
    let footprint_bytes = within(table.footprint.get_ref().0, 4096, 1 << 50, "bytes", table.footprint.span())?;
    let spread = match &table.spread {
        Some(spread) => within(*spread.get_ref(), 0.0, 1.0, "as a spread", spread.span())?,
        None => 0.0,
    };
    let set = SetTable { reservation: table.reservation, limit: table.limit, shares: table.shares, class: table.class };
    let phases: Vec<Vec<Phase>> =
        table.phase.into_iter().map(|phase| phases(phase, footprint_bytes)).collect::<Result<_, Wrong>>()?;
    let phases = phases.concat();
    if phases.is_empty() || phases.iter().any(|phase| phase.for_ns == Some(0)) {
        return Err(("a group has at least one [[group.phase]], and none is empty".into(), span));
    }
    Ok(Group {
        name: table.name.into_inner(),
        count: table.count.map_or(1, Spanned::into_inner),
        intent: set.over(Intent::default(), &span)?,
        footprint_bytes,
        spread,
        start_ns: table.start.map_or(0, |time| time.0),
        stagger_ns: table.stagger.map_or(0, |time| time.0),
        stop_ns: table.stop.map(|time| time.0),
        shift_ns: table.shift.map_or(0, |time| time.0),
        phases,
    })
}

impl SetTable {
    /// What is wanted when this is said over what was wanted before.
    fn over(self, intent: Intent, span: &Range<usize>) -> Result<Intent, Wrong> {
        let wanted = Intent {
            reservation_bytes: self.reservation.map_or(intent.reservation_bytes, |bytes| bytes.0),
            limit_bytes: self.limit.map(|bytes| bytes.0).or(intent.limit_bytes),
            shares: self.shares.unwrap_or(intent.shares),
            class: self.class.unwrap_or(intent.class),
            domain: intent.domain,
        };
        if wanted.reserved_bytes() < wanted.reservation_bytes {
            return Err(("the reservation is above the limit: admission would refuse it".into(), span.clone()));
        }
        Ok(wanted)
    }
}

/// A phase; a toggle is two.
fn phases(table: Spanned<PhaseTable>, footprint_bytes: u64) -> Result<Vec<Phase>, Wrong> {
    let span = table.span();
    let table = table.into_inner();
    let refuse = |reason: &str| Err((reason.to_owned(), span.clone()));
    let for_ns = table.r#for.map(|time| time.0);
    if table.idle {
        let busy =
            table.working_set.is_some() || table.touches.is_some() || table.cpu.is_some() || table.pattern.is_some();
        return if busy {
            refuse("an idle phase has no working set, touches or pattern")
        } else {
            Ok(vec![Phase {
                for_ns,
                working_set_bytes: 0,
                touches_per_s: 0.0,
                cpu: 0.0,
                pattern: Pattern::Uniform,
                moves: table.moves,
            }])
        };
    }
    let (Some(Bytes(working_set_bytes)), Some(touches_per_s)) = (table.working_set, table.touches) else {
        return refuse("a phase has `working_set` and `touches`, or is `idle = true`");
    };
    if working_set_bytes > footprint_bytes {
        return refuse("the working set is larger than the footprint");
    }
    if !(0.0..=1e9).contains(&touches_per_s) {
        return refuse("touches are 0 to 1e9 each second");
    }
    let cpu = table.cpu.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&cpu) {
        return refuse("a phase runs for a part of the time, 0 to 1");
    }
    let name = table.pattern.unwrap_or(PatternName::Uniform);
    let pattern = match (name, table.skew) {
        (PatternName::Zipf, Some(skew)) if (0.0..=3.0).contains(&skew) => Pattern::Zipf(skew),
        (PatternName::Zipf, _) => return refuse("zipf has a `skew`, 0 to 3"),
        (_, Some(_)) => return refuse("only zipf has a `skew`"),
        (PatternName::Scan, None) => Pattern::Scan,
        (PatternName::Uniform | PatternName::Toggle, None) => Pattern::Uniform,
    };
    let high = Phase { for_ns, working_set_bytes, touches_per_s, cpu, pattern, moves: table.moves };
    match (name, table.low, table.every) {
        (PatternName::Toggle, Some(Bytes(low_bytes)), Some(Time(every_ns)))
            if for_ns.is_none() && low_bytes <= working_set_bytes =>
        {
            let high = Phase { for_ns: Some(every_ns), ..high };
            Ok(vec![high, Phase { working_set_bytes: low_bytes, ..high }])
        }
        (PatternName::Toggle, _, _) => {
            refuse("a toggle has `every`, and `low` of at most the working set, and goes on without `for`")
        }
        (_, None, None) => Ok(vec![high]),
        (_, _, _) => refuse("only a toggle has `low` and `every`"),
    }
}

fn place(name: &str, groups: &[Group], span: &Range<usize>) -> Result<usize, Wrong> {
    let names = || groups.iter().map(|group| group.name.as_str()).collect::<Vec<_>>().join(", ");
    let at = groups.iter().position(|group| group.name == name);
    at.ok_or_else(|| (format!("there is no group `{name}`; there are: {}", names()), span.clone()))
}

fn event(table: Spanned<EventTable>, groups: &[Group], settings: Settings) -> Result<Event, Wrong> {
    let span = table.span();
    let table = table.into_inner();
    let group = table.group.map(|name| place(&name, groups, &span)).transpose()?;
    let deed = match (group, table.set, table.die, table.tax, table.node_away, table.dram) {
        (Some(group), Some(set), None, None, None, None) => Deed::Set(group, set.over(groups[group].intent, &span)?),
        (Some(group), None, Some(true), None, None, None) => Deed::Die(group),
        (None, None, None, Some(tax), None, None) => Deed::Turn(Settings { tax, ..settings }),
        (None, None, None, None, Some(Time(away_ns)), None) => Deed::NodeAway(away_ns),
        (None, None, None, None, None, Some(Bytes(dram_bytes))) => Deed::Dram(dram_bytes),
        _ => {
            let right = "an event has `group` with `set` or `die = true`, or one of `tax`, `node_away`, `dram`";
            return Err((right.into(), span));
        }
    };
    Ok(Event { at_ns: table.at.0, deed })
}

fn expectations(
    tables: Spanned<Vec<Spanned<ExpectTable>>>,
    groups: &[Group],
    length_ns: u64,
) -> Result<Vec<Expectation>, Wrong> {
    let span = tables.span();
    let tables = tables.into_inner();
    if tables.is_empty() {
        return Err(("a scenario expects something: [[expect]]".into(), span));
    }
    tables.into_iter().map(|table| expectation(table, groups, length_ns)).collect()
}

fn expectation(table: Spanned<ExpectTable>, groups: &[Group], length_ns: u64) -> Result<Expectation, Wrong> {
    let span = table.span();
    let table = table.into_inner();
    let mean = |name: &str, from: Option<Time>, to: Option<Time>| {
        let (from_ns, to_ns) = (from.map_or(0, |time| time.0), to.map_or(length_ns, |time| time.0));
        if from_ns >= to_ns || to_ns > length_ns {
            return Err(("the times are not in order, or beyond the end".to_owned(), span.clone()));
        }
        Ok(Mean { group: place(name, groups, &span)?, from_ns, to_ns })
    };
    let bounds = Bounds { at_least: table.at_least, at_most: table.at_most };
    let bounded = bounds.at_least.is_some() || bounds.at_most.is_some();
    let plain = table.of.is_none() && table.from.is_none() && table.to.is_none() && table.over.is_none() && !bounded;
    match (table.figure, table.of, table.always, table.follows, table.within) {
        (Some(figure), Some(of), None, None, None) if bounded => {
            let over = |over: OverTable| Ok((over.figure.unwrap_or(figure), mean(&over.of, over.from, over.to)?));
            let over = table.over.map(over).transpose()?;
            Ok(Expectation::Figure { figure, of: mean(&of, table.from, table.to)?, over, bounds })
        }
        (None, None, Some(always), None, None) if plain => Ok(Expectation::Always(always)),
        (None, None, None, Some(name), Some(Time(within_ns))) if plain => {
            Ok(Expectation::Follows { group: place(&name, groups, &span)?, within_ns })
        }
        _ => {
            let right = "an expectation has `figure`, `of` and `at_least` or `at_most`, or `always`, or `follows` and \
                         `within`";
            Err((right.into(), span))
        }
    }
}
