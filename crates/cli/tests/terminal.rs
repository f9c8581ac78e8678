//! `memvisor top` in a real terminal, which tmux plays: keys go in, the screen comes out.

mod common;

use common::fake_node::FakeNode;
use common::{have, kill};
use std::process::Command;
use std::time::{Duration, Instant};

/// Far more than anything here takes, also on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal with a shell in it, of a tmux server of its own.
struct Terminal {
    socket: std::path::PathBuf,
}

impl Terminal {
    fn new(node: &FakeNode) -> Self {
        let terminal = Self { socket: node.directory.file("tmux.sock") };
        // A shell that does not mend what a program leaves behind.
        let shell = ["-f", "/dev/null", "new-session", "-d", "-x", "110", "-y", "30", "env", "PS1=ready> ", "sh"];
        terminal.tmux(&shell);
        terminal.shows("ready>");
        terminal
    }

    fn tmux(&self, words: &[&str]) -> String {
        let output = Command::new("tmux").arg("-S").arg(&self.socket).args(words).env_remove("TMUX").output().unwrap();
        assert!(output.status.success(), "tmux {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn line(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.keys(&["Enter"]);
    }

    /// Waits until `condition` holds of the screen.
    #[track_caller]
    fn until(&self, what: &str, condition: impl Fn(&str) -> bool) {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if condition(&screen) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{what} never came:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        self.until(text, |screen| screen.contains(text));
    }

    /// Starts `top` with `options` in a way that tells its id, how it ends, and how it leaves the terminal.
    fn top(&self, node: &FakeNode, options: &str) {
        let (binary, place) = (env!("CARGO_BIN_EXE_memvisor"), node.directory.0.display());
        let started =
            format!("sh -c 'echo $$ > {place}/pid; exec {binary} top --node {place} --interval 0.1 {options}'");
        self.line(&format!(
            "stty -g > {place}/before; {started}; echo ended=$?; stty -g > {place}/after; echo 'looked'"
        ));
    }

    /// Waits for the end of `top` and checks that the terminal is as it was.
    #[track_caller]
    fn is_restored(&self, node: &FakeNode, code: u8) {
        self.shows(&format!("ended={code}"));
        self.until("looked", |screen| screen.lines().any(|line| line == "looked"));
        let read = |name: &str| std::fs::read_to_string(node.directory.file(name)).unwrap();
        assert_eq!(read("before"), read("after"), "modes of the terminal");
        assert_eq!(self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).trim(), "0 1");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Only the server of this socket, and whatever it runs.
        let _ = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}

#[test]
fn keys_sort_filter_explain_and_quit_and_the_terminal_is_restored() {
    if !have("tmux") {
        return;
    }
    let mut node = FakeNode::new("tmux-keys");
    let terminal = Terminal::new(&node);
    terminal.top(&node, "");
    terminal.shows("sorted by charged ▼");
    let is_first = |name: &'static str| {
        move |screen: &str| {
            screen
                .lines()
                .skip_while(|line| !line.starts_with("NAME"))
                .nth(1)
                .is_some_and(|line| line.starts_with(name))
        }
    };
    terminal.until("web first", is_first("web"));
    terminal.keys(&["r"]);
    terminal.until("redis first", is_first("redis"));
    terminal.keys(&["r", ">", "Right", ">"]);
    terminal.until("most faults first", is_first("batch-job"));
    terminal.keys(&["/", "w", "e"]);
    terminal.shows("1 of 3 spaces with `we`");
    terminal.keys(&["Enter", "e"]);
    terminal.shows("The idle memory tax of 0.75 took 1 GiB.");
    terminal.keys(&["Escape"]);
    terminal.until("closed", |screen| !screen.contains("idle memory tax"));
    terminal.keys(&["Escape"]);
    terminal.until("unfiltered", |screen| screen.contains("redis"));
    terminal.keys(&["?"]);
    terminal.shows("turn the order around");
    terminal.keys(&["h"]);
    terminal.tmux(&["resize-window", "-x", "60", "-y", "20"]);
    terminal.until("a narrow screen", |screen| screen.contains("MEMORY") && !screen.contains("WANTED"));
    node.stop();
    terminal.shows("NODE GONE: there is no node");
    node.start();
    terminal.until("the node again", |screen| !screen.contains("NODE GONE") && screen.contains("sorted by"));
    terminal.keys(&["q"]);
    terminal.is_restored(&node, 0);
}

#[test]
fn a_signal_and_a_panic_give_the_terminal_back() {
    if !have("tmux") {
        return;
    }
    let node = FakeNode::new("tmux-ends");
    let terminal = Terminal::new(&node);
    terminal.top(&node, "");
    terminal.shows("sorted by charged");
    kill("TERM", std::fs::read_to_string(node.directory.file("pid")).unwrap().trim());
    terminal.is_restored(&node, 143);
    terminal.line("clear");
    terminal.until("a clear screen", |screen| !screen.contains("ended="));
    terminal.top(&node, "--inject-panic");
    terminal.is_restored(&node, 101);
    terminal.shows("a panic was asked for");
}
