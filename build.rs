//! Compiles the objects of bpf/ and generates their skeletons; compiles the benches' programs.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;

use anyhow::{Context, Result};
use libbpf_cargo::SkeletonBuilder;

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=bpf");
    for (source, _) in BENCHES {
        println!("cargo:rerun-if-changed={source}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    for (name, hash) in OBJECTS {
        let object = out.join(format!("{name}.bpf.o"));
        let source = format!("bpf/{name}.bpf.c");
        builder(&source)?
            .obj(&object)
            .build_and_generate(out.join(format!("{name}.skel.rs")))
            .with_context(|| {
                format!("compile {source} (needs clang and libelf-dev, see `make setup`)")
            })?;
        if let Some(variable) = hash {
            let mut hasher = DefaultHasher::new();
            hasher.write(&fs::read(&object)?);
            println!("cargo:rustc-env={variable}={}", hasher.finish().max(1));
        }
    }
    for (source, object) in BENCHES {
        builder(source)?
            .obj(out.join(object))
            .build()
            .with_context(|| format!("compile {source}"))?;
    }
    Ok(())
}

/// The objects, and where a hash of one is left that tells its programs from those of another build.
const OBJECTS: [(&str, Option<&str>); 3] = [
    ("metricd", Some("METRICD_OBJECT")),
    ("redirect", Some("METRICD_REDIRECT_OBJECT")),
    ("iterators", None),
];

/// What is loaded by benches alone, and the object that it becomes.
const BENCHES: [(&str, &str); 2] = [
    ("benches/packet.bpf.c", "packet.bpf.o"),
    ("benches/article/article.bpf.c", "article.bpf.o"),
];

fn builder(source: &str) -> Result<SkeletonBuilder> {
    // Debian keeps the kernel's asm headers in a folder of their architecture, where clang does not
    // look for them when it compiles for BPF: the machine's own, or what a cross compiler has.
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let include = format!("-I/usr/include/{arch}-linux-gnu");
    let cross = format!("-I/usr/{arch}-linux-gnu/include");
    let bpf = format!("-I{}/bpf", env::var("CARGO_MANIFEST_DIR")?);
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
        "-Xclang", "-Os", "-Wall", "-Wextra", "-Werror", &bpf, &include, &cross, layout,
    ]);
    Ok(builder)
}
