//! The text of a scrape as an HTTP body, made while it is being taken.

use std::{
    convert::Infallible,
    io::Write,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use flate2::{Compression, write::GzEncoder};
use hyper::{
    HeaderMap,
    body::{Body, Bytes, Frame},
    header::ACCEPT_ENCODING,
};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::read::prometheus::Exposition;

/// Compressors that may be at work. Each takes 300 KB: a client that comes when all are taken gets
/// the text as it is.
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

    /// The next bytes for the wire: `None` at the end, empty when the compressor keeps all so far.
    fn piece(&mut self) -> Option<Vec<u8>> {
        let text = self.exposition.next();
        // Writing to a vector does not fail.
        match (text, &mut self.gzip) {
            (text, None) => text,
            (Some(text), Some((gzip, _))) => {
                let _ = gzip.write_all(&text);
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

/// Whether the client takes gzip, and no less gladly than the text as it is (RFC 9110, 12.5.3).
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let codings = values.filter_map(|value| value.to_str().ok());
    for coding in codings.flat_map(|value| value.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| {
            let (name, weight) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then_some(weight)
        });
        // A weight that is no number is taken for a refusal.
        let weight = weight.map_or(1.0, |q| q.trim().parse::<f32>().unwrap_or(0.0));
        match name.as_str() {
            "gzip" | "x-gzip" => gzip = Some(weight),
            "identity" => identity = Some(weight),
            "*" => any = Some(weight),
            _ => {}
        }
    }
    let gzip = gzip.or(any).unwrap_or(0.0);
    gzip > 0.0 && gzip >= identity.unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_only_where_it_is_welcome() {
        for (header, expected) in [
            ("gzip", true),
            ("deflate, gzip;q=1.0, *;q=0.5", true),
            ("br, GZIP ; Q=0.3", true),
            ("x-gzip", true),
            ("*", true),
            ("gzip;q=0.5, identity;q=0.2", true),
            ("", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip;q=0.000", false),
            ("gzip;q=0, *", false),
            ("*;q=0", false),
            ("gzip;q=x", false),
            ("gzip;q=0.2, identity", false),
            ("gzipped", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, header.parse().unwrap());
            assert_eq!(accepts_gzip(&headers), expected, "{header}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
