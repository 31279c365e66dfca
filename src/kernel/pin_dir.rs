//! The pin directory: the one place that knows what lies in it, under which names, and in which order
//! that comes and goes.
//!
//! Anyone may look at a [`PinDir`]. It takes the lock to change what is in it, so only a
//! [`LockedPinDir`] pins, renames, points and removes.

mod bpffs;
mod change;
mod epoch;
mod lock;
mod look;
mod names;
mod pin;
pub mod redirect;

pub use bpffs::is_bpffs;
pub use epoch::EpochDir;
pub use lock::{LockedPinDir, PATIENCE};
pub use look::{Observed, PinDir};
pub use names::LinkPin;
