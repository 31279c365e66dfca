//! Compiles the objects of bpf/ and generates their skeletons and constants; with the feature `benches`,
//! compiles what benches load. CLANG is the compiler, `clang` if it is not set.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;

use anyhow::{Context, Result};
use libbpf_cargo::SkeletonBuilder;

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=bpf");
    println!("cargo:rerun-if-env-changed=CLANG");
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
    fs::write(out.join("constants.rs"), constants()?)?;
    let benches: &[_] = match env::var_os("CARGO_FEATURE_BENCHES") {
        Some(_) => &BENCHES,
        None => &[],
    };
    for (source, object) in benches {
        println!("cargo:rerun-if-changed={source}");
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
    let layout = if next_layout() {
        "-DNEXT_LAYOUT"
    } else {
        "-UNEXT_LAYOUT"
    };
    let clang = env::var_os("CLANG").unwrap_or("clang".into());
    builder.clang(clang).source(source).clang_args([
        "-mcpu=v3", // 5.10 knows it; newer clangs would choose a newer one
        // Keeps the head of a loop on its top: 5.10 and 6.1 refuse an instruction that falls through
        // into it from below. Given this way, it comes behind the -O2 of libbpf-cargo.
        "-Xclang", "-Os", "-Wall", "-Wextra", "-Werror", &bpf, &include, &cross, layout,
    ]);
    Ok(builder)
}

/// Headers whose constants user space needs, too.
const HEADERS: [&str; 2] = ["bpf/layout/abi.h", "bpf/net/state.h"];

/// The constants of those headers in Rust: what enums name, and what is defined as a number, or made of
/// such by << and /.
fn constants() -> Result<String> {
    let mut values: BTreeMap<String, u64> = BTreeMap::new();
    let mut rust = String::new();
    for header in HEADERS {
        let text = fs::read_to_string(header).with_context(|| format!("read {header}"))?;
        // What is left out by the preprocessor, and what is not.
        let mut ours = vec![true];
        for line in text.lines() {
            let line = line.split("/*").next().unwrap_or_default().trim();
            match line {
                "#ifdef NEXT_LAYOUT" => ours.push(next_layout()),
                "#ifndef NEXT_LAYOUT" => ours.push(!next_layout()),
                "#else" => *ours.last_mut().context("#else of nothing")? ^= true,
                "#endif" => drop(ours.pop()),
                line if line.starts_with("#if") => ours.push(true),
                _ => {}
            }
            if ours.contains(&false) {
                continue;
            }
            let found = match line.strip_prefix("#define ") {
                Some(definition) => definition.split_once(char::is_whitespace),
                None => line.trim_end_matches(',').split_once(" = "),
            };
            let Some((name, value)) = found else { continue };
            let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            if !name.chars().all(is_name) {
                continue;
            }
            if let Some(value) = value_of(value, &values) {
                values.insert(name.into(), value);
                rust += &format!("pub const {name}: u64 = {value};\n");
            }
        }
    }
    Ok(rust)
}

/// `None` if it is not a number, or not made of numbers in these ways.
fn value_of(text: &str, known: &BTreeMap<String, u64>) -> Option<u64> {
    let text = text.trim().trim_start_matches('(').trim_end_matches(')');
    if let Some((a, b)) = text.split_once("<<") {
        return value_of(a, known)?.checked_shl(value_of(b, known)?.try_into().ok()?);
    }
    if let Some((a, b)) = text.split_once('/') {
        return value_of(a, known)?.checked_div(value_of(b, known)?);
    }
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok().or_else(|| known.get(text).copied()),
    }
}

fn next_layout() -> bool {
    env::var_os("CARGO_FEATURE_NEXT_LAYOUT").is_some()
}
