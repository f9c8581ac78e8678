//! Swap areas: a zram device, or a file with or without zswap before it.

use super::Kind;
use super::journal::Change;
use crate::cleanup::Undo;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const ZSWAP: &str = "/sys/module/zswap/parameters";
const ZRAM_CONTROL: &str = "/sys/class/zram-control";

/// How often the size of the zswap pool is looked at; it has no high-water mark of its own.
const POOL_PERIOD: Duration = Duration::from_millis(20);

/// Smallest share of the machine's memory that the zswap pool can be limited to: the kernel takes whole percents.
const POOL_PERCENT: &str = "1";

/// A swap area that is on, and switched off when this goes.
pub(super) struct Backing {
    kind: Kind,
    zram: Option<u32>,
    // In this order: off, then the settings, then the area itself.
    _on: Undo,
    _settings: Vec<Undo>,
    _area: Undo,
}

impl Backing {
    pub(super) fn new(kind: Kind, capacity_bytes: u64, dir: &Path) -> Result<Self, String> {
        match kind {
            Kind::Zram => Self::zram(capacity_bytes),
            Kind::File => Self::file(kind, capacity_bytes, dir, "N"),
            Kind::Zswap => Self::file(kind, capacity_bytes, dir, "Y"),
        }
    }

    fn zram(capacity_bytes: u64) -> Result<Self, String> {
        let (number, area) = zram_device()?;
        let attribute = |name: &str| format!("/sys/block/zram{number}/{name}");
        put(&attribute("comp_algorithm"), "lz4")?;
        put(&attribute("disksize"), &capacity_bytes.to_string())?;
        // zram before zswap would count the same pages twice.
        let settings = if zswap_exists() { vec![Change::set(&format!("{ZSWAP}/enabled"), "N")?] } else { Vec::new() };
        let on = switch_on(Path::new(&format!("/dev/zram{number}")))?;
        Ok(Self { kind: Kind::Zram, zram: Some(number), _on: on, _settings: settings, _area: area })
    }

    fn file(kind: Kind, capacity_bytes: u64, dir: &Path, zswap: &str) -> Result<Self, String> {
        if kind == Kind::Zswap && !zswap_exists() {
            return Err("this kernel has no zswap".into());
        }
        let path = dir.join(format!("memvisor-bench-{}.swap", std::process::id()));
        let area = Change::Made(path.clone()).note()?;
        write_zeros(&path, capacity_bytes)
            .map_err(|error| format!("cannot make the swap file {}: {error}", path.display()))?;
        let mut settings = Vec::new();
        if zswap_exists() {
            settings.push(Change::set(&format!("{ZSWAP}/enabled"), zswap)?);
            settings.push(Change::set(&format!("{ZSWAP}/max_pool_percent"), POOL_PERCENT)?);
        }
        let on = switch_on(&path)?;
        Ok(Self { kind, zram: None, _on: on, _settings: settings, _area: area })
    }

    /// Begins to watch how large the compressed pool gets.
    pub(super) fn watch(&self) -> Result<PoolWatch, String> {
        match (self.kind, self.zram) {
            (Kind::Zram, Some(number)) => {
                put(&format!("/sys/block/zram{number}/mem_used_max"), "0")?;
                Ok(PoolWatch::Zram(number))
            }
            (Kind::Zram | Kind::Zswap, _) => Ok(PoolWatch::zswap()),
            (Kind::File, _) => Ok(PoolWatch::None),
        }
    }
}

/// The high-water mark of a compressed pool.
pub(super) enum PoolWatch {
    None,
    Zram(u32),
    Zswap { max: Arc<AtomicU64>, stop: Arc<AtomicBool> },
}

impl PoolWatch {
    fn zswap() -> Self {
        let (max, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, ended) = (Arc::clone(&max), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                seen.fetch_max(zswap_pool_bytes(), Ordering::Relaxed);
                std::thread::sleep(POOL_PERIOD);
            }
        });
        Self::Zswap { max, stop }
    }

    pub(super) fn bytes_max(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Zram(number) => zram_used_max(*number),
            Self::Zswap { max, .. } => max.load(Ordering::Relaxed),
        }
    }
}

impl Drop for PoolWatch {
    fn drop(&mut self) {
        if let Self::Zswap { stop, .. } = self {
            stop.store(true, Ordering::Relaxed);
        }
    }
}

/// A zram device that nobody uses: a new one where the kernel can add one, else the first.
pub(crate) fn zram_device() -> Result<(u32, Undo), String> {
    if let Ok(text) = fs::read_to_string(format!("{ZRAM_CONTROL}/hot_add")) {
        let number = text.trim().parse().map_err(|_| format!("the kernel added a zram device called {text:?}"))?;
        return Ok((number, Change::ZramAdded(number).note()?));
    }
    let size = fs::read_to_string("/sys/block/zram0/disksize").map_err(|_| "this kernel has no zram")?;
    if size.trim() != "0" {
        return Err("the only zram device of this machine is in use".into());
    }
    Ok((0, Change::ZramUsed(0).note()?))
}

/// Bytes of DRAM that zram device `number` has used at most: the fifth field of its `mm_stat`.
pub(crate) fn zram_used_max(number: u32) -> u64 {
    let text = fs::read_to_string(format!("/sys/block/zram{number}/mm_stat")).unwrap_or_default();
    text.split_whitespace().nth(4).and_then(|field| field.parse().ok()).unwrap_or(0)
}

/// Writes a kernel attribute that needs no undoing.
pub(crate) fn put(path: &str, value: &str) -> Result<(), String> {
    fs::write(path, value).map_err(|error| format!("cannot write {value:?} to {path}: {error}"))
}

fn zswap_exists() -> bool {
    Path::new(ZSWAP).exists()
}

fn zswap_pool_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("Zswap:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

fn write_zeros(path: &Path, bytes: u64) -> std::io::Result<()> {
    // Written in full: a swap file must not have holes.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let zeros = vec![0u8; 1 << 20];
    let mut left = bytes as usize;
    while left > 0 {
        let part = left.min(zeros.len());
        file.write_all(&zeros[..part])?;
        left -= part;
    }
    file.sync_all()
}

fn switch_on(path: &Path) -> Result<Undo, String> {
    tool("mkswap", path)?;
    let undo = Change::SwappedOn(path.to_owned()).note()?;
    tool("swapon", path)?;
    Ok(undo)
}

fn tool(name: &str, path: &Path) -> Result<(), String> {
    let sbin = PathBuf::from("/usr/sbin").join(name);
    let program = if sbin.exists() { sbin } else { PathBuf::from(name) };
    let done = Command::new(program).arg(path).output().map_err(|error| format!("cannot run {name}: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("{name} {}: {}", path.display(), String::from_utf8_lossy(&done.stderr).trim()))
}
