//! The application: nginx, with a location for every status and counts of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use crate::machine::netns::Netns;
use crate::machine::process::{PATIENCE, Process, eventually, run};
use crate::pod::fixture::{Family, Pod};

pub const HTTP: u16 = 80;
pub const HTTPS: u16 = 443;
pub const HTTP2: u16 = 82;
/// HTTP/1.1 on another port than [`HTTP`].
pub const OTHER: u16 = 83;
/// On a port of its own, so that asking does not count.
const STATUS: u16 = 8081;

/// One process, so that killing it leaves nothing behind; the log is written when a request ends.
const CONFIG: &str = r#"
daemon off;
master_process off;
worker_processes 1;
user root;
pid NAME.pid;
error_log stderr;
events { worker_connections 8192; }
http {
    access_log off;
    log_format counts '$status $request_method';
    client_body_temp_path tmp;
    proxy_temp_path tmp;
    fastcgi_temp_path tmp;
    uwsgi_temp_path tmp;
    scgi_temp_path tmp;
    keepalive_requests 10000000;
    keepalive_timeout 1h;
    client_max_body_size 100m;
    server {
        listen 80 backlog=4096;
        listen [::]:80 backlog=4096;
        listen 83 backlog=4096;
        listen [::]:83 backlog=4096;
        listen 82 http2 backlog=4096;
        listen [::]:82 http2 backlog=4096;
        TLS
        root files;
        access_log NAME.log counts;
        if_modified_since off;
        location = /200 { }
        location = /20k { }
        location = /1m { }
        location = /10m { }
        location = /204 { return 204; }
        location = /304 { if_modified_since before; }
        location = /404 { return 404; }
        location = /418 { return 418; }
        # With a text of its own, or nginx would close the connection after it.
        location = /500 { return 500 "no\n"; }
        location = /503 { return 503; }
    }
    server {
        listen 127.0.0.1:8081;
        location = /status { stub_status; }
    }
}
"#;

const TLS: &str =
    "listen 443 ssl; listen [::]:443 ssl; ssl_certificate cert.pem; ssl_certificate_key key.pem;";

/// Every status that nginx answers with, each at the path of its name.
pub const STATUSES: [u16; 6] = [200, 204, 304, 404, 500, 503];

pub struct Nginx {
    _process: Process,
    log: PathBuf,
}

impl Nginx {
    /// In the server's namespace; it answers when this returns.
    pub fn start(pod: &Pod) -> Self {
        Self::start_in(pod, pod.server())
    }

    pub fn start_in(pod: &Pod, netns: &Netns) -> Self {
        Self::with(pod, netns, "access", "")
    }

    pub fn start_with_tls(pod: &Pod) -> Self {
        make_certificate(pod);
        Self::with(pod, pod.server(), "access", TLS)
    }

    /// As `start_in`, with a log of this name for itself alone. With TLS there must be a certificate: see
    /// [`make_certificate`].
    pub fn start_logging(pod: &Pod, netns: &Netns, name: &str, tls: bool) -> Self {
        Self::with(pod, netns, name, if tls { TLS } else { "" })
    }

    fn with(pod: &Pod, netns: &Netns, name: &str, tls: &str) -> Self {
        let files = pod.tmp.file("files");
        fs::create_dir_all(&files).expect("a folder");
        for (name, length) in [
            ("200", 1 << 10),
            ("304", 1 << 10),
            ("20k", 20 << 10),
            ("1m", 1 << 20),
            ("10m", 10 << 20),
        ] {
            fs::write(files.join(name), vec![b'x'; length]).expect("a file");
        }
        let config = pod.tmp.file(&format!("{name}.conf"));
        let text = CONFIG.replace("TLS", tls).replace("NAME", name);
        fs::write(&config, text).expect("a configuration");
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-p"]).arg(pod.tmp.path());
        command.arg("-c").arg(&config);
        let process = Process::start(netns, command, pod.tmp.file(&format!("{name}.err")));
        let up = eventually(PATIENCE, || ask_status(netns).is_some());
        assert!(up, "nginx does not answer\n{}", process.said());
        Self {
            _process: process,
            log: pod.tmp.file(&format!("{name}.log")),
        }
    }

    /// How many requests nginx has had, without those that asked for this; each call adds one.
    pub fn requests(&self, pod: &Pod) -> u64 {
        ask_status(pod.server()).expect("stub_status")
    }

    /// The access log by status, once it has this many lines.
    pub fn responses(&self, expected: u64) -> BTreeMap<String, u64> {
        eventually(PATIENCE, || {
            self.lines("").values().sum::<u64>() >= expected
        });
        self.lines("")
    }

    /// The access log by status, for one method.
    pub fn lines(&self, method: &str) -> BTreeMap<String, u64> {
        let mut statuses = BTreeMap::new();
        for line in fs::read_to_string(&self.log).expect("the log").lines() {
            let (status, of) = line.split_once(' ').expect("two words");
            if method.is_empty() || method == of {
                *statuses.entry(status.to_owned()).or_default() += 1;
            }
        }
        statuses
    }
}

/// A key and a certificate by itself, in the pod's folder: key.pem and cert.pem.
pub fn make_certificate(pod: &Pod) {
    run(Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-subj", "/CN=pod", "-days", "2", "-keyout"])
        .arg(pod.tmp.file("key.pem"))
        .arg("-out")
        .arg(pod.tmp.file("cert.pem")));
}

fn ask_status(netns: &Netns) -> Option<u64> {
    let answer = netns.inside(|| {
        let mut stream = TcpStream::connect(("127.0.0.1", STATUS)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(b"GET /status HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    })?;
    // "server accepts handled requests" and, on the next line, the three numbers.
    let (_, rest) = answer.split_once("requests\n").expect("stub_status");
    let requests = rest.split_whitespace().nth(2).expect("three numbers");
    Some(requests.parse().expect("a number"))
}

/// `http://10.9.0.2:80/200`, for each path.
pub fn urls(pod: &Pod, family: Family, paths: &[impl std::fmt::Display]) -> Vec<String> {
    let at = pod.server_at(family, HTTP);
    let url = |path: &_| format!("http://{at}/{path}");
    paths.iter().map(url).collect()
}
