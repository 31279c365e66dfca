//! nginx as Debian has it in the pod, as a proxy of what arrives: it passes requests on to where their
//! connection was to go, and its log says where that was.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::fixture::{Pod, Shape};
use crate::load::{check, command};
use crate::process::{PATIENCE, Process, eventually};
use crate::proxy::INBOUND;
use crate::server::{HTTP, Nginx, urls};
use crate::world::FAMILIES;

/// $server_addr and $server_port are what getsockname() says; of IPv6 without brackets.
const CONFIG: &str = "
daemon off;
master_process off;
user root;
pid nginx.pid;
error_log stderr;
events {}
http {
    log_format destination '$server_addr $server_port';
    access_log access.log destination;
    client_body_temp_path tmp;
    proxy_temp_path tmp;
    fastcgi_temp_path tmp;
    uwsgi_temp_path tmp;
    scgi_temp_path tmp;
    server {
        listen 4143;
        location / { proxy_pass http://$server_addr:$server_port; }
    }
    server {
        listen [::]:4143;
        location / { proxy_pass http://[$server_addr]:$server_port; }
    }
}
";

#[test]
fn requests_go_through_nginx_to_where_they_were_to() {
    let pod = Pod::new(Shape::Plain);
    let application = Nginx::start(&pod);
    let folder = pod.tmp.file("proxy");
    fs::create_dir(&folder).expect("a folder");
    let config = folder.join("nginx.conf");
    fs::write(&config, CONFIG).expect("a configuration");
    let mut nginx = Command::new("nginx");
    nginx.args(["-e", "stderr", "-p"]).arg(&folder);
    nginx.arg("-c").arg(&config);
    let proxy = Process::start(&pod.hook, nginx, folder.join("nginx.log"));
    let up = eventually(PATIENCE, || folder.join("nginx.pid").exists());
    assert!(up, "nginx does not start\n{}", proxy.said());
    pod.attach(&["--redirect-inbound", &INBOUND.to_string()]);

    let requests = 1000;
    for family in FAMILIES {
        let urls = urls(&pod, family, &["200"]);
        check(&pod.client.run(&mut command(requests, &urls)), requests);
    }
    let answered = application.responses(2 * requests);
    assert_eq!(answered.values().sum::<u64>(), 2 * requests);
    let log = || fs::read_to_string(folder.join("access.log")).expect("the log");
    eventually(PATIENCE, || log().lines().count() as u64 >= 2 * requests);
    let mut went = BTreeMap::new();
    for line in log().lines() {
        *went.entry(line.to_owned()).or_default() += 1;
    }
    let to = FAMILIES.map(|family| format!("{} {HTTP}", pod.server_ip(family)));
    assert_eq!(went, to.into_iter().map(|to| (to, requests)).collect());
}
