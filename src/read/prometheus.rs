//! A snapshot of the maps in one of Prometheus' formats, or as lines for whoever counts them.
//!
//! [`families`] says which line shows what. [`Walk`] goes through it row by row, and
//! [`Exposition`] makes a page of that piece by piece, as fast as the reader takes it: what a scrape
//! needs in memory is the snapshot and a piece or two.

#![forbid(unsafe_code)]

mod families;
mod family;
mod format;
mod labels;
mod lines;
mod notation;
mod open_metrics;
mod process;
mod protobuf;
mod text;
mod totals;
mod walk;

use std::time::Instant;

pub use family::{Proxied, Reading};
pub use format::Format;
pub use lines::{Line, Sink};
pub use walk::Walk;

/// A page in the making, in one of the formats.
trait Page: Sink + Send {
    /// How many bytes there are, whether they can be taken already or not.
    fn len(&self) -> usize;

    /// What can be taken, which may be nothing.
    fn take(&mut self) -> Vec<u8>;

    /// Writes what stands behind the last family.
    fn finish(&mut self) {}
}

/// The page of one scrape, in pieces of about [`Exposition::PIECE`] bytes. A piece of text ends with a
/// line. A piece may be empty, with others to come.
pub struct Exposition {
    walk: Walk,
    page: Box<dyn Page>,
    is_finished: bool,
}

impl Exposition {
    /// The size of a piece in bytes; what a histogram's lines take comes on top.
    pub const PIECE: usize = 32 << 10;

    pub fn new(reading: Reading, proxied: Proxied, format: Format) -> Self {
        Self {
            walk: Walk::new(reading, proxied),
            page: format.page(),
            is_finished: false,
        }
    }

    /// Leaves out the series that need not be shown.
    pub fn without_idle(mut self) -> Self {
        self.walk = self.walk.without_idle();
        self
    }
}

impl Iterator for Exposition {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.walk.scrape.piece = Instant::now();
        while self.page.len() < Self::PIECE && !self.is_finished {
            if !self.walk.step(self.page.as_mut()) {
                self.page.finish();
                self.is_finished = true;
            }
        }
        self.walk.scrape.written += self.walk.scrape.piece.elapsed();
        (self.page.len() > 0).then(|| self.page.take())
    }
}

#[cfg(test)]
mod tests;
