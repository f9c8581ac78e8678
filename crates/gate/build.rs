//! Links the unwinder in. The standard library asks for `libgcc_s`, and to load one more library costs every program that
//! starts more than all that the gate itself does there.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // A linker script under the library's name: the static parts of the same library instead.
    std::fs::write(out.join("libgcc_s.so"), "GROUP ( -lgcc_eh -lgcc )\n").expect("OUT_DIR can be written");
    println!("cargo:rustc-link-search=native={}", out.display());
}
