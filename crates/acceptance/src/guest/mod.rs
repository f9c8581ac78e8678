//! Guests for QEMU without an accelerator: Debian's cloud kernel, an initramfs made here, a console on standard output.
//!
//! The kernel package is fetched once with `apt-get download` and unpacked beside the build, never installed.

mod archive;

use crate::case::{NotPassed, failed, skipped};
use crate::ctx::Ctx;
use crate::launch::Launch;
use crate::running::tail;
use archive::Archive;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What guests need.
pub const NEEDS: &[&str] = &[
    "root",
    "qemu-system-x86_64",
    "busybox",
    "apt-get",
    "apt-cache",
    "dpkg-deb",
    "depmod",
    "modprobe",
    "ldd",
    "rustc",
    "gcc",
];

/// Modules that a disk needs.
const MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "virtio_mmio"];
/// Emulated processors of a guest.
const CPUS: &str = "2";

/// A guest that is being made.
pub struct Guest {
    kernel: Kernel,
    files: Archive,
}

/// The unpacked kernel package.
#[derive(Clone)]
struct Kernel {
    root: PathBuf,
    version: String,
}

fn output(program: &str, arguments: &[&str], directory: &Path) -> Result<String, NotPassed> {
    let path = crate::case::program_path(program).unwrap_or_else(|| program.into());
    let output = Command::new(path).args(arguments).current_dir(directory).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let said = tail(&String::from_utf8_lossy(&output.stderr));
            failed(format!("{program} {}: {}{said}", arguments.join(" "), output.status))
        }
    }
}

/// Finds the kernel, and fetches it the first time.
fn kernel(cache: &Path) -> Result<Kernel, NotPassed> {
    let root = cache.join("kernel");
    if !root.join("complete").exists() {
        match fetch(cache, &root) {
            Err(NotPassed::Failed(reason)) => return skipped(format!("the guest kernel cannot be fetched: {reason}")),
            other => other?,
        }
    }
    let mut versions = fs::read_dir(root.join("lib/modules"))?.flatten();
    match versions.next() {
        Some(version) => Ok(Kernel { version: version.file_name().to_string_lossy().into_owned(), root }),
        None => failed("the kernel package holds no modules"),
    }
}

fn fetch(cache: &Path, root: &Path) -> Result<(), NotPassed> {
    let depends = output("apt-cache", &["depends", "linux-image-cloud-amd64"], cache)?;
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).unwrap_or_default();
    output("apt-get", &["download", package], cache)?;
    let file = fs::read_dir(cache)?.flatten().map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with(package) && name.ends_with(".deb")
    });
    let Some(file) = file else { return failed(format!("apt-get download left no file of {package}")) };
    let part = cache.join("kernel.part");
    // What an interrupted fetch left.
    let _ = fs::remove_dir_all(&part);
    output("dpkg-deb", &["-x", &file.to_string_lossy(), &part.to_string_lossy()], cache)?;
    let version = package.trim_start_matches("linux-image-");
    output("depmod", &["-b", &part.to_string_lossy(), version], cache)?;
    fs::write(part.join("complete"), "")?;
    let _ = fs::remove_dir_all(root);
    fs::rename(&part, root)?;
    Ok(())
}

/// The checker, built static; again when its source has changed.
///
/// # Errors
/// It does not compile.
pub fn static_check(ctx: &Ctx) -> Result<PathBuf, NotPassed> {
    let cache = ctx.cache()?;
    let source = ctx.places.sources.join("guest/check.rs");
    let pattern = ctx.places.sources.join("src/pattern.rs");
    let built = cache.join("check");
    let changed = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
    let newest = changed(&source)?.max(changed(&pattern)?);
    if changed(&built).is_ok_and(|at| at >= newest) {
        return Ok(built);
    }
    let part = cache.join("check.part");
    let arguments = ["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-o"];
    let (to, from) = (part.to_string_lossy(), source.to_string_lossy());
    let arguments = [&arguments[..], &[&to, &from]].concat();
    output("rustc", &arguments, &cache)?;
    fs::rename(&part, &built)?;
    Ok(built)
}

const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/shm /tmp
sh /modules
sh /script
poweroff -f
";

impl Guest {
    /// A guest with busybox and the checker, `/bin/check`.
    ///
    /// # Errors
    /// The kernel or the checker is not to be had.
    pub fn new(ctx: &Ctx) -> Result<Self, NotPassed> {
        let cache = ctx.cache()?;
        let mut guest = Self { kernel: kernel(&cache)?, files: Archive::default() };
        for directory in ["bin", "dev", "lib", "lib64", "proc", "sys", "tmp"] {
            guest.files.directory(directory);
        }
        guest.files.file("init", 0o755, INIT.as_bytes());
        let busybox = crate::case::program_path("busybox").unwrap_or_default();
        guest.carry(&busybox, "/bin/busybox")?;
        guest.carry(&static_check(ctx)?, "/bin/check")?;
        guest.modules()?;
        Ok(guest)
    }

    /// Adds a program and the libraries that it is linked with.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn carry(&mut self, file: &Path, to: &str) -> Result<(), NotPassed> {
        self.files.file(to.trim_start_matches('/'), 0o755, &fs::read(file)?);
        // A static program makes ldd fail, and needs nothing.
        let linked = output("ldd", &[&file.to_string_lossy()], Path::new("/")).unwrap_or_default();
        for library in linked.split_whitespace().filter(|word| word.starts_with('/')) {
            if !self.files.has(library.trim_start_matches('/')) {
                self.files.file(library.trim_start_matches('/'), 0o755, &fs::read(library)?);
            }
        }
        Ok(())
    }

    fn modules(&mut self) -> Result<(), NotPassed> {
        let root = self.kernel.root.to_string_lossy().into_owned();
        let mut script = String::new();
        for module in MODULES {
            let arguments = ["-C", "/dev/null", "-d", &root, "-S", &self.kernel.version, "--show-depends", module];
            let depends = output("modprobe", &arguments, Path::new("/"))?;
            for file in depends.lines().filter_map(|line| line.trim().strip_prefix("insmod ")) {
                let inside = file.strip_prefix(&root).unwrap_or(file).trim();
                if !self.files.has(inside.trim_start_matches('/')) {
                    self.files.file(inside.trim_start_matches('/'), 0o644, &fs::read(file)?);
                    script += &format!("insmod {inside}\n");
                }
            }
        }
        self.files.file("modules", 0o644, script.as_bytes());
        Ok(())
    }

    /// QEMU with this guest, which runs `script` and ends. Its memory has `mib` MiB.
    ///
    /// # Errors
    /// The initramfs cannot be written.
    pub fn launch<'c>(
        mut self,
        ctx: &'c Ctx,
        script: &str,
        mib: u64,
        more: &[String],
    ) -> Result<Launch<'c>, NotPassed> {
        self.files.file("script", 0o644, script.as_bytes());
        let initramfs = ctx.directory().join("initramfs");
        fs::write(&initramfs, self.files.finish())?;
        let kernel = self.kernel.root.join(format!("boot/vmlinuz-{}", self.kernel.version));
        let launch = ctx.program("qemu-system-x86_64").label("guest");
        let launch = launch.args(["-accel", "tcg", "-cpu", "max", "-smp", CPUS, "-nodefaults", "-no-reboot"]);
        let launch = launch.args(["-display", "none", "-serial", "stdio", "-m", &mib.to_string()]);
        let launch = launch.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
        Ok(launch.args(["-append", "console=ttyS0 quiet panic=-1"]).args(more))
    }
}
