//! Compiles bpf/metricd.bpf.c and bpf/l7.bpf.c and generates their skeletons; compiles
//! benches/packet.bpf.c.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;

use anyhow::{Context, Result};
use libbpf_cargo::SkeletonBuilder;

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=bpf");
    println!("cargo:rerun-if-changed=benches/packet.bpf.c");
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    let object = out.join("metricd.bpf.o");
    builder("bpf/metricd.bpf.c")?
        .obj(&object)
        .build_and_generate(out.join("metricd.skel.rs"))
        .context("compile bpf/metricd.bpf.c (needs clang and libelf-dev, see `make setup`)")?;
    builder("bpf/l7.bpf.c")?
        .obj(out.join("l7.bpf.o"))
        .build_and_generate(out.join("l7.skel.rs"))
        .context("compile bpf/l7.bpf.c")?;
    // What tells programs from those of another build.
    let mut hasher = DefaultHasher::new();
    hasher.write(&fs::read(&object)?);
    println!("cargo:rustc-env=METRICD_OBJECT={}", hasher.finish().max(1));
    builder("benches/packet.bpf.c")?
        .obj(out.join("packet.bpf.o"))
        .build()
        .context("compile benches/packet.bpf.c")
}

fn builder(source: &str) -> Result<SkeletonBuilder> {
    // Debian keeps the kernel's asm headers in a folder of the host's architecture, where clang
    // does not look for them when it compiles for BPF.
    let include = format!(
        "-I/usr/include/{}-linux-gnu",
        env::var("CARGO_CFG_TARGET_ARCH")?
    );
    let mut builder = SkeletonBuilder::new();
    let next_layout = env::var_os("CARGO_FEATURE_NEXT_LAYOUT").is_some();
    let layout = if next_layout {
        "-DNEXT_LAYOUT"
    } else {
        "-UNEXT_LAYOUT"
    };
    builder.source(source).clang_args([
        "-mcpu=v3", // 5.10 knows it; newer clangs would choose a newer one
        // Keeps the head of a loop on its top: 5.10 and 6.1 refuse an instruction that falls through
        // into it from below. Given this way, it comes behind the -O2 of libbpf-cargo.
        "-Xclang", "-Os", "-Wall", "-Wextra", "-Werror", &include, layout,
    ]);
    Ok(builder)
}
