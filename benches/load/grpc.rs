//! gRPC upon the crate h2: one message each way, of a single field of bytes as protobuf has it.

use std::future::poll_fn;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{self, SendRequest};
use h2::server::{self, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};

use crate::caller::Caller;

/// A message of `length` bytes with the five bytes before it: not compressed, and its length.
fn message(length: usize) -> Bytes {
    // Field 1 of wire type 2, and a length of two bytes.
    let field = length - 3;
    let mut message = BytesMut::with_capacity(5 + length);
    message.put_u8(0);
    message.put_u32(length as u32);
    message.put_slice(&[0x0a, (field & 0x7f) as u8 | 0x80, (field >> 7) as u8]);
    message.put_bytes(b'x', field);
    message.freeze()
}

/// Reads to the end, without a copy. Returns how many bytes came.
async fn read(body: &mut RecvStream) -> Result<usize> {
    let mut length = 0;
    while let Some(data) = body.data().await.transpose()? {
        length += data.len();
        body.flow_control().release_capacity(data.len())?;
    }
    Ok(length)
}

/// Sends all of it as the windows allow.
async fn write(stream: &mut SendStream<Bytes>, mut data: Bytes, last: bool) -> Result<()> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let capacity = poll_fn(|cx| stream.poll_capacity(cx)).await;
        let capacity = capacity.context("the stream ended")??;
        let part = data.split_to(capacity.min(data.len()));
        stream.send_data(part, last && data.is_empty())?;
    }
    Ok(())
}

/// One of the streams of a connection.
#[derive(Clone)]
pub struct Client {
    requests: SendRequest<Bytes>,
    uri: String,
    message: Bytes,
    response: usize,
}

impl Client {
    pub async fn connect(target: SocketAddr, request: usize, response: usize) -> Result<Self> {
        let stream = TcpStream::connect(target).await;
        let stream = stream.with_context(|| format!("connect to {target}"))?;
        stream.set_nodelay(true)?;
        let mut builder = client::Builder::new();
        builder.initial_connection_window_size(1 << 24);
        let (requests, connection) = builder.handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Self {
            requests,
            uri: format!("http://{target}/bench.Bench/Get"),
            message: message(request),
            response,
        })
    }
}

impl Caller for Client {
    async fn call(&mut self) -> Result<()> {
        let request = Request::post(&self.uri)
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers")
            .body(())?;
        let mut requests = self.requests.clone().ready().await?;
        let (response, mut stream) = requests.send_request(request, false)?;
        write(&mut stream, self.message.clone(), true).await?;
        let mut body = response.await?.into_body();
        let length = read(&mut body).await?;
        ensure!(length == 5 + self.response, "{length} bytes came");
        let trailers = body.trailers().await?.context("no trailers")?;
        let status = trailers.get("grpc-status");
        ensure!(status.is_some_and(|s| s == "0"), "gRPC: {status:?}");
        Ok(())
    }
}

pub async fn serve(listen: SocketAddr, response: usize) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let message = message(response);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(connection(stream, message.clone()));
    }
}

async fn connection(stream: TcpStream, message: Bytes) -> Result<()> {
    let mut builder = server::Builder::new();
    builder.initial_connection_window_size(1 << 24);
    let mut connection = builder.handshake(stream).await?;
    while let Some(call) = connection.accept().await {
        let (request, respond) = call?;
        tokio::spawn(answer(request, respond, message.clone()));
    }
    Ok(())
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    message: Bytes,
) -> Result<()> {
    read(&mut request.into_body()).await?;
    let head = Response::builder()
        .header("content-type", "application/grpc+proto")
        .body(())?;
    let mut stream = respond.send_response(head, false)?;
    write(&mut stream, message, false).await?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)?;
    Ok(())
}
