//! Commands that must succeed, and processes that end with their owner.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::machine::netns::{Netns, unique};

/// How long anything may take that should be immediate.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a command to its end; a missing program fails the test with the package to install.
pub fn output(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|e| cannot_start(command, &e))
}

/// Runs a command that must succeed and returns what it wrote to its standard output.
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn cannot_start(command: &Command, error: &io::Error) -> ! {
    let program = command.get_program().to_string_lossy();
    let package = match program.as_ref() {
        "ip" | "tc" => "iproute2",
        "ping" => "iputils-ping",
        "dig" => "bind9-dnsutils",
        "dnsmasq" => "dnsmasq-base",
        "nginx" => "nginx-light",
        "h2load" | "nghttp" => "nghttp2-client",
        "nghttpd" => "nghttp2-server",
        "node" => "nodejs",
        "promtool" | "prometheus" => "prometheus",
        "setpriv" => "util-linux",
        other => other,
    };
    if error.kind() == ErrorKind::NotFound {
        panic!("{program} is missing: apt-get install {package}");
    }
    panic!("{command:?}: {error}");
}

/// Waits until the condition holds; says whether it ever did.
pub fn eventually(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// A child process; killed when dropped. What it says goes to a file.
pub struct Process {
    child: Mutex<Child>,
    log: PathBuf,
}

impl Process {
    pub fn start(netns: &Netns, mut command: Command, log: PathBuf) -> Self {
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(&log)
                .unwrap_or_else(|e| panic!("{}: {e}", log.display()))
        };
        command.stdin(Stdio::null()).stdout(open()).stderr(open());
        let child = netns.inside(|| {
            command
                .spawn()
                .unwrap_or_else(|e| cannot_start(&command, &e))
        });
        Self {
            child: Mutex::new(child),
            log,
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn id(&self) -> u32 {
        self.child().id()
    }

    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        self.child().try_wait().ok()??.code()
    }

    /// Whether it runs, or how it ended.
    pub fn state(&self) -> String {
        match self.child().try_wait() {
            Ok(None) => "running".into(),
            Ok(Some(status)) => format!("ended by {status}"),
            Err(e) => e.to_string(),
        }
    }

    /// Ends it by SIGKILL, as the out-of-memory killer would.
    pub fn kill(&mut self) {
        self.child().kill().expect("kill");
        self.child().wait().expect("wait");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- {}\n{}---", self.log.display(), self.said());
        }
        let _ = self.child().kill();
        let _ = self.child().wait();
    }
}

/// A folder for configurations, logs and files to serve.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(unique("metricd-test"));
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
