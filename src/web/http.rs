//! What servers of plain HTTP have in common.

use std::{convert::Infallible, error::Error, future::Future, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, sync::watch};

/// How long a request's head may take, and an idle connection may wait for its next request.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of a request's head.
pub const HEAD_SIZE: usize = 16 << 10;

/// Answers the requests of one connection.
pub async fn converse<F, B>(
    stream: TcpStream,
    mut stopped: watch::Receiver<()>,
    answer: impl Fn(Request<Incoming>) -> F,
) where
    F: Future<Output = Response<B>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_SIZE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        // The sender is never used, only dropped.
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // The client's doing: gone, too slow, or not HTTP.
        tracing::debug!(%error, "a connection ended");
    }
}

/// What to say to anything but a GET or HEAD of one of the `pages`.
pub fn refuse<B>(request: &Request<B>, pages: &[&str]) -> Option<Response<Full<Bytes>>> {
    if !pages.contains(&request.uri().path()) {
        return Some(text(StatusCode::NOT_FOUND, "not found; see /\n"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
        let allow = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allow);
        return Some(response);
    }
    None
}

pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    full(status, "text/plain; charset=utf-8", text)
}

pub fn full(
    status: StatusCode,
    content_type: &'static str,
    content: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(content.into()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
