//! Files that say what is expected.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// How many files in `golden` are of no case.
pub const OTHERS: usize = 1 + 4 * 2;

/// A file or folder of these tests.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/inject")
        .join(name)
}

/// The files in a folder, with their names without what is behind the dot.
pub fn files(folder: &str) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(path(folder)).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().into(), path))
        .collect();
    files.sort();
    files
}

/// Fails if the file in `golden` says something else.
pub fn check(name: &str, text: &str) {
    let path = path("golden").join(name);
    if env::var("METRICD_TEST_GOLDEN").is_ok_and(|value| value == "write") {
        fs::write(&path, text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == text,
        "{} says\n{golden}\nand this is\n{text}",
        path.display()
    );
}
