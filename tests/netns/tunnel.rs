//! A link without Ethernet between two namespaces: a tun device in each, and threads that carry
//! the packets.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::kernel::tun;
use crate::netns::Netns;

pub const DEVICE: &str = "tun0";

pub struct Tunnel {
    stop: Arc<AtomicBool>,
    carriers: Vec<JoinHandle<()>>,
}

impl Tunnel {
    /// Each end with its namespace and addresses, IPv4 and IPv6.
    pub fn start(ends: [(&Netns, [&str; 2]); 2]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let [a, b] = ends.map(|(netns, addresses)| {
            let file = netns.inside(|| tun(DEVICE));
            for address in addresses {
                netns.ip(&format!("addr add {address} dev {DEVICE}"));
            }
            netns.ip(&format!("link set {DEVICE} up"));
            Arc::new(file)
        });
        let carrier = |from: &Arc<File>, to: &Arc<File>| {
            let (from, to, stop) = (from.clone(), to.clone(), stop.clone());
            thread::spawn(move || carry(&from, &to, &stop))
        };
        let carriers = vec![carrier(&a, &b), carrier(&b, &a)];
        Self { stop, carriers }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for carrier in self.carriers.drain(..) {
            let _ = carrier.join();
        }
    }
}

fn carry(mut from: &File, mut to: &File, stop: &AtomicBool) {
    let mut packet = [0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        let mut fds = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(50u8));
        if fds[0].any() != Some(true) {
            continue;
        }
        if let Ok(length) = from.read(&mut packet) {
            let _ = to.write_all(&packet[..length]);
        }
    }
}
