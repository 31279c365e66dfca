//! A request's body, as far as there is room and time for it.

use std::{io::Read, sync::Arc, time::Duration};

use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, StatusCode,
    body::{Body, Bytes},
    header::CONTENT_ENCODING,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};

use super::refusal::Refusal;

/// Bytes of a review, unpacked. An API server takes requests of 3 MiB (`MaxRequestBodyBytes` in
/// k8s.io/apiserver); the rest is for what a review says besides.
const SIZE: usize = 4 << 20;
/// Bytes of all reviews that are being received.
const ROOM: usize = 32 << 20;
/// After this an API server that was asked to wait three seconds listens no more.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Receives bodies.
pub struct Bodies {
    room: Arc<Semaphore>,
}

/// A body, and the room that it takes.
pub struct Received {
    pub bytes: Vec<u8>,
    _room: Vec<OwnedSemaphorePermit>,
}

impl Bodies {
    pub fn new() -> Self {
        Self {
            room: Arc::new(Semaphore::new(ROOM)),
        }
    }

    /// All of a body, unpacked if it was sent with gzip.
    ///
    /// # Errors
    ///
    /// If it is too large or too slow, there is no room, or the encoding is another or broken.
    pub async fn receive<B>(&self, headers: &HeaderMap, body: B) -> Result<Received, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let gzip = is_gzip(headers);
        let late = |_| {
            let seconds = TIMEOUT.as_secs();
            Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                format!("the body took longer than {seconds} seconds"),
            )
        };
        let mut received = time::timeout(TIMEOUT, self.collect(body))
            .await
            .map_err(late)??;
        if gzip? {
            received.bytes = unpack(&received.bytes)?;
        }
        Ok(received)
    }

    async fn collect<B>(&self, mut body: B) -> Result<Received, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let mut problem = (body.size_hint().lower() > SIZE as u64).then(too_large);
        let mut bytes = Vec::new();
        let mut room = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Refusal::new(StatusCode::BAD_REQUEST, format!("the body: {error}"))
            })?;
            let Ok(data) = frame.into_data() else {
                continue; // trailers
            };
            if problem.is_none() {
                let size = data.len() as u32; // no more than a frame's
                match self.room.clone().try_acquire_many_owned(size) {
                    _ if bytes.len() + data.len() > SIZE => problem = Some(too_large()),
                    Ok(taken) => {
                        room.push(taken);
                        bytes.extend_from_slice(&data);
                    }
                    Err(_) => {
                        problem = Some(Refusal::new(
                            StatusCode::SERVICE_UNAVAILABLE,
                            "too many large reviews at a time",
                        ));
                    }
                }
            }
            if problem.is_some() {
                // Who still sends when the answer comes may not get to see it.
                (bytes, room) = Default::default();
            }
        }
        if let Some(problem) = problem {
            return Err(problem);
        }
        Ok(Received { bytes, _room: room })
    }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Refusal> {
    let Some(encoding) = headers.get(CONTENT_ENCODING) else {
        return Ok(false);
    };
    match encoding.as_bytes().to_ascii_lowercase().as_slice() {
        b"gzip" | b"x-gzip" => Ok(true),
        b"identity" => Ok(false),
        _ => Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("content-encoding {encoding:?}: gzip, or none, is understood"),
        )),
    }
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    MultiGzDecoder::new(packed)
        .take(SIZE as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| {
            Refusal::new(StatusCode::BAD_REQUEST, format!("unpack the body: {error}"))
        })?;
    if bytes.len() > SIZE {
        return Err(too_large());
    }
    Ok(bytes)
}

fn too_large() -> Refusal {
    Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("a review has no more than {SIZE} bytes"),
    )
}
