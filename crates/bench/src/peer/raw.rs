//! A zram device without swap on it: how much it holds in a byte of DRAM, and how fast.

use super::{Lock, journal::Leftovers, possible, swap};
use crate::cleanup::Undo;
use memmap2::MmapMut;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

/// Bytes of one request.
const REQUEST_BYTES: usize = 1 << 20;

/// A zram device with lz4, gone when dropped.
pub struct RawZram {
    number: u32,
    capacity: usize,
    _device: Undo,
    _lock: Lock,
}

/// What holding some pages took.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// To write them all.
    pub store_time: Duration,
    /// To read them all.
    pub load_time: Duration,
    /// DRAM that the device takes for them.
    pub dram_bytes: u64,
}

impl RawZram {
    /// A device for at most `capacity` bytes.
    ///
    /// # Errors
    /// Says what the kernel refused.
    pub fn new(capacity: usize) -> Result<Self, String> {
        possible()?;
        let lock = Lock::take()?;
        Leftovers::clean();
        let (number, device) = swap::zram_device()?;
        Ok(Self { number, capacity, _device: device, _lock: lock })
    }

    /// Writes `pages`, reads them back and compares; the device is emptied before.
    ///
    /// # Errors
    /// When the device fails, or does not hold what was written.
    pub fn hold(&self, pages: &[u8]) -> Result<Held, String> {
        let attribute = |name: &str| format!("/sys/block/zram{}/{name}", self.number);
        swap::put(&attribute("reset"), "1")?;
        swap::put(&attribute("comp_algorithm"), "lz4")?;
        swap::put(&attribute("disksize"), &self.capacity.to_string())?;
        let path = format!("/dev/zram{}", self.number);
        let wrong = |error: std::io::Error| format!("{path}: {error}");
        let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).map_err(|error| error.to_string())?;
        let mut device = OpenOptions::new().read(true).write(true).custom_flags(direct).open(&path).map_err(wrong)?;
        // Direct requests need buffers that begin at a page.
        let mut buffer = MmapMut::map_anon(REQUEST_BYTES).map_err(wrong)?;
        let store_time = timed(|| write(&mut device, pages, &mut buffer)).map_err(wrong)?;
        let dram_bytes = swap::zram_used_max(self.number);
        device.seek(SeekFrom::Start(0)).map_err(wrong)?;
        let load_time = timed(|| read(&mut device, pages.len(), &mut buffer, |_, _| {})).map_err(wrong)?;
        device.seek(SeekFrom::Start(0)).map_err(wrong)?;
        let mut same = true;
        read(&mut device, pages.len(), &mut buffer, |at, part| same &= pages[at..at + part.len()] == *part)
            .map_err(wrong)?;
        if same {
            Ok(Held { store_time, load_time, dram_bytes })
        } else {
            Err(format!("{path} does not hold what was written"))
        }
    }
}

fn timed(work: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn write(device: &mut File, pages: &[u8], buffer: &mut [u8]) -> std::io::Result<()> {
    for part in pages.chunks(REQUEST_BYTES) {
        buffer[..part.len()].copy_from_slice(part);
        device.write_all(&buffer[..part.len()])?;
    }
    device.sync_all()
}

fn read(
    device: &mut File,
    length: usize,
    buffer: &mut [u8],
    mut each: impl FnMut(usize, &[u8]),
) -> std::io::Result<()> {
    for at in (0..length).step_by(REQUEST_BYTES) {
        let part = &mut buffer[..REQUEST_BYTES.min(length - at)];
        device.read_exact(part)?;
        each(at, part);
    }
    Ok(())
}
