//! Our own binaries. Cargo tells their paths to the crate of a test alone (`CARGO_BIN_EXE_metricd`), so
//! the kit looks for them itself.

use std::env;
use std::path::{Path, PathBuf};

/// The binary of this name that belongs to the test that runs: target/debug/metricd of
/// target/debug/deps/netns-0123456789abcdef.
pub fn path(name: &str) -> PathBuf {
    let test = env::current_exe().expect("the path of the test");
    let folder = test.parent().and_then(Path::parent);
    let path = folder.expect("a folder above deps").join(name);
    assert!(
        path.exists(),
        "{} is missing: cargo builds it with the integration tests and benches of metricd",
        path.display()
    );
    path
}

#[test]
#[should_panic(expected = "no-such-binary is missing")]
fn says_what_is_missing() {
    path("no-such-binary");
}
