//! The binary, what it writes, and what it should.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub const FORMATS: [(&str, &str); 3] = [("table", "txt"), ("short", "short.txt"), ("json", "json")];

/// The binary in an environment that names no cluster.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_linkerd-metricd"));
    bare(&mut command);
    command
}

/// Takes from a command what of the environment could matter.
pub fn bare(command: &mut Command) {
    for (name, _) in std::env::vars() {
        let matters = ["METRICD_", "KUBE", "RUST_"].iter();
        if matters.clone().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.env("HOME", "/nonexistent");
}

pub fn output(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/check/golden");

/// A golden file.
pub fn golden(file: &str) -> String {
    let path = Path::new(GOLDEN).join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Runs the check in all formats: each must write its golden file, and end with this status. What
/// differs between runs is replaced first.
#[track_caller]
pub fn check(name: &str, success: bool, run: impl Fn(&str) -> Output, replace: &[(&str, &str)]) {
    for (format, extension) in FORMATS {
        let output = run(format);
        let mut written = stdout(&output);
        for (from, to) in replace {
            written = written.replace(from, to);
        }
        let file = format!("{name}.{extension}");
        let path = Path::new(GOLDEN).join(&file);
        if std::env::var("METRICD_TEST_GOLDEN").is_ok_and(|value| value == "write") {
            fs::write(&path, &written).unwrap();
        }
        let golden = golden(&file);
        assert_eq!(written, golden, "{}\n{}", path.display(), stderr(&output));
        assert_eq!(output.status.success(), success, "{name} as {format}");
        if format == "json" {
            let json: serde_json::Value = serde_json::from_str(&written).expect("one object");
            assert_eq!(json["success"], success);
        }
    }
}

/// A folder that goes with its owner.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("metricd-check-{name}-{}", unique()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What no other test, and no other run, uses at the same time.
pub fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let n = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{}-{n}", std::process::id())
}
