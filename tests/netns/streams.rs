//! A client and a server of HTTP/2 and gRPC by the crate h2, which hyper and tonic use too. Of gRPC
//! it is only the framing of messages that they add. See peers/grpc_server.py for what a call says.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::client::listen;
use crate::netns::Netns;

/// Of gRPC, what the calls of [`call`] and grpc_client.py are.
pub const KINDS: [&str; 4] = ["Unary", "Upload", "Download", "Both"];

pub type Counts = BTreeMap<String, u64>;
type Result<T> = std::result::Result<T, h2::Error>;

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

/// A message with the five bytes before it: not compressed, and its length.
pub fn message(text: &[u8]) -> Bytes {
    let length = u32::try_from(text.len()).expect("a message");
    [&[0], &length.to_be_bytes()[..], text].concat().into()
}

/// Runs until it is dropped.
pub struct Server {
    /// How the calls of gRPC ended: their status, or "held".
    pub ended: Arc<Mutex<Counts>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(netns: &Netns, at: SocketAddr) -> Self {
        let listener = listen(netns, at);
        listener.set_nonblocking(true).expect("not blocking");
        let ended = Arc::new(Mutex::new(Counts::new()));
        let (stop, stopped) = oneshot::channel();
        let count = ended.clone();
        let thread = std::thread::spawn(move || {
            runtime().block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = accept(listener, count) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            ended,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub fn ended(&self) -> Counts {
        self.ended.lock().expect("the counts").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn accept(listener: TcpListener, ended: Arc<Mutex<Counts>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let ended = ended.clone();
        tokio::spawn(async move {
            let mut builder = h2::server::Builder::new();
            builder.max_concurrent_streams(1000);
            let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
                return;
            };
            while let Some(Ok((request, respond))) = connection.accept().await {
                let ended = ended.clone();
                tokio::spawn(async move {
                    let _ = answer(request, respond, &ended).await;
                });
            }
        });
    }
}

/// "/200" is answered with this status, "/reset/8" by resetting the stream with this code, all
/// else is a call of gRPC, which is counted by how it ended.
async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    ended: &Mutex<Counts>,
) -> Result<()> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if let Some(code) = path.strip_prefix("/reset/") {
        respond.send_reset(Reason::from(code.parse::<u32>().expect("a code")));
        return Ok(());
    }
    if let Ok(status) = path[1..].parse::<u16>() {
        read(body).await?;
        // A value that is never the same pushes others out of the table.
        let number = format!("{:?}", std::time::Instant::now());
        let response = Response::builder()
            .status(status)
            .header("x-number", number);
        let empty = matches!(status, 204 | 304);
        let mut stream = respond.send_response(response.body(()).expect("a head"), empty)?;
        if !empty {
            stream.send_data(vec![b'x'; 100].into(), true)?;
        }
        return Ok(());
    }
    let streamed = path.ends_with("Download") || path.ends_with("Both");
    let count = |how: &str| {
        *ended
            .lock()
            .expect("the counts")
            .entry(how.into())
            .or_default() += 1;
    };
    call_of_grpc(streamed, body, respond, count).await
}

/// Where messages are not streamed to the client, it gets one or, if the call fails, none.
async fn call_of_grpc(
    streamed: bool,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    count_as: impl Fn(&str),
) -> Result<()> {
    let mut first = BytesMut::new();
    // It is short, and the client sends it in one piece.
    while first.len() < 5 || first.len() < 5 + usize::from(first[4]) {
        first.extend(chunk(&mut body).await.expect("a message")?);
    }
    let text = first[5..][..usize::from(first[4])].to_vec();
    let text = String::from_utf8(text).expect("text");
    let words = Vec::from_iter(text.split(' '));
    let [status, count, mode] = words[..] else {
        panic!("not a call: {text}");
    };
    let early = if mode == "early" {
        Some(body)
    } else {
        read(body).await?;
        None
    };
    let count: u32 = match streamed {
        true => count.parse().expect("a count"),
        false => u32::from(status == "0" && mode != "hold"),
    };
    let head = Response::builder().header("content-type", "application/grpc");
    // What fails before its first message is all head.
    if count == 0 && status != "0" {
        let head = head.header("grpc-status", status);
        respond.send_response(head.body(()).expect("a head"), true)?;
        count_as(status);
        return Ok(());
    }
    let mut stream = respond.send_response(head.body(()).expect("a head"), false)?;
    for _ in 0..count {
        stream.send_data(message(&[b'x'; 100]), false)?;
    }
    if mode == "hold" {
        count_as("held");
        let _ = poll_fn(|context| stream.poll_reset(context)).await;
        return Ok(());
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().expect("a value"));
    stream.send_trailers(trailers)?;
    // The client is told not to go on only now.
    drop(early);
    count_as(status);
    Ok(())
}

async fn chunk(body: &mut RecvStream) -> Option<Result<Bytes>> {
    let chunk = body.data().await;
    if let Some(Ok(chunk)) = &chunk {
        let _ = body.flow_control().release_capacity(chunk.len());
    }
    chunk
}

/// To the end, with the trailers.
async fn read(mut body: RecvStream) -> Result<HeaderMap> {
    while let Some(chunk) = chunk(&mut body).await {
        chunk?;
    }
    Ok(body.trailers().await?.unwrap_or_default())
}

/// Connects from there, lets the work be done, and closes the connection once it is.
pub fn client<T: Send>(
    netns: &Netns,
    to: SocketAddr,
    work: impl AsyncFnOnce(SendRequest<Bytes>) -> T + Send,
) -> T {
    netns.inside(|| {
        runtime().block_on(async {
            let stream = TcpStream::connect(to).await.expect("connect");
            stream.set_nodelay(true).expect("TCP_NODELAY");
            let (requests, connection) = h2::client::handshake(stream).await.expect("h2");
            let connection = tokio::spawn(connection);
            let result = work(requests).await;
            connection.await.expect("the connection").expect("its end");
            result
        })
    })
}

/// Asks for a path; the status, or the code by which the stream was reset.
pub async fn get(requests: SendRequest<Bytes>, path: String) -> std::result::Result<u16, u32> {
    let request = Request::get(format!("http://pod{path}"));
    let mut requests = requests.ready().await.expect("a stream");
    let (response, _) = requests
        .send_request(request.body(()).expect("a request"), true)
        .expect("a request");
    let response = response.await.map_err(|e| {
        let reason = e.reason();
        u32::from(reason.unwrap_or_else(|| panic!("{e}")))
    })?;
    let status = response.status().as_u16();
    read(response.into_body()).await.expect("a body");
    Ok(status)
}

async fn begin(
    requests: SendRequest<Bytes>,
    kind: &str,
    text: &str,
) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://pod/test.Counts/{kind}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers");
    let mut requests = requests.ready().await.expect("a stream");
    let (response, mut stream) = requests
        .send_request(request.body(()).expect("a request"), false)
        .expect("a request");
    let streamed = matches!(kind, "Upload" | "Both");
    // The server may have ended the call before the last of them.
    let _ = stream.send_data(message(text.as_bytes()), !streamed);
    if streamed {
        let _ = stream.send_data(message(b"more"), false);
        let _ = stream.send_data(message(&[b'x'; 20_000]), true);
    }
    (response, stream)
}

/// One call of this kind, which ends with a status.
pub async fn call(requests: SendRequest<Bytes>, kind: &str, text: &str) -> String {
    let (response, _stream) = begin(requests, kind, text).await;
    let response = response.await.expect("a response");
    let only = response.headers().get("grpc-status").cloned();
    let status = match only {
        Some(status) => status,
        None => {
            let trailers = read(response.into_body()).await.expect("trailers");
            trailers.get("grpc-status").expect("a status").clone()
        }
    };
    status.to_str().expect("text").to_owned()
}

/// One call that the server does not end, after its first message if it gets one. Resetting what is
/// returned gives it up.
pub async fn held(requests: SendRequest<Bytes>, kind: &str) -> SendStream<Bytes> {
    let (response, stream) = begin(requests, kind, "0 1 hold").await;
    if matches!(kind, "Download" | "Both") {
        let response = response.await.expect("a response");
        let first = chunk(&mut response.into_body()).await;
        first.expect("a message").expect("a message");
    }
    stream
}
