//! The example proxy, in a pod.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::exposition::Scrape;
use crate::fixture::{Family, METRICS, Pod, Shape, binary};
use crate::netns::unique;
use crate::process::{PATIENCE, Process, eventually, run};
use crate::server::{HTTP, HTTP2, Nginx};

pub const PORT: u16 = 8443;

/// nginx, metricd, and what a proxy needs, with a table of so many slots.
pub struct Mesh {
    pub pod: Pod,
    pub nginx: Nginx,
    slots: usize,
}

impl Mesh {
    pub fn new(slots: usize) -> Self {
        let mut pod = Pod::new(Shape::Plain);
        let nginx = Nginx::start_with_tls(&pod);
        let file = pod.tmp.file("l7");
        start_metricd(&mut pod, &file);
        Self { pod, nginx, slots }
    }

    /// Where the proxy records.
    pub fn file(&self) -> PathBuf {
        self.pod.tmp.file("l7")
    }

    /// Starts a proxy before nginx, which answers when this returns; several may run.
    pub fn proxy(&self, flags: &[&str]) -> Process {
        self.proxy_to(
            match flags.contains(&"--h2c") {
                true => HTTP2,
                false => HTTP,
            },
            flags,
        )
    }

    /// The same before what listens on another port.
    pub fn proxy_to(&self, upstream: u16, flags: &[&str]) -> Process {
        let mut command = example();
        command.args(["--listen", &format!("[::]:{PORT}")]);
        command.arg("--cert").arg(self.pod.tmp.file("cert.pem"));
        command.arg("--key").arg(self.pod.tmp.file("key.pem"));
        command.args(["--upstream", &format!("127.0.0.1:{upstream}")]);
        command.args(flags);
        command.env("METRICD_L7_FILE", self.file());
        command.env("METRICD_L7_SLOTS", self.slots.to_string());
        // One of its own: what another has said does not count.
        let log = self.pod.tmp.file(&unique("proxy.log"));
        let process = Process::start(&self.pod.hook, command, log);
        let up = eventually(PATIENCE, || process.said().contains("proxying"));
        assert!(up, "the proxy does not listen\n{}", process.said());
        process
    }

    /// `https://10.9.0.2:8443/200`, for each path.
    pub fn urls(&self, paths: &[&str]) -> Vec<String> {
        let at = self.pod.server_at(Family::V4, PORT);
        paths
            .iter()
            .map(|path| format!("https://{at}/{path}"))
            .collect()
    }

    /// Once the proxy has recorded so many requests, and no more come.
    pub fn scrape(&self, requests: u64) -> Scrape {
        let count = || self.pod.scrape().sum("linkerd_proxy_requests_total", &[]);
        eventually(PATIENCE, || count() >= requests);
        std::thread::sleep(Duration::from_millis(200));
        self.pod.scrape()
    }
}

/// By the variable that the injector sets, as nobody without any right.
pub fn start_metricd(pod: &mut Pod, file: &Path) {
    let mut command = binary("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.args(["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]);
    command.arg(env!("CARGO_BIN_EXE_metricd"));
    command.arg("--pin-dir").arg(pod.pins.path());
    command.args(["--listen", &format!("[::]:{METRICS}")]);
    command.env("METRICD_L7_FILE", file);
    pod.start_as(command);
    let up = eventually(PATIENCE, || pod.try_scrape().is_ok());
    assert!(up, "metricd does not answer\n{}", pod.metricd().said());
}

/// Ends a proxy as the kubelet would, and waits for it to finish what is under way.
pub fn terminate(process: Process) {
    kill(Pid::from_raw(process.id() as i32), Signal::SIGTERM).expect("SIGTERM");
    let ended = eventually(PATIENCE, || process.state() != "running");
    assert!(ended, "the proxy does not end");
}

/// cargo builds examples for the tests only where all targets are asked for.
fn example() -> Command {
    static BUILD: Once = Once::new();
    BUILD.call_once(|| {
        run(Command::new(env!("CARGO")).args([
            "build",
            "--locked",
            "--example",
            "proxy",
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ]));
    });
    binary(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/target/debug/examples/proxy"
    ))
}
