//! Frames that make no sense: each is passed on as it came, and counted once.

use std::sync::{LazyLock, Mutex};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::flow::{ends, ends6};
use crate::frame;
use crate::http1_property::config;
use crate::kernel::{Kernel, Way};

/// Not shared with other tests: nobody knows which connections there are, nor when they end.
static KERNEL: LazyLock<Mutex<Kernel>> =
    LazyLock::new(|| Mutex::new(Kernel::load(&["--connections", "256"])));

/// Frames with sense, to begin with.
fn sound() -> impl Strategy<Value = Vec<u8>> {
    (
        any::<bool>(),
        0u8..3,
        any::<u8>(),
        any::<u32>(),
        vec(any::<u8>(), 0..200),
        select(vec![
            "",
            "GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n",
            "\x16\x03\x01\x02\x00\x01",
        ]),
    )
        .prop_map(|(v6, kind, flags, seq, tail, text)| {
            // Few ports, so that frames meet connections.
            let [a, b] = if v6 { ends6 } else { ends }(900 + u16::from(flags & 3));
            let payload = [text.as_bytes(), &tail].concat();
            match kind {
                0 => frame::udp(a, b, &payload),
                1 => frame::tcp(a, b, seq, 0, flags, &payload),
                _ => frame::tcp(b, a, seq, 0, flags, &payload),
            }
        })
}

/// What goes wrong with one.
#[derive(Clone, Debug)]
enum Fault {
    Byte(Index, u8),
    /// In the headers, where it matters.
    HeaderByte(usize, u8),
    Cut(Index),
    Insert(usize, Vec<u8>),
    Type(u16),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(i, b)| Fault::Byte(i, b)),
        (12usize..70, any::<u8>()).prop_map(|(i, b)| Fault::HeaderByte(i, b)),
        any::<Index>().prop_map(Fault::Cut),
        (select(vec![12usize, 14, 34, 54]), vec(any::<u8>(), 4..40))
            .prop_map(|(at, bytes)| Fault::Insert(at, bytes)),
        select(vec![0x0800u16, 0x86dd, 0x8100, 0x88a8, 0x0806, 0x0004]).prop_map(Fault::Type),
    ]
}

fn broken() -> impl Strategy<Value = Vec<u8>> {
    (sound(), vec(fault(), 0..6)).prop_map(|(mut frame, faults)| {
        for fault in faults {
            match fault {
                Fault::Byte(i, byte) => {
                    let i = i.index(frame.len());
                    frame[i] = byte;
                }
                Fault::HeaderByte(i, byte) if i < frame.len() => frame[i] = byte,
                Fault::Cut(i) => frame.truncate(i.index(frame.len())),
                Fault::Insert(at, bytes) if at <= frame.len() => {
                    frame.splice(at..at, bytes);
                }
                Fault::Type(ethertype) if frame.len() >= 14 => {
                    frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
                }
                _ => {}
            }
            // Less the kernel does not take.
            frame.resize(frame.len().max(15), 0);
        }
        frame
    })
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn is_passed_on_and_counted(frames in vec((any::<bool>(), broken()), 1..30)) {
        let kernel = KERNEL.lock().expect("a kernel that no case has failed on");
        for (out, frame) in &frames {
            kernel.run_if_taken(if *out { Way::Out } else { Way::In }, frame);
        }
        kernel.check();
    }

    #[test]
    fn as_a_super_packet_too(
        frame in broken(),
        size in 1usize..2000,
        segments in 0usize..100,
    ) {
        // Whatever the kernel says of segments, what is counted is at least the frame.
        let kernel = KERNEL.lock().expect("a kernel that no case has failed on");
        let [before, _] = kernel.io();
        if kernel.run_unsound_gso(Way::In, &frame, size, segments) {
            let [after, _] = kernel.io();
            prop_assert!(after.0 > before.0);
            prop_assert!(after.1 >= before.1 + frame.len() as u64);
            kernel.fed(
                Way::In,
                after.0 - before.0 - 1,
                after.1 - before.1 - frame.len() as u64,
            );
        }
    }
}
