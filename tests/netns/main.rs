//! End to end, with real servers and clients: every test builds its own network namespaces, lets
//! `metricd-init` attach there, makes traffic, and compares what `metricd` serves with what the
//! traffic's own ends have counted.
//!
//! Needs root, the Debian packages iproute2, iputils-ping, ethtool, nginx-light, nghttp2-client,
//! nghttp2-server, nodejs, caddy, bind9-dnsutils, dnsmasq-base, dnsperf, bpftool, curl, openssl, prometheus and strace, and what `make setup-python` puts
//! into target/python. A missing one fails the tests that use it.
//!
//! METRICD_TEST_REQUESTS and METRICD_TEST_CONNECTIONS make the load tests shorter or longer.

mod attach;
mod beside;
mod broken;
mod client;
mod dns;
mod exposition;
mod faults;
mod fixture;
mod frames;
mod gc;
mod grpc;
mod http1;
mod http2;
mod http2_faults;
mod kernel;
mod kills;
mod l4;
mod left;
mod lifecycle;
mod load;
mod memory;
mod messages;
mod metrics;
mod netns;
mod observed;
mod overflow;
mod peers;
mod pins;
mod process;
mod prometheus;
mod server;
mod strace;
mod streams;
mod tap;
mod timing;
mod tunnel;
mod upgrade;
mod wire;
