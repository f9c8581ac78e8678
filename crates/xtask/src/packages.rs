//! The Debian packages that tests and benches use, and what each is for.

use std::path::Path;

/// A package, by what of it has to be there.
pub struct Package {
    /// As Debian calls it.
    pub name: &'static str,
    /// A file that is there when the package is.
    pub file: &'static str,
    /// Who uses it.
    pub used_by: &'static str,
}

const fn package(name: &'static str, file: &'static str, used_by: &'static str) -> Package {
    Package { name, file, used_by }
}

/// All of them.
pub const ALL: [Package; 22] = [
    package("gcc", "/usr/bin/gcc", "building the C parts: jemalloc, lz4"),
    package("libc6-dev", "/usr/include/stdio.h", "building the C parts"),
    package("make", "/usr/bin/make", "building jemalloc"),
    package("git", "/usr/bin/git", "cargo x check"),
    package("binutils", "/usr/bin/nm", "tests of the shim's symbols"),
    package("tmux", "/usr/bin/tmux", "tests of top in a terminal"),
    package("util-linux", "/usr/bin/taskset", "benches"),
    package("mount", "/usr/sbin/swapon", "benches: the kernel's swap as peer"),
    package("procps", "/usr/bin/ps", "real programs"),
    package("redis-server", "/usr/bin/redis-server", "demo, benches, real programs"),
    package("redis-tools", "/usr/bin/redis-cli", "demo, benches, real programs"),
    package("stress-ng", "/usr/bin/stress-ng", "real programs"),
    package("fio", "/usr/bin/fio", "real programs"),
    package("qemu-system-x86", "/usr/bin/qemu-system-x86_64", "guests"),
    package("busybox-static", "/bin/busybox", "guests"),
    package("cpio", "/usr/bin/cpio", "guests"),
    package("kmod", "/usr/sbin/modprobe", "guests"),
    package("mariadb-server", "/usr/sbin/mariadbd", "real programs"),
    package("sysbench", "/usr/bin/sysbench", "real programs"),
    package("prometheus", "/usr/bin/promtool", "the node: its metrics are checked"),
    package("systemd", "/usr/bin/systemd-analyze", "the node: its unit is checked"),
    package("python3-numpy", "/usr/lib/python3/dist-packages/numpy/__init__.py", "real programs"),
];

/// Java is looked for as a command: any version from 11 on will do.
pub const JAVA: Package = package("openjdk-17-jdk-headless", "/usr/bin/javac", "real programs");

/// Packages that are not there.
pub fn missing() -> Vec<&'static Package> {
    ALL.iter().chain([&JAVA]).filter(|package| !there(package.file)).collect()
}

/// Whether the file exists, here or where a merged `/usr` puts it.
fn there(file: &str) -> bool {
    Path::new(file).exists() || Path::new("/usr").join(file.trim_start_matches('/')).exists() || in_bin(file)
}

/// Debian moves programs between `bin` and `sbin` from release to release.
fn in_bin(file: &str) -> bool {
    let name = Path::new(file).file_name().unwrap_or_default();
    file.contains("bin/")
        && ["/bin", "/sbin", "/usr/bin", "/usr/sbin"].iter().any(|dir| Path::new(dir).join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_wherever_debian_has_put_it() {
        assert!(there("/sbin/sh") && there("/usr/bin/sh"));
        assert!(!there("/usr/bin/no-such-program"));
        assert!(!there("/usr/include/sh"), "only programs move");
    }

    #[test]
    fn no_package_is_named_twice() {
        let mut names: Vec<_> = ALL.iter().chain([&JAVA]).map(|package| package.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len() + 1);
    }
}
