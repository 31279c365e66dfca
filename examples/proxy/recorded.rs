//! Bodies on their way through.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use metricd_l7::{Recorder, Request};

use crate::forward::grpc_status;

/// A request's body, whose bytes are counted.
pub struct Counted {
    body: Incoming,
    bytes: Arc<AtomicU64>,
}

impl Counted {
    pub fn new(body: Incoming, bytes: Arc<AtomicU64>) -> Self {
        Self { body, bytes }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.bytes.fetch_add(length(frame), Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request that is under way. It is recorded when this goes.
pub struct Recording {
    pub record: Request,
    /// Bytes of the request's body so far.
    pub received: Arc<AtomicU64>,
    started: Instant,
    recorder: Recorder,
}

impl Recording {
    pub fn new(recorder: Recorder, record: Request) -> Self {
        Self {
            record,
            received: Arc::default(),
            started: Instant::now(),
            recorder,
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.record.duration = self.started.elapsed();
        self.record.received = self.received.load(Ordering::Relaxed);
        self.recorder.record(&self.record);
    }
}

/// A response's body, which goes after its last byte, or with the connection of a client that is
/// gone.
pub struct Recorded {
    pub body: Either<Incoming, Full<Bytes>>,
    pub recording: Recording,
}

impl Body for Recorded {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.recording.record.sent += length(frame);
            if let Some(status) = frame.trailers_ref().and_then(grpc_status) {
                self.recording.record.grpc_status = Some(status);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}
