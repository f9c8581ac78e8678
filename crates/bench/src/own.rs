//! What a process can read about itself without privilege.

/// Counters of this process and of those children that it has waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Faults that needed no I/O.
    pub faults_minor: u64,
    /// Faults that the kernel served from its swap.
    pub faults_major: u64,
    /// User and system time of this process, in clock ticks of 10 ms.
    pub ticks_own: u64,
    /// The same of its children that have ended and been waited for.
    pub ticks_children: u64,
}

impl Counters {
    /// Reads them now; all zero where `/proc` is not mounted.
    #[must_use]
    pub fn read() -> Self {
        std::fs::read_to_string("/proc/self/stat").ok().and_then(|line| Self::parse(&line)).unwrap_or_default()
    }

    /// The fields of `/proc/PID/stat`, counted after the command name, which may itself contain blanks.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            faults_minor: field(7)?,
            faults_major: field(9)?,
            ticks_own: field(11)? + field(12)?,
            ticks_children: field(13)? + field(14)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_blanks_and_brackets_does_not_shift_the_fields() {
        let line = "42 (a ) b) R 1 42 42 0 -1 4194304 101 102 3 104 5 6 70 80 20 0 1 0 100 0 0";
        let expected = Counters { faults_minor: 101, faults_major: 3, ticks_own: 11, ticks_children: 150 };
        assert_eq!(Counters::parse(line), Some(expected));
    }

    #[test]
    fn this_process_has_faulted() {
        assert!(Counters::read().faults_minor > 0);
    }
}
