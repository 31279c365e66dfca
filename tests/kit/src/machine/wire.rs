//! The seeded fault injector: a namespace between two others whose only job is to pass frames on
//! from one interface to the other, and to drop, repeat and delay some of them.
//!
//! Only TCP frames are touched; ARP and neighbour discovery always pass.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};

use crate::machine::environment::from_environment;
use crate::machine::kernel::packet_socket;
use crate::machine::netns::Netns;

/// Ethernet, the largest MTU of these tests, a VLAN tag.
const LONGEST_FRAME: usize = 14 + 1500 + 4;
/// A frame held back goes out when this many later ones have passed …
const HOLD_FRAMES: std::ops::RangeInclusive<u64> = 2..=4;
/// … or this much time, if nothing follows.
const HOLD_TIME: Duration = Duration::from_millis(3);

/// Probabilities in percent, and what tells this wire's dice from others'.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    pub seed: u64,
    pub drop: f64,
    pub duplicate: f64,
    pub reorder: f64,
}

impl Faults {
    /// Segments lost, repeated and overtaken.
    pub fn of_each_kind(seed: u64) -> Self {
        Self {
            seed,
            drop: 2.0,
            duplicate: 1.0,
            reorder: 5.0,
        }
    }
}

/// What was done to one direction's TCP frames.
#[derive(Debug, Default)]
pub struct Done {
    pub frames: AtomicU64,
    pub dropped: AtomicU64,
    pub duplicated: AtomicU64,
    pub reordered: AtomicU64,
}

impl Done {
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// So that a test can say that it has tested something.
    pub fn assert_faults(&self) {
        for (what, count) in [
            ("dropped", &self.dropped),
            ("duplicated", &self.duplicated),
            ("reordered", &self.reordered),
        ] {
            assert!(
                count.load(Ordering::Relaxed) > 0,
                "no frame {what}: {self:?}"
            );
        }
    }
}

pub struct Wire {
    stop: Arc<AtomicBool>,
    lanes: Vec<JoinHandle<()>>,
    /// From the first interface to the second.
    pub there: Arc<Done>,
    pub back: Arc<Done>,
}

impl Wire {
    pub fn start(netns: &Netns, first: &str, second: &str, faults: Faults) -> Self {
        let (first, second) = netns.inside(|| (packet_socket(first), packet_socket(second)));
        let (first, second) = (Arc::new(first), Arc::new(second));
        let mut wire = Self {
            stop: Arc::default(),
            lanes: Vec::new(),
            there: Arc::default(),
            back: Arc::default(),
        };
        for (from, to, done, salt) in [
            (&first, &second, &wire.there, 0x7468_6572_6500),
            (&second, &first, &wire.back, 0x6261_636b_0000),
        ] {
            let mut lane = Lane {
                from: from.clone(),
                to: to.clone(),
                dice: Dice::of_this_run(faults.seed ^ salt),
                faults,
                held: VecDeque::new(),
                done: done.clone(),
            };
            let stop = wire.stop.clone();
            wire.lanes.push(std::thread::spawn(move || lane.run(&stop)));
        }
        wire
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for lane in self.lanes.drain(..) {
            let _ = lane.join();
        }
    }
}

struct Held {
    frame: Vec<u8>,
    /// How many later frames it still lets pass.
    behind: u64,
    until: Instant,
}

/// One direction.
struct Lane {
    from: Arc<OwnedFd>,
    to: Arc<OwnedFd>,
    dice: Dice,
    faults: Faults,
    held: VecDeque<Held>,
    done: Arc<Done>,
}

impl Lane {
    fn run(&mut self, stop: &AtomicBool) {
        let mut buffer = [0; 1 << 16];
        while !stop.load(Ordering::Relaxed) {
            match recv(self.from.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => self.pass(&buffer[..length]),
                Err(Errno::EAGAIN) => self.sleep(),
                // The interface is down or gone: so is the test.
                Err(_) => return,
            }
            if !self.held.is_empty() {
                let now = Instant::now();
                self.release(|held| held.until <= now);
            }
        }
    }

    /// Until a frame comes or a held one is due; now and then to see whether to stop.
    fn sleep(&self) {
        let timeout = if self.held.is_empty() { 50 } else { 1u8 };
        let mut fds = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(timeout));
    }

    fn pass(&mut self, frame: &[u8]) {
        if !is_tcp(frame) {
            return self.emit(frame);
        }
        assert!(
            frame.len() <= LONGEST_FRAME,
            "a frame of {} bytes: segmentation offload is on",
            frame.len()
        );
        count(&self.done.frames);
        if self.dice.percent(self.faults.drop) {
            return count(&self.done.dropped);
        }
        self.pass_or_hold(frame);
        if self.dice.percent(self.faults.duplicate) {
            count(&self.done.duplicated);
            self.pass_or_hold(frame);
        }
    }

    fn pass_or_hold(&mut self, frame: &[u8]) {
        if self.dice.percent(self.faults.reorder) {
            count(&self.done.reordered);
            self.held.push_back(Held {
                frame: frame.to_vec(),
                behind: self.dice.within(HOLD_FRAMES),
                until: Instant::now() + HOLD_TIME,
            });
            return;
        }
        self.emit(frame);
        for held in &mut self.held {
            held.behind = held.behind.saturating_sub(1);
        }
        self.release(|held| held.behind == 0);
    }

    fn release(&mut self, is_due: impl Fn(&Held) -> bool) {
        while let Some(at) = self.held.iter().position(&is_due) {
            let held = self.held.remove(at).expect("found");
            self.emit(&held.frame);
        }
    }

    fn emit(&self, frame: &[u8]) {
        // A full queue is one more loss; TCP copes, and so must what is tested.
        let _ = send(self.to.as_raw_fd(), frame, MsgFlags::empty());
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn is_tcp(frame: &[u8]) -> bool {
    const TCP: u8 = 6;
    match frame {
        [_, _, _, _, _, _, _, _, _, _, _, _, 0x08, 0x00, ip @ ..] => ip.get(9) == Some(&TCP),
        [_, _, _, _, _, _, _, _, _, _, _, _, 0x86, 0xdd, ip @ ..] => ip.get(6) == Some(&TCP),
        _ => false,
    }
}

/// xorshift64*: the same seed, the same faults.
pub struct Dice(u64);

impl Dice {
    /// METRICD_TEST_SEED makes them others; what fails says which they were.
    pub fn of_this_run(salt: u64) -> Self {
        let seed = from_environment("METRICD_TEST_SEED", 0);
        eprintln!("METRICD_TEST_SEED={seed}");
        Self::new(seed ^ salt)
    }

    fn new(seed: u64) -> Self {
        // The state must not be 0, and near seeds must not begin alike.
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn percent(&mut self, percent: f64) -> bool {
        ((self.next() >> 11) as f64) < percent / 100.0 * (1u64 << 53) as f64
    }

    pub fn within(&mut self, range: std::ops::RangeInclusive<u64>) -> u64 {
        range.start() + self.next() % (range.end() - range.start() + 1)
    }
}

#[test]
fn the_dice_are_fair_and_repeat() {
    let roll = |seed| {
        let mut dice = Dice::new(seed);
        (0..100_000).filter(|_| dice.percent(2.0)).count()
    };
    for seed in [0, 1, 2, u64::MAX] {
        assert!((1_800..2_200).contains(&roll(seed)), "{}", roll(seed));
        assert_eq!(roll(seed), roll(seed));
    }
    let mut dice = Dice::new(7);
    assert!((0..1000).all(|_| HOLD_FRAMES.contains(&dice.within(HOLD_FRAMES))));
    assert!((0..1000).all(|_| !dice.percent(0.0) && dice.percent(100.0)));
}
