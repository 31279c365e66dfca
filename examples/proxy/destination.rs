//! Where a connection's requests go: always to one application, or to where the connection was to go
//! before it was redirected here.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::ValueEnum;
use hyper::http::uri::Authority;
use nix::sys::socket::{setsockopt, sockopt::IpTransparent};
use tokio::net::{TcpSocket, TcpStream};

/// Which connections are redirected here.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Way {
    /// To the pod: on to the loopback, at the port that they were to go to
    Inbound,
    /// From the pod: on to where they were to go
    Outbound,
}

pub enum Route {
    Application(SocketAddr),
    /// By what is redirected to this port.
    Original(Way, u16),
}

pub struct Destination {
    /// Where the client wanted to go.
    pub address: SocketAddr,
    /// Where to connect to.
    pub authority: Authority,
}

impl Route {
    /// # Errors
    /// If the connection came here by itself: it would be passed on to here.
    pub fn destination(&self, stream: &TcpStream) -> io::Result<Destination> {
        let (address, connect) = match *self {
            Self::Application(address) => (address, address),
            Self::Original(way, port) => {
                let local = stream.local_addr()?;
                let address = SocketAddr::new(local.ip().to_canonical(), local.port());
                if address.port() == port {
                    return Err(io::Error::other(format!(
                        "{address} is the proxy itself: not a redirected connection"
                    )));
                }
                let connect = match (way, address.ip()) {
                    (Way::Outbound, ip) => ip,
                    (Way::Inbound, IpAddr::V4(_)) => Ipv4Addr::LOCALHOST.into(),
                    (Way::Inbound, IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
                };
                (address, SocketAddr::new(connect, address.port()))
            }
        };
        let authority = connect.to_string().parse();
        Ok(Destination {
            address,
            authority: authority.map_err(io::Error::other)?,
        })
    }

    /// What the listener needs before it is bound.
    ///
    /// # Errors
    /// Without CAP_NET_RAW or CAP_NET_ADMIN, if connections to other hosts are redirected here.
    pub fn prepare(&self, socket: &TcpSocket) -> io::Result<()> {
        match self {
            // Beside other processes that listen on the same address.
            Self::Application(_) => socket.set_reuseport(true),
            // Before Linux 6.6 nothing can be redirected to a listener with SO_REUSEPORT.
            Self::Original(Way::Inbound, _) => Ok(()),
            // It answers from addresses that are not its own. For IPv6 sockets it is the same setting.
            Self::Original(Way::Outbound, _) => setsockopt(socket, IpTransparent, &true)
                .map_err(|e| io::Error::other(format!("set IP_TRANSPARENT: {e} (CAP_NET_RAW)"))),
        }
    }
}
