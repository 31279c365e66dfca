//! A snapshot of the maps as Prometheus text, or as lines for whoever counts them.
//!
//! [`families`] says which line shows what. [`Walk`] goes through it row by row, and
//! [`Exposition`] makes text of that piece by piece, as fast as the reader takes it: what a scrape
//! needs in memory is the snapshot and one piece.

#![forbid(unsafe_code)]

mod families;
mod family;
mod labels;
mod lines;
mod process;
mod text;
mod totals;
mod walk;

use std::time::Instant;

pub use family::{Proxied, Reading};
pub use lines::{Line, Sink};
pub use walk::Walk;

use text::Text;

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text of one scrape, in pieces of about [`Exposition::PIECE`] bytes that end with a line.
pub struct Exposition {
    walk: Walk,
    text: Text,
}

impl Exposition {
    /// The size of a piece in bytes; what a histogram's lines take comes on top.
    pub const PIECE: usize = 32 << 10;

    pub fn new(reading: Reading, proxied: Proxied) -> Self {
        Self {
            walk: Walk::new(reading, proxied),
            text: Text::default(),
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
        while self.text.len() < Self::PIECE && self.walk.step(&mut self.text) {}
        self.walk.scrape.written += self.walk.scrape.piece.elapsed();
        (self.text.len() > 0).then(|| self.text.take())
    }
}

#[cfg(test)]
mod tests;
