//! Checks memory and a disk from inside a guest. Built static by a bare `rustc`, so it runs beside nothing but a kernel.
//!
//! - `check hello` says hello.
//! - `check memory MIB ROUNDS` fills memory, then verifies and rewrites it round by round.
//! - `check disk DEVICE MIB ROUNDS` reads the first half of a disk with O_DIRECT into changing places of MIB of memory, writes from
//!   there to the second half, and verifies everything. The first half holds the pattern of its pages at version 0.

#[path = "../src/pattern.rs"]
#[allow(dead_code)]
mod pattern;

use pattern::{Dice, PAGE_WORDS, Pattern, mix};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::ExitCode;

const PAGE_BYTES: usize = 4096;
/// A request to the disk.
const CHUNK_BYTES: usize = 64 * PAGE_BYTES;
const O_DIRECT: i32 = 0o40000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().map_err(|error| format!("{text:?}: {error}"));
    let result = match words[..] {
        ["hello"] => Ok("hello".into()),
        ["memory", mib, rounds] => number(mib).and_then(|mib| memory(mib, number(rounds)?)),
        ["disk", device, mib, rounds] => number(mib).and_then(|mib| disk(device, mib, number(rounds)?)),
        _ => Err("usage: check hello | memory MIB ROUNDS | disk DEVICE MIB ROUNDS".into()),
    };
    match result {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            println!("CHECK FAILED: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// What word `at` of the memory holds in `round`: half of each page is one word, half a progression. Cheap, because the processor
/// may be emulated.
fn word(at: usize, round: usize) -> u64 {
    let seed = mix((at / PAGE_WORDS) as u64 ^ (round as u64) << 40);
    let place = (at % PAGE_WORDS) as u64;
    if place < PAGE_WORDS as u64 / 2 { seed } else { seed.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15)) }
}

fn memory(mib: usize, rounds: usize) -> Result<String, String> {
    let mut memory = vec![0_u64; (mib << 20) / 8];
    memory.iter_mut().enumerate().for_each(|(at, place)| *place = word(at, 0));
    for round in 0..rounds {
        for (at, place) in memory.iter_mut().enumerate() {
            if *place != word(at, round) {
                return Err(format!("round {round} word {at} is {place:#x}, must be {:#x}", word(at, round)));
            }
            *place = word(at, round + 1);
        }
        println!("round {round}");
    }
    Ok(format!("memory of {mib} MiB is right"))
}

/// The chunk of the first half that chunk `at` of the second half is written from.
fn origin(at: usize, chunks: usize) -> usize {
    (at * 7 + 3) % chunks
}

fn verify(bytes: &[u8], chunk: usize, when: &str) -> Result<(), String> {
    let words: Vec<u64> = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    for (page, words) in words.chunks_exact(PAGE_WORDS).enumerate() {
        let number = (chunk * CHUNK_BYTES / PAGE_BYTES + page) as u64;
        let found = Pattern::new(number, 0).check(words);
        found.map_err(|mismatch| format!("disk chunk {chunk} page {page} {when}: {mismatch}"))?;
    }
    Ok(())
}

fn disk(device: &str, mib: usize, rounds: usize) -> Result<String, String> {
    let opened = OpenOptions::new().read(true).write(true).custom_flags(O_DIRECT).open(device);
    let mut file = opened.map_err(|error| format!("{device}: {error}"))?;
    let bytes = file.seek(SeekFrom::End(0)).map_err(|error| format!("{device}: {error}"))? as usize;
    let chunks = bytes / CHUNK_BYTES / 2;
    let mut buffer = vec![1_u8; (mib << 20) + PAGE_BYTES];
    let start = buffer.as_ptr().align_offset(PAGE_BYTES);
    let mut slots: Vec<(&mut [u8], Option<usize>)> =
        buffer[start..][..mib << 20].chunks_exact_mut(CHUNK_BYTES).map(|slot| (slot, None)).collect();
    let mut dice = Dice::new(bytes as u64);
    let mut read_into = |file: &File, at: usize, chunk: usize, when: &str| {
        let place = dice.below(slots.len() as u64) as usize;
        let (slot, holds) = &mut slots[place];
        if let Some(held) = *holds {
            verify(slot, held, "from an earlier read")?;
        }
        let done = file.read_exact_at(slot, (at * CHUNK_BYTES) as u64);
        done.map_err(|error| format!("reading chunk {at}: {error}"))?;
        *holds = Some(chunk);
        verify(slot, chunk, when).map(|()| place)
    };
    let mut places = Vec::new();
    for _ in 0..rounds {
        for at in 0..chunks {
            places.push(read_into(&file, origin(at, chunks), origin(at, chunks), "read")?);
        }
    }
    for at in 0..chunks {
        let mut chunk = vec![0_u8; CHUNK_BYTES + PAGE_BYTES];
        let start = chunk.as_ptr().align_offset(PAGE_BYTES);
        let chunk = &mut chunk[start..][..CHUNK_BYTES];
        let from = (origin(at, chunks) * CHUNK_BYTES) as u64;
        file.read_exact_at(chunk, from).map_err(|error| format!("reading chunk {at}: {error}"))?;
        let to = ((chunks + at) * CHUNK_BYTES) as u64;
        file.write_all_at(chunk, to).map_err(|error| format!("writing chunk {at}: {error}"))?;
        read_into(&file, chunks + at, origin(at, chunks), "read back")?;
    }
    for (slot, holds) in &slots {
        holds.map_or(Ok(()), |chunk| verify(slot, chunk, "at the end"))?;
    }
    file.sync_all().map_err(|error| format!("sync: {error}"))?;
    Ok(format!("disk of {chunks} chunks twice is right after {} reads", places.len()))
}
