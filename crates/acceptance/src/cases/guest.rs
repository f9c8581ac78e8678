//! A QEMU guest without an accelerator that boots a Debian kernel, checks its memory, and checks a disk with O_DIRECT. The disk
//! is checked from outside as well when the guest has ended.

use crate::case::{Case, NotPassed, Outcome, Params, failed};
use crate::ctx::{Ctx, Form};
use crate::guest::{self, Guest};
use crate::pattern::{PAGE_WORDS, Pattern};
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::Path;

/// The case. The need is the guest's RAM.
pub const CASE: Case = Case {
    name: "qemu-guest",
    needs: guest::NEEDS,
    short: Params::new(384, 1, 300),
    long: Params::new(1024, 3, 3600),
    run,
};

const PAGE_BYTES: usize = PAGE_WORDS * 8;
/// Pages of a request in the guest.
const CHUNK_PAGES: usize = 64;
/// Requests in each half of the disk.
const CHUNKS: usize = 64;

fn run(ctx: &Ctx) -> Outcome {
    let engines: &[&str] = match ctx.form {
        Form::Short => &["threads"],
        Form::Long => &["threads", "native", "io_uring"],
    };
    engines.iter().try_for_each(|engine| boot(ctx, engine))
}

fn boot(ctx: &Ctx, engine: &str) -> Outcome {
    let disk = ctx.directory().join(format!("disk-{engine}"));
    make_disk(&disk)?;
    let mib = ctx.params.bytes >> 20;
    // The kernel, the initramfs and the checker itself need the rest.
    let (memory, buffer, rounds) = (mib * 3 / 4 - 32, mib / 3, ctx.params.rounds);
    let script = format!(
        "check memory {memory} {rounds} && check disk /dev/vda {buffer} {rounds} && check memory {memory} 1 \
         && echo GUEST-CHECK-OK\n"
    );
    let drive = format!("file={},if=virtio,format=raw,cache=none,aio={engine}", disk.display());
    let launch = Guest::new(ctx)?.launch(ctx, &script, mib, &["-drive".into(), drive])?;
    launch.label(engine).run()?.must_print("GUEST-CHECK-OK")?;
    verify_disk(&disk)
}

fn page_bytes(page: usize) -> impl Iterator<Item = u8> {
    let pattern = Pattern::new(page as u64, 0);
    (0..PAGE_WORDS).flat_map(move |at| pattern.word(at).to_le_bytes())
}

/// A disk whose first half is known and whose second half is zeros.
fn make_disk(path: &Path) -> Result<(), NotPassed> {
    let file = File::create(path)?;
    file.set_len((2 * CHUNKS * CHUNK_PAGES * PAGE_BYTES) as u64)?;
    let mut writer = BufWriter::new(file);
    for page in 0..CHUNKS * CHUNK_PAGES {
        writer.write_all(&page_bytes(page).collect::<Vec<u8>>())?;
    }
    writer.flush()?;
    Ok(())
}

/// The first half is as before, and each chunk of the second is what the guest was to copy there.
fn verify_disk(path: &Path) -> Outcome {
    let mut file = File::open(path)?;
    let mut found = vec![0; PAGE_BYTES];
    for chunk in 0..2 * CHUNKS {
        let origin = if chunk < CHUNKS { chunk } else { ((chunk - CHUNKS) * 7 + 3) % CHUNKS };
        for page in 0..CHUNK_PAGES {
            file.read_exact(&mut found)?;
            if !page_bytes(origin * CHUNK_PAGES + page).eq(found.iter().copied()) {
                return failed(format!("from outside, page {page} of disk chunk {chunk} is wrong"));
            }
        }
    }
    fs::remove_file(path)?;
    Ok(())
}
