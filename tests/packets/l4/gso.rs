//! Frames that stand for several: packets and bytes are those on the wire. The sums are checked
//! when the kernel is dropped.

use crate::flow::{Client, Flow, Server, ends, ends6};
use crate::frame::{self, ACK};
use crate::kernel::{Kernel, Shared, Way};

#[test]
fn tcp_by_both_versions() {
    let kernel = Shared::get();
    for ends in [ends(Shared::port()), ends6(Shared::port())] {
        let f = Flow::new(&kernel, ends);
        f.handshake();
        for (len, size) in [(3000, 1448), (2896, 1448), (1449, 1448), (1000, 1), (10, 9)] {
            // Known to the kernel, and not yet known.
            for known in [true, false] {
                let frame = f.frame(Server, ACK, f.seq(Server, 0), &vec![b'x'; len]);
                let segments = if known { len.div_ceil(size) } else { 0 };
                let headers = frame.len() - len;
                kernel.run_gso(Way::Out, &frame, headers, size, segments);
                kernel.check();
            }
        }
        f.rst(Server);
    }
}

#[test]
fn udp_by_both_versions() {
    let kernel = Kernel::load(&["--connections", "64"]);
    for [client, server] in [ends(1), ends6(2)] {
        let frame = frame::udp(client, server, &[b'x'; 3000]);
        kernel.run_gso(Way::In, &frame, frame.len() - 3000, 1200, 3);
        kernel.check();
    }
}

#[test]
fn requests_in_a_super_packet() {
    let kernel = Shared::get();
    let f = Flow::open(&kernel, Shared::port());
    let requests = "GET / HTTP/1.1\r\n\r\n".repeat(150);
    let frame = f.frame(Client, ACK, f.seq(Client, 0), requests.as_bytes());
    let headers = frame.len() - requests.len();
    kernel.run_gso(Way::In, &frame, headers, 1448, 2);
    f.said[0].set(requests.len() as u32);
    f.response("HTTP/1.1 204 No Content\r\n\r\n".repeat(100));
    f.response("HTTP/1.1 204 No Content\r\n\r\n".repeat(50));
    assert_eq!(f.seen().responses[&204], 150);
    f.rst(Client);
}
