//! The servers of HTTP/2 that are programs of their own. Their encoders differ in what they put
//! into the dynamic table and when.

use std::fs;
use std::net::{Ipv6Addr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::machine::netns::Netns;
use crate::machine::process::{PATIENCE, Process, eventually};
use crate::pod::fixture::{Family, Pod};

pub const PORT: u16 = 8080;

/// Each answers with the status in its path; h2load, nginx and Node leave 204 and 304 without a
/// body.
pub const ANY_STATUS: [u16; 7] = [200, 204, 304, 404, 418, 500, 503];

/// What nghttpd can be made to answer with: 301 for a folder. Only this is not in the static table.
pub const NGHTTPD_STATUS: [&str; 4] = ["200", "301", "304", "404"];
/// The location that knows about it answers 304.
pub const UNMODIFIED: [&str; 2] = ["-H", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"];

/// In the folder of the kit.
fn script(name: &str) -> String {
    format!("{}/peers/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub fn python(name: &str) -> Command {
    let python = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/python/bin/python"
    );
    assert!(
        Path::new(python).exists(),
        "{python} is missing: make setup-python"
    );
    let mut command = Command::new(python);
    command.arg(script(name));
    command
}

/// Starts a server that listens on all addresses; it answers when this returns.
pub fn start_in(pod: &Pod, netns: &Netns, command: Command) -> Process {
    let process = Process::start(netns, command, pod.tmp.file("peer.log"));
    let up = eventually(PATIENCE, || {
        netns.inside(|| TcpStream::connect((Ipv6Addr::LOCALHOST, PORT)).is_ok())
    });
    assert!(up, "no answer\n{}", process.said());
    process
}

pub fn start(pod: &Pod, command: Command) -> Process {
    start_in(pod, pod.server(), command)
}

/// With /4k, /1m, and a path for each of its statuses.
pub fn nghttpd(pod: &Pod, netns: &Netns, flags: &[&str]) -> Process {
    let files = pod.tmp.file("files");
    fs::create_dir_all(files.join("301")).expect("a folder");
    for (name, length) in [("4k", 4 << 10), ("1m", 1 << 20), ("304", 1 << 10)] {
        fs::write(files.join(name), vec![b'x'; length]).expect("a file");
    }
    // Newer than any date that the client says.
    let mut command = Command::new("nghttpd");
    command.args(["--no-tls", "-d"]).arg(files);
    command.args(flags).arg(PORT.to_string());
    start_in(pod, netns, command)
}

pub fn hypercorn() -> Command {
    let mut command = python("http2.py");
    command.arg(PORT.to_string());
    command
}

pub fn node() -> Command {
    let mut command = Command::new("node");
    command.args([script("http2.mjs"), PORT.to_string()]);
    command
}

/// Go's own HTTP/2.
pub fn caddy(pod: &Pod) -> Command {
    let mut config =
        String::from("{\n admin off\n auto_https off\n servers {\n  protocols h1 h2c\n }\n}\n");
    config += &format!(":{PORT} {{\n header x-number {{http.request.uuid}}\n");
    for status in ANY_STATUS {
        let text = if matches!(status, 204 | 304) {
            ""
        } else {
            "text"
        };
        config += &format!(" respond /{status} \"{text}\" {status}\n");
    }
    let file = pod.tmp.file("Caddyfile");
    fs::write(&file, config + "}\n").expect("a configuration");
    let mut command = Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]);
    command.arg(file).env("HOME", pod.tmp.path());
    command
}

/// `http://10.9.0.2:8080/200`, for each path.
pub fn urls(pod: &Pod, family: Family, paths: &[impl std::fmt::Display]) -> Vec<String> {
    let at = pod.server_at(family, PORT);
    let url = |path: &_| format!("http://{at}/{path}");
    paths.iter().map(url).collect()
}
