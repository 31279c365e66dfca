//! What asks the proxy, by HTTPS, and knows how often.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::load::check;
use crate::netns::unique;
use crate::proxy::Mesh;

/// h2load: so many requests by the flags' HTTP, the URLs in turn, none failed. How many were
/// answered with which status.
pub fn h2load(mesh: &Mesh, requests: u64, flags: &[&str], paths: &[&str]) -> BTreeMap<String, u64> {
    let pod = &mesh.pod;
    let log = pod.tmp.file(&unique("h2load"));
    let mut command = Command::new("h2load");
    command.args(["-c", "20", "-n", &requests.to_string()]);
    command.arg("--log-file").arg(&log);
    let said = pod.client.run(command.args(flags).args(mesh.urls(paths)));
    check(&said, requests);
    let mut statuses = BTreeMap::new();
    for line in fs::read_to_string(&log).expect("the log").lines() {
        let status = line.split('\t').nth(1).expect("a status");
        *statuses.entry(status.to_owned()).or_default() += 1;
    }
    assert_eq!(statuses.values().sum::<u64>(), requests);
    statuses
}

/// wrk ends on time, with requests under way that it does not count. So each of its threads has one
/// connection, and ends itself between an answer and the next request.
const SCRIPT: &str = r"
local answers = 0
function response()
    answers = answers + 1
    if answers == tonumber(os.getenv('ANSWERS')) then wrk.thread:stop() end
end
";

/// wrk: so many requests by each of 4 connections. How many it says that were answered.
pub fn wrk(mesh: &Mesh, each: u64, path: &str) -> u64 {
    let pod = &mesh.pod;
    let script = pod.tmp.file("stop.lua");
    fs::write(&script, SCRIPT).expect("a script");
    let mut command = Command::new("wrk");
    command.args(["-t", "4", "-c", "4", "-d", "20", "-s"]);
    command.arg(&script).args(mesh.urls(&[path]));
    command.env("ANSWERS", each.to_string());
    let said = pod.client.run(&mut command);
    assert!(
        !said.contains("Socket errors") && !said.contains("Non-2xx"),
        "{said}"
    );
    let line = said.lines().find(|line| line.contains(" requests in "));
    let line = line.unwrap_or_else(|| panic!("not what wrk 4 says:\n{said}"));
    let count = line.split_whitespace().next().expect("a number");
    count.parse().expect("a number")
}
