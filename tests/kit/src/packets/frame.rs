//! Ethernet frames as bytes: what the tests and benches feed to the programs.

use std::net::IpAddr;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub ip: IpAddr,
    pub port: u16,
}

/// An Ethernet header for an IP packet of the version of `ip`.
pub fn ethernet(ip: IpAddr) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend(if ip.is_ipv4() {
        [0x08, 0x00]
    } else {
        [0x86, 0xdd]
    });
    frame
}

/// An IP header without options or extensions. Checksums are left out: the programs, like TC
/// itself, come before they are looked at.
pub fn ip(src: IpAddr, dst: IpAddr, proto: u8, payload: usize) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut h = vec![0x45, 0];
            h.extend((20 + payload as u16).to_be_bytes());
            h.extend([0, 0, 0x40, 0, 64, proto, 0, 0]);
            h.extend(src.octets());
            h.extend(dst.octets());
            h
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut h = vec![0x60, 0, 0, 0];
            h.extend((payload as u16).to_be_bytes());
            h.extend([proto, 64]);
            h.extend(src.octets());
            h.extend(dst.octets());
            h
        }
        _ => panic!("both ends must be of one IP version"),
    }
}

/// A TCP segment with the options that Linux sends (12 bytes of timestamps).
pub fn tcp(src: End, dst: End, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(src.ip);
    frame.extend(ip(src.ip, dst.ip, 6, 32 + payload.len()));
    frame.extend(src.port.to_be_bytes());
    frame.extend(dst.port.to_be_bytes());
    frame.extend(seq.to_be_bytes());
    frame.extend(ack.to_be_bytes());
    frame.extend([8 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1]);
    frame.extend(payload);
    frame
}

/// A UDP datagram.
pub fn udp(src: End, dst: End, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(src.ip);
    frame.extend(ip(src.ip, dst.ip, 17, 8 + payload.len()));
    frame.extend(src.port.to_be_bytes());
    frame.extend(dst.port.to_be_bytes());
    frame.extend((8 + payload.len() as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}
