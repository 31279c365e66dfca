//! HTTP/1.1: GET of one file over a connection that is kept.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::caller::Caller;

/// What nginx serves as a file.
const PATH: &str = "/file";

pub struct Client {
    requests: SendRequest<Empty<Bytes>>,
    host: String,
    response: usize,
}

impl Client {
    pub async fn connect(target: SocketAddr, response: usize) -> Result<Self> {
        let stream = TcpStream::connect(target).await;
        let stream = stream.with_context(|| format!("connect to {target}"))?;
        stream.set_nodelay(true)?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self {
            requests,
            host: target.to_string(),
            response,
        })
    }
}

impl Caller for Client {
    async fn call(&mut self) -> Result<()> {
        let request = Request::get(PATH)
            .header("host", &self.host)
            .body(Empty::new())?;
        self.requests.ready().await?;
        let response = self.requests.send_request(request).await?;
        ensure!(response.status() == 200, "HTTP: {}", response.status());
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(body.len() == self.response, "{} bytes came", body.len());
        Ok(())
    }
}
