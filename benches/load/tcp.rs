//! Requests and responses of a known length over TCP, of a protocol that nobody knows.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::caller::Caller;

pub struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    response: Vec<u8>,
}

impl Client {
    pub async fn connect(target: SocketAddr, request: usize, response: usize) -> Result<Self> {
        let stream = TcpStream::connect(target).await;
        let stream = stream.with_context(|| format!("connect to {target}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            request: vec![b'x'; request],
            response: vec![0; response],
        })
    }
}

impl Caller for Client {
    async fn call(&mut self) -> Result<()> {
        self.stream.write_all(&self.request).await?;
        self.stream.read_exact(&mut self.response).await?;
        Ok(())
    }
}

pub async fn serve(listen: SocketAddr, request: usize, response: usize) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let client = Client {
            stream,
            request: vec![0; request],
            response: vec![b'x'; response],
        };
        tokio::spawn(answer(client));
    }
}

/// Until the peer is gone.
async fn answer(mut client: Client) -> Result<()> {
    loop {
        client.stream.read_exact(&mut client.request).await?;
        client.stream.write_all(&client.response).await?;
    }
}
