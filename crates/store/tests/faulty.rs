//! Every store under the suite while it injects faults, by a plan and by the options of a run.

mod suite;

use memvisor_proto::segment::SEGMENT_BYTES;
use memvisor_proto::space::option;
use memvisor_store::faulty::FaultPlan;
use memvisor_store::{LoadError, SaveOutcome, SlotRef, Why};
use std::sync::atomic::Ordering;
use std::time::Duration;
use suite::subjects::{both, log, ram};
use suite::{Random, Subject, seed};

fn plan(plan: FaultPlan) -> &'static FaultPlan {
    Box::leak(Box::new(plan))
}

/// Everything that can happen, but no stalls: these are waited for.
fn everything() -> &'static FaultPlan {
    plan(FaultPlan {
        seed: seed(),
        after: 50,
        flip_one_in: 30,
        error_one_in: 40,
        torn_one_in: 50,
        full_one_in: 20,
        ..FaultPlan::default()
    })
}

#[test]
fn no_fault_makes_ram_give_false_bytes() {
    let failed = suite::nothing_false_comes_back(ram(64 << 20, u64::MAX).with_faults(everything()), 1000, 20_000, 0);
    assert!(failed > 20, "{failed}");
}

#[test]
fn no_fault_makes_the_log_give_false_bytes() {
    let left = SEGMENT_BYTES as u64;
    let failed = suite::nothing_false_comes_back(log(32).with_faults(everything()), 1000, 10_000, left);
    assert!(failed > 20, "{failed}");
}

#[test]
fn no_fault_makes_both_together_give_false_bytes() {
    let left = SEGMENT_BYTES as u64;
    let failed = suite::nothing_false_comes_back(both(1 << 20, 32).with_faults(everything()), 1500, 20_000, left);
    assert!(failed > 20, "{failed}");
}

#[test]
fn a_torn_write_is_found_by_the_load() {
    let torn = || plan(FaultPlan { seed: seed(), torn_one_in: 1, ..FaultPlan::default() });
    let mut random = Random(seed());
    let mut page: [u8; 4096] = std::array::from_fn(|_| random.next() as u8);
    fn check(mut store: impl Subject, page: &[u8; 4096]) {
        for _ in 0..20 {
            let SaveOutcome::Saved(slot) = store.save(page, None) else { panic!() };
            let mut out = [0; 4096];
            let loaded = store.load(slot, &mut out);
            assert!(matches!(loaded, Err(LoadError::Lost { why: Why::Checksum, .. })), "{loaded:?}");
        }
    }
    check(log(8).with_faults(torn()), &page);
    page[2048..].fill(1);
    check(ram(1 << 20, u64::MAX).with_faults(torn()), &page);
}

#[test]
fn a_stalled_read_does_not_hold_up_the_others() {
    let mut quick = log(8);
    let page = std::array::from_fn(|at| at as u8);
    let SaveOutcome::Saved(slot) = quick.save(&page, None) else { panic!() };
    let stalls = plan(FaultPlan { stall_one_in: 1, stall: Duration::from_secs(2), ..FaultPlan::default() });
    let mut stalled = quick.store.with_faults(stalls).reader(4, 1).unwrap();
    if stalled.fd().is_none() {
        println!("not run: no io_uring here");
        return;
    }
    for token in 0..4 {
        stalled.submit(slot, token).unwrap();
    }
    let mut out = [1; 4096];
    for _ in 0..50 {
        quick.load(slot, &mut out).unwrap();
    }
    assert_eq!((stalled.complete(|_| ()), stalled.pending()), (0, 4), "the reads did not stall");
    let mut told = 0;
    while stalled.wait(|done| assert!(*done.page.unwrap() == page)) > 0 {
        told += 1;
    }
    assert!((1..=4).contains(&told));
    assert_eq!(stalled.pending(), 0);
}

/// One test for all options: the counter of loads that begins the faults is one for the process.
#[test]
fn the_options_of_a_run_inject_faults_and_only_those_asked_for() {
    let mut ram = ram(1 << 20, u64::MAX);
    let mut page = [9; 4096];
    page[7] = 1;
    let SaveOutcome::Saved(slot) = ram.save(&page, None) else { panic!() };
    let loads = |ram: &mut suite::subjects::Ram| {
        let (mut flips, mut errors) = (0, 0);
        for _ in 0..3000 {
            let mut out = [0; 4096];
            match ram.load(slot, &mut out) {
                Ok(()) => assert!(out == page),
                Err(LoadError::Lost { why: Why::Checksum, slot: at, .. }) if at == slot => flips += 1,
                Err(LoadError::Lost { why: Why::Io(_), .. }) => errors += 1,
                Err(error) => panic!("{error}"),
            }
        }
        (flips, errors)
    };
    assert_eq!(loads(&mut ram), (0, 0));
    let options = ram.space.header().options();
    options.store(option::FAULTY_FLIP, Ordering::Relaxed);
    // The first thousand go well.
    let (flips, errors) = loads(&mut ram);
    assert!((10..80).contains(&flips) && errors == 0, "{flips} {errors}");
    options.store(option::FAULTY_ERROR, Ordering::Relaxed);
    let (flips, errors) = loads(&mut ram);
    assert!((20..100).contains(&errors) && flips == 0, "{flips} {errors}");
    options.store(0, Ordering::Relaxed);
    assert_eq!(loads(&mut ram), (0, 0));
    // A pattern is in no store that could fail.
    options.store(option::FAULTY_ERROR, Ordering::Relaxed);
    let mut out = [0; 4096];
    (0..500).for_each(|_| ram.load(SlotRef::Filled(3), &mut out).unwrap());
}
