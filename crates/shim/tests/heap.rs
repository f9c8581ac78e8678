//! The heap under programs: our own that look at one promise each, and real ones.

mod common;

use common::{compiled, has, preloaded, text};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Runs a mode of `programs/heap.c`.
fn promise(arguments: &[&str]) {
    let Some(program) = compiled("heap.c") else { return };
    let mut command = preloaded(&program);
    // What a program has set for a jemalloc of its own must not reach ours.
    command.env("_RJEM_MALLOC_CONF", "narenas:7,zero:true,retain:false,nonsense:1,abort_conf:true");
    let output = command.args(arguments).output().expect("the program starts");
    assert!(output.stderr.is_empty() || !output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = text(&output);
    assert!(said.ends_with("so it is\n"), "{said}");
    said.lines().filter(|line| line.starts_with("NOT TESTED")).for_each(|line| eprintln!("{line}"));
}

#[test]
fn blocks_are_allocated_and_freed_without_touching_the_heap() {
    promise(&["apart"]);
}

#[test]
fn every_thread_allocates_from_the_managed_reservation() {
    promise(&["managed"]);
}

#[test]
fn the_malloc_family_behaves_as_in_glibc() {
    promise(&["manners"]);
}

#[test]
fn jemallocs_own_interface_answers_with_the_librarys_options() {
    promise(&["options"]);
}

#[test]
fn sixty_four_threads_find_in_their_blocks_what_others_put_there() {
    promise(&["threads", "64", "20000"]);
}

#[test]
fn children_forked_amid_allocations_allocate() {
    promise(&["forks", "40"]);
}

#[test]
fn with_limited_address_space_memory_ends_politely() {
    promise(&["limited"]);
}

#[test]
fn what_the_dynamic_linker_allocates_is_never_evicted() {
    promise(&["linker"]);
}

#[test]
fn a_heap_that_may_not_grow_reuses_all_that_was_freed() {
    promise(&["bounded"]);
}

#[test]
fn an_array_that_grows_in_small_steps_moves_seldom() {
    promise(&["growing"]);
}

#[test]
fn what_is_noted_of_blocks_is_at_most_a_fiftieth_of_them() {
    promise(&["noted"]);
}

#[test]
fn locking_all_memory_does_not_fill_the_reservation() {
    promise(&["locked"]);
}

#[test]
fn threads_may_allocate_until_their_very_end() {
    promise(&["ends"]);
}

#[test]
fn containers_of_cpp_cross_threads() {
    let Some(program) = compiled("churn.cc") else { return };
    let output = preloaded(&program).output().expect("the program starts");
    assert_eq!(text(&output), "so it is\n");
}

/// Runs a real program and compares what it prints with what it prints without the library.
fn prints_the_same(program: &str, arguments: &[&str]) {
    if !has(program) {
        return;
    }
    let plain = Command::new(program).args(arguments).env_remove("LD_PRELOAD").output().expect("the program starts");
    let ours = preloaded(program).args(arguments).output().expect("the program starts");
    assert_eq!(text(&ours), text(&plain));
    assert_eq!(String::from_utf8_lossy(&ours.stderr), String::from_utf8_lossy(&plain.stderr));
}

#[test]
fn ls_lists() {
    prints_the_same("ls", &["-la", "/usr/lib"]);
}

#[test]
fn bash_runs_pipes_and_substitutions() {
    let script = "for i in 1 2 3; do echo $i | cat | (read x; echo got $x); done; seq 20000 | sort -rn | head -3; \
                  x=$(seq 5000 | md5sum); echo $x; (ulimit -v 200000; seq 10 | tail -1)";
    prints_the_same("bash", &["-c", script]);
}

#[test]
fn perl_hashes() {
    prints_the_same("perl", &["-e", r#"my %h; $h{$_} = "x" x ($_ % 1000) for 1..100000; print scalar(keys %h), "\n""#]);
}

#[test]
fn git_reads_a_repository() {
    if !has("git") {
        return;
    }
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("git.{}", std::process::id()));
    let run = |arguments: &[&str]| {
        let identity = ["-c", "user.name=n", "-c", "user.email=e@e"];
        let output = preloaded("git").arg("-C").arg(&place).args(identity).args(arguments).output();
        text(&output.expect("git starts"))
    };
    std::fs::create_dir_all(&place).expect("a directory can be made");
    run(&["init", "-q"]);
    for commit in ["first", "second", "third"] {
        std::fs::write(place.join(commit), commit.repeat(10_000)).expect("a file can be written");
        run(&["add", "."]);
        run(&["commit", "-q", "-m", commit]);
    }
    run(&["gc", "-q"]);
    assert_eq!(run(&["log", "--format=%s"]), "third\nsecond\nfirst\n");
    run(&["fsck", "--strict"]);
    std::fs::remove_dir_all(&place).expect("the directory can be removed");
}

#[test]
fn java_collects_garbage() {
    if !has("java") {
        return;
    }
    let output = preloaded("java").args(["-Xmx128m", "-XX:+UseSerialGC", "-version"]).output().expect("java starts");
    text(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("version"));
}

#[test]
fn numpy_computes_with_large_arrays() {
    // Debian's own Python, for which Debian's numpy is.
    let python = "/usr/bin/python3";
    let numpy = Command::new(python).args(["-c", "import numpy"]).output().is_ok_and(|output| output.status.success());
    if !numpy {
        eprintln!("NOT TESTED: numpy is not installed");
        return;
    }
    let script = "import numpy as np\n\
                  a = np.arange(25_000_000, dtype=np.int64)\n\
                  b = a * 2 + 1\n\
                  c = np.zeros(25_000_000)\n\
                  a.resize(26_000_000, refcheck=False)\n\
                  print(int(b.sum()), c.sum(), int(a[25_000_000:].sum()), len([str(i) for i in range(500_000)]))";
    let output = preloaded(python).args(["-c", script]).output().expect("python starts");
    assert_eq!(text(&output), "625000000000000 0.0 0 500000\n");
}

/// A Redis that ends with the test.
struct Redis {
    child: Child,
    directory: std::path::PathBuf,
}

impl Redis {
    fn start() -> Self {
        let directory = std::env::temp_dir().join(format!("memvisor-redis.{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory can be made");
        let mut child = preloaded("redis-server")
            .args(["--port", "0", "--save", "", "--enable-debug-command", "yes", "--unixsocket"])
            .arg(directory.join("socket"))
            .arg("--dir")
            .arg(&directory)
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis starts");
        let output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let mut lines = output.lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("ready to accept connections")), "redis is not ready");
        // Nobody reads on: what it says from now on is little enough for the pipe.
        std::mem::forget(lines);
        Self { child, directory }
    }

    /// The answers to the commands, one each line.
    fn ask(&self, commands: &str) -> String {
        let mut client = Command::new("redis-cli")
            .arg("-s")
            .arg(self.directory.join("socket"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-cli starts");
        client.stdin.take().expect("its input is a pipe").write_all(commands.as_bytes()).expect("redis-cli reads");
        text(&client.wait_with_output().expect("redis-cli ends"))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn redis_serves_saves_and_knows_its_allocator() {
    if !has("redis-server") || !has("redis-cli") {
        return;
    }
    let mut redis = Redis::start();
    assert_eq!(redis.ask("SET a b\nGET a\n"), "OK\nb\n");
    assert_eq!(redis.ask("DEBUG POPULATE 100000 key 500\n"), "OK\n");
    let digest = redis.ask("DEBUG DIGEST\n");
    // jemalloc answers Redis: what is allocated is at least what Redis thinks.
    let memory = redis.ask("INFO memory\n");
    let number = |name: &str| -> u64 {
        let line = memory.lines().find_map(|line| line.strip_prefix(name)).expect("the line is there");
        line.trim().parse().expect("it is a number")
    };
    assert!(number("used_memory:") > 50 << 20, "{memory}");
    assert!(number("allocator_allocated:") >= number("used_memory:"), "{memory}");
    assert!(number("allocator_resident:") >= number("allocator_active:"), "{memory}");
    assert!(redis.ask("MEMORY DOCTOR\n").contains("Sam"));
    assert!(redis.ask("MEMORY MALLOC-STATS\n").contains("opt.narenas: 1"));
    assert_eq!(redis.ask("MEMORY PURGE\n"), "OK\n");
    // A child writes the dump; reading it back replaces everything.
    assert!(redis.ask("BGSAVE\n").contains("saving started"));
    while redis.ask("INFO persistence\n").contains("rdb_bgsave_in_progress:1") {}
    assert!(redis.ask("INFO persistence\n").contains("rdb_last_bgsave_status:ok"));
    assert_eq!(redis.ask("FLUSHALL\nDEBUG RELOAD NOSAVE NOFLUSH\n"), "OK\nOK\n");
    assert_eq!(redis.ask("DEBUG DIGEST\n"), digest);
    redis.ask("SHUTDOWN NOSAVE\n");
    assert!(redis.child.wait().expect("redis ends").success());
}
