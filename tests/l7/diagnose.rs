//! `diagnose` with a real proxy: it agrees, or names the gap.

use std::process::Command;

use crate::clients;
use crate::fixture::{Family, binary};
use crate::load;
use crate::process::{Process, output};
use crate::proxy::Mesh;
use crate::server::HTTP;

/// By the command line in the pod's namespace, whose status must agree with what it says.
fn diagnose(mesh: &Mesh) -> serde_json::Value {
    let ended = mesh.pod.hook.inside(|| {
        let mut command = binary(env!("CARGO_BIN_EXE_linkerd-metricd"));
        output(command.args(["diagnose", "--output", "json"]))
    });
    let said: serde_json::Value = serde_json::from_slice(&ended.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&ended.stderr)));
    assert_eq!(ended.status.success(), said["whole"] == true, "{said:#}");
    said
}

#[track_caller]
fn says(mesh: &Mesh, whole: bool, what: &str) {
    let said = diagnose(mesh);
    assert_eq!(said["whole"], whole, "{said:#}");
    let findings = said["findings"].as_array().expect("a list");
    let texts = findings
        .iter()
        .map(|finding| finding["text"].as_str().unwrap());
    let mut all = texts.chain(said["verdict"].as_str());
    assert!(all.any(|text| text.contains(what)), "{what}: {said:#}");
}

#[test]
fn a_way_past_the_proxy_is_named() {
    let mesh = Mesh::new(1024);
    mesh.pod.attach(&["--interface", "eth0,lo"]);
    let _proxy = mesh.proxy(&["--workers", "4"]);
    clients::h2load(&mesh, 2000, &["-m", "10"], &["200", "404"]);
    mesh.scrape(2000);
    says(&mesh, true, "2000 of them by the proxy, too");
    // While requests come in, too.
    let mut command = Command::new("h2load");
    command.args(["-c", "20", "-m", "10", "-n", "50000"]);
    command.args(mesh.urls(&["200"]));
    let log = mesh.pod.tmp.file("h2load.log");
    let _load = Process::start(&mesh.pod.client, command, log);
    let same = "the proxy and the kernel count the same requests to 127.0.0.1:80";
    says(&mesh, true, same);
    mesh.scrape(52_000);
    let server = mesh.pod.server_at(Family::V4, HTTP);
    load::h2load(&mesh.pod, 70, &[format!("http://{server}/200")]);
    let client = mesh.pod.client_ip(Family::V4);
    let bypass = format!(
        "70 requests from {client} to {server} bypassed the proxy, which asks 127.0.0.1:80"
    );
    says(&mesh, true, &bypass);
}

#[test]
fn a_way_that_is_not_observed_is_named() {
    let mesh = Mesh::new(1024);
    mesh.pod.attach(&[]);
    let _proxy = mesh.proxy(&[]);
    clients::h2load(&mesh, 500, &[], &["200"]);
    mesh.scrape(500);
    says(
        &mesh,
        false,
        "500 of the proxy's 500 requests to 127.0.0.1:80 were not seen by the kernel, nor any other: is the \
         way there observed? On the loopback it takes metricd-init --loopback",
    );
}
