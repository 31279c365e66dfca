//! With the feature `map`, compiles the objects of bpf/ and generates their skeletons. CLANG is the
//! compiler, `clang` if it is not set.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=bpf");
    #[cfg(feature = "map")]
    {
        println!("cargo:rerun-if-env-changed=CLANG");
        let clang = std::env::var_os("CLANG").unwrap_or("clang".into());
        let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
        let arch = std::env::var("CARGO_CFG_TARGET_ARCH")?;
        for name in ["map", "iterator"] {
            libbpf_cargo::SkeletonBuilder::new()
                .clang(&clang)
                .source(format!("bpf/{name}.bpf.c"))
                .clang_args([
                    "-mcpu=v3".to_owned(), // 5.10 knows it.
                    "-Wall".to_owned(),
                    "-Wextra".to_owned(),
                    "-Werror".to_owned(),
                    // Debian keeps the kernel's asm headers where clang does not look for them.
                    format!("-I/usr/include/{arch}-linux-gnu"),
                    format!("-I/usr/{arch}-linux-gnu/include"),
                ])
                .obj(out.join(format!("{name}.bpf.o")))
                .build_and_generate(out.join(format!("{name}.skel.rs")))
                .map_err(|e| {
                    format!("compile bpf/{name}.bpf.c (needs clang and libelf-dev): {e:#}")
                })?;
        }
    }
    Ok(())
}
