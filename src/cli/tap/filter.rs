//! Which requests are to be shown.

#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;

use clap::{Args, ValueEnum};

use super::events::Request;
use crate::abi::protocol;
use crate::kernel::options::name;

/// What a request must have to be shown.
#[derive(Args, Clone, Debug, Default)]
pub struct Filter {
    /// Only requests with this method
    #[arg(long)]
    method: Option<String>,

    /// Only requests whose path begins so
    #[arg(long, value_name = "PREFIX")]
    path: Option<String>,

    /// Only answers with this status, or of this class, as 404 or 5xx
    #[arg(long, value_parser = statuses)]
    status: Option<Statuses>,

    /// Only requests from or to this address
    #[arg(long, value_name = "IP")]
    peer: Option<IpAddr>,

    /// Only requests of this protocol
    #[arg(long, value_enum)]
    protocol: Option<Protocol>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Http1,
    Http2,
    Grpc,
}

/// The first and the last status of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Statuses(u16, u16);

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 == self.1 {
            true => write!(f, "{}", self.0),
            false => write!(f, "{}xx", self.0 / 100),
        }
    }
}

fn statuses(text: &str) -> Result<Statuses, String> {
    let digits = text.strip_suffix("xx").unwrap_or(text);
    match (digits.parse(), digits.len(), text.len()) {
        (Ok(class @ 1..=9), 1, 3) => Ok(Statuses(class * 100, class * 100 + 99)),
        (Ok(status @ 100..=999), 3, 3) => Ok(Statuses(status, status)),
        _ => Err("not a status such as 404, nor a class such as 5xx".into()),
    }
}

impl Filter {
    /// The flags that say what this filter does, and what each is given.
    pub fn flags(&self) -> [(&'static str, Option<String>); 5] {
        [
            ("method", self.method.clone()),
            ("path", self.path.clone()),
            ("status", self.status.map(|status| status.to_string())),
            ("peer", self.peer.map(|peer| peer.to_string())),
            ("protocol", self.protocol.map(name)),
        ]
    }

    /// Whether a request is to be shown. What is not known of it is not what is asked for.
    pub fn takes(&self, request: &Request) -> bool {
        let head = &request.head;
        let end = &request.end;
        let protocol = self.protocol.map(|protocol| match protocol {
            Protocol::Http1 => protocol::HTTP1,
            Protocol::Http2 => protocol::HTTP2,
            Protocol::Grpc => protocol::GRPC,
        });
        let begins = |prefix: &String| {
            let path = head.path.as_deref();
            path.is_some_and(|path| path.starts_with(prefix.as_str()))
        };
        (self.method.is_none() || self.method == head.method)
            && self.path.as_ref().is_none_or(begins)
            && self
                .status
                .is_none_or(|s| end.aborted == 0 && (s.0..=s.1).contains(&end.status))
            && self.peer.is_none_or(|ip| {
                [request.source(), Some(request.destination())].contains(&Some(ip))
            })
            && protocol.is_none_or(|protocol| protocol == end.protocol)
    }
}
