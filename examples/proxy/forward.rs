//! From a client's request to the upstream's response.

use std::net::IpAddr;
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::Scheme;
use hyper::{Request, Response, StatusCode, Uri, Version};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use metricd_l7::{self as l7, Protocol, Recorder};

use crate::destination::Destination;
use crate::recorded::{Counted, Recorded, Recording};

/// Of one connection only (RFC 9110, 7.6.1).
static HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Connections to applications.
pub struct Upstream {
    h2c: bool,
    client: Client<HttpConnector, Counted>,
}

impl Upstream {
    pub fn new(h2c: bool) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // Sooner than servers close them, as a request on a connection that closes is lost.
            .pool_idle_timeout(Duration::from_secs(30))
            .http2_only(h2c)
            .build(connector);
        Self { h2c, client }
    }

    async fn ask(
        &self,
        to: &Destination,
        mut request: Request<Counted>,
    ) -> Response<Either<Incoming, Full<Bytes>>> {
        let answer = match self.prepare(to, &mut request) {
            Ok(()) => self.client.request(request).await,
            Err(status) => return refusal(status, "no such request can be made\n"),
        };
        match answer {
            Ok(mut response) => {
                remove_hop_by_hop(response.headers_mut());
                *response.version_mut() = Version::default();
                response.map(Either::Left)
            }
            Err(error) => {
                tracing::warn!(upstream = %to.authority, ?error, "no answer");
                refusal(StatusCode::BAD_GATEWAY, "the application does not answer\n")
            }
        }
    }

    fn prepare(&self, to: &Destination, request: &mut Request<Counted>) -> Result<(), StatusCode> {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        // HTTP/2 has the host there.
        if let Some(authority) = uri.authority.replace(to.authority.clone())
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            request.headers_mut().insert(header::HOST, host);
        }
        uri.scheme = Some(Scheme::HTTP);
        uri.path_and_query
            .get_or_insert_with(|| "/".parse().expect("a path"));
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| StatusCode::BAD_REQUEST)?;
        remove_hop_by_hop(request.headers_mut());
        // Of its kinds, HTTP/2 knows one (RFC 9113, 8.2.2), which gRPC asks for.
        let headers = request.headers_mut();
        if headers.get(header::TE).is_some_and(|te| te != "trailers") {
            headers.remove(header::TE);
        }
        *request.version_mut() = match self.h2c {
            true => Version::HTTP_2,
            false => Version::HTTP_11,
        };
        Ok(())
    }
}

/// Asks the application. The request records itself when the answer has been passed on, or when the
/// client has given up before.
pub async fn forward(
    request: Request<Incoming>,
    client: IpAddr,
    to: &Destination,
    upstream: &Upstream,
    recorder: &Recorder,
) -> Response<Recorded> {
    let mut recording = Recording::new(
        recorder.clone(),
        l7::Request {
            src: client,
            dst: to.address,
            protocol: protocol(&request),
            status: 0,
            grpc_status: None,
            duration: Duration::ZERO,
            sent: 0,
            received: 0,
        },
    );
    let request = request.map(|body| Counted::new(body, recording.received.clone()));
    let response = upstream.ask(to, request).await;
    recording.record.status = response.status().as_u16();
    recording.record.grpc_status = grpc_status(response.headers());
    response.map(|body| Recorded { body, recording })
}

fn protocol<B>(request: &Request<B>) -> Protocol {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let is_grpc = content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    match request.version() {
        Version::HTTP_2 if is_grpc => Protocol::Grpc,
        Version::HTTP_2 => Protocol::Http2,
        _ => Protocol::Http1,
    }
}

/// Of trailers, or of headers where nothing else follows.
pub fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // What the header names is of this connection, too.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

fn refusal(status: StatusCode, text: &'static str) -> Response<Either<Incoming, Full<Bytes>>> {
    let mut response = Response::new(Either::Right(Full::new(text.into())));
    *response.status_mut() = status;
    response
}
