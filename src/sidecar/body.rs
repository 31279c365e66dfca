//! The page of a scrape as an HTTP body, made while it is being taken.

use std::{
    convert::Infallible,
    io::Write,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use flate2::{Compression, write::GzEncoder};
use hyper::body::{Body, Bytes, Frame};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::read::prometheus::Exposition;

/// Compressors that may be at work. Each takes 300 KB: a client that comes when all are taken gets
/// the page as it is.
static COMPRESSORS: Semaphore = Semaphore::const_new(4);

type Compressor = (GzEncoder<Vec<u8>>, SemaphorePermit<'static>);

/// The body of a scrape, which makes the next piece only when the connection has room for it.
/// However slowly it is read, a scrape holds its snapshot and two pieces, and occupies nothing that
/// another scrape waits for.
pub struct Scrape {
    exposition: Exposition,
    gzip: Option<Compressor>,
    /// Whether others had their turn since the last piece.
    yielded: bool,
}

impl Scrape {
    /// The body of `exposition`, with gzip if the client takes that and a compressor is free.
    pub fn new(exposition: Exposition, may_gzip: bool) -> Self {
        let permit = may_gzip.then(|| COMPRESSORS.try_acquire().ok()).flatten();
        let gzip = |permit| (GzEncoder::new(Vec::new(), Compression::fast()), permit);
        Self {
            exposition,
            gzip: permit.map(gzip),
            yielded: false,
        }
    }

    pub fn is_gzip(&self) -> bool {
        self.gzip.is_some()
    }

    /// The next bytes for the wire: `None` at the end, empty when nothing can be sent as yet.
    fn piece(&mut self) -> Option<Vec<u8>> {
        let piece = self.exposition.next();
        // Writing to a vector does not fail.
        match (piece, &mut self.gzip) {
            (piece, None) => piece,
            (Some(piece), Some((gzip, _))) => {
                let _ = gzip.write_all(&piece);
                Some(mem::take(gzip.get_mut()))
            }
            (None, gzip) => gzip.take()?.0.finish().ok(),
        }
    }
}

impl Body for Scrape {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !mem::replace(&mut self.yielded, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.yielded = false;
        match self.piece() {
            Some(piece) if piece.is_empty() => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece.into())))),
            None => Poll::Ready(None),
        }
    }
}
