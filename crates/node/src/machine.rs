//! What the kernel says of the machine: its memory, and how long tasks wait for it.

use std::io;

/// Memory of the machine, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MachineMemory {
    /// All there is.
    pub total_bytes: u64,
    /// What programs can get without anything being swapped.
    pub available_bytes: u64,
}

/// Pressure stall information: parts of the time, 0 to 1, over ten seconds.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Stall {
    /// Some task waited for memory.
    pub some: f64,
    /// All did.
    pub full: f64,
}

impl MachineMemory {
    /// As it is now.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn now() -> io::Result<Self> {
        std::fs::read_to_string("/proc/meminfo").map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let bytes = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
        };
        Self { total_bytes: bytes("MemTotal:").unwrap_or(0), available_bytes: bytes("MemAvailable:").unwrap_or(0) }
    }
}

impl Stall {
    /// As it is now; none where the kernel does not count it.
    pub fn now() -> Self {
        std::fs::read_to_string("/proc/pressure/memory").map(|text| Self::parse(&text)).unwrap_or_default()
    }

    fn parse(text: &str) -> Self {
        let part = |kind: &str| -> Option<f64> {
            let line = text.lines().find(|line| line.starts_with(kind))?;
            let number = line.split_ascii_whitespace().find_map(|field| field.strip_prefix("avg10="))?;
            number.parse::<f64>().ok().map(|percent| percent / 100.0)
        };
        Self { some: part("some").unwrap_or(0.0), full: part("full").unwrap_or(0.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_stall_are_read_as_the_kernel_writes_them() {
        let text = "MemTotal:  100 kB\nMemFree: 3 kB\nMemAvailable:   7 kB\n";
        assert_eq!(MachineMemory::parse(text), MachineMemory { total_bytes: 102_400, available_bytes: 7168 });
        let text = "some avg10=1.50 avg60=0.00 total=1\nfull avg10=0.25 avg60=0.00 total=0\n";
        assert_eq!(Stall::parse(text), Stall { some: 0.015, full: 0.0025 });
        assert_eq!(Stall::parse("nothing"), Stall::default());
    }
}
