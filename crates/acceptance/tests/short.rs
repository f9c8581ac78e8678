//! Every case in its short form, under memvisor. What cannot run says so aloud and passes.

use memvisor_acceptance::{Form, Mode, NotPassed, Places, cases, run, table};

/// Runs the case `name`.
fn short(name: &str) {
    let case = cases::ALL.iter().find(|case| case.name == name).expect("the case is in the list");
    let places = Places::find(Some(env!("CARGO_BIN_EXE_acceptance-program")));
    let verdict = run(case, Form::Short, Mode::Managed, &places);
    println!("{}\n{}", table::head(), table::line(name, &verdict));
    match verdict.outcome {
        Ok(()) => {}
        Err(NotPassed::Skipped(reason)) => eprintln!("SKIPPED {name}: {reason}"),
        Err(NotPassed::Failed(reason)) => panic!("{name}: {reason}"),
    }
}

/// One test a case, and a test that none was forgotten.
macro_rules! cases {
    ($($test:ident runs $name:literal;)*) => {
        $(#[test] fn $test() { short($name); })*

        #[test]
        fn every_case_has_a_test() {
            let tested = [$($name),*];
            let all: Vec<&str> = cases::ALL.iter().map(|case| case.name).collect();
            assert_eq!(all, tested);
        }
    };
}

cases! {
    sixty_four_threads_that_fault_at_once_read_what_they_wrote runs "threads64";
    whoever_looks_sees_the_cpus_that_the_program_was_given runs "cpus";
    a_hundred_forked_children_see_the_memory_of_their_instant runs "forks";
    memory_mapped_remapped_protected_and_unmapped_at_random_is_what_the_model_says runs "mapwalk";
    a_sort_gives_an_ordered_permutation runs "sort";
    stress_ng_verifies_its_patterns runs "stress-ng";
    a_dump_of_redis_under_load_has_the_same_digest runs "redis-bgsave";
    numpy_computes_what_is_known_beforehand runs "numpy";
    a_guest_boots_and_checks_its_memory_and_disk runs "qemu-guest";
    mariadb_under_load_keeps_its_tables_sound runs "mariadb";
    a_program_outlives_its_keeper_unharmed runs "keeper-kill";
    nothing_is_left_of_a_killed_program runs "program-kill";
    a_flipped_bit_in_the_store_stops_the_program runs "store-flip";
    a_page_that_cannot_be_read_stops_the_program runs "store-error";
    a_stalled_store_holds_up_only_who_needs_it runs "store-stall";
    a_full_store_denies_new_memory_and_harms_no_old runs "store-full";
    children_join_the_space_and_budget_of_their_parent runs "spawns";
    java_keeps_its_heap_through_collections runs "java";
    exit_codes_and_messages_are_as_documented runs "exits";
    a_sort_without_move_gives_an_ordered_permutation runs "old-sort";
    a_random_walk_without_move_is_what_the_model_says runs "old-mapwalk";
    memvisor_works_in_a_guest_with_an_old_kernel runs "old-guest";
    freed_memory_comes_back runs "free-returns";
    a_program_that_is_let_go_runs_on_in_plain_memory runs "drain";
}
