//! What a request looks like: near to what `linkerd viz tap` prints of it.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use serde_json::{Value, json};

use super::events::Request;
use crate::abi::{abort_reason, direction, grpc_status, protocol, route};

/// How to write requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// A line each.
    Default,
    /// With the time, the authority and the route.
    Wide,
    /// An object each.
    Json,
}

/// google.golang.org/grpc/codes: the names of gRPC's statuses.
const GRPC: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Whether a line is one that [`Request::show`] has written, whichever way.
pub fn is_request(line: &str) -> bool {
    line.starts_with('{') || line.split(' ').take(2).any(|word| word == "req")
}

impl Request {
    /// Who asks. None for a request from the pod's proxy, which does not say for whom it asks.
    pub fn source(&self) -> Option<IpAddr> {
        let is_known = self.end.src != [0; 16];
        is_known.then(|| Ipv6Addr::from(self.end.src).to_canonical())
    }

    pub fn destination(&self) -> IpAddr {
        Ipv6Addr::from(self.end.dst).to_canonical()
    }

    /// Why there is no whole answer, if there is none.
    fn aborted(&self) -> Option<&'static str> {
        let reason = self.end.aborted.checked_sub(1)?;
        Some(abort_reason::label(reason))
    }

    fn path(&self) -> Option<String> {
        let path = self.head.path.as_ref()?;
        Some(match self.head.is_cut {
            true => format!("{path}…"),
            false => path.clone(),
        })
    }

    fn grpc_status(&self) -> Option<String> {
        let (status, is_derived) = grpc_status(self.end.grpc_status);
        let name = match GRPC.get(usize::from(status?)) {
            Some(name) => (*name).to_owned(),
            None => status?.to_string(),
        };
        Some(if is_derived {
            format!("{name}(derived)")
        } else {
            name
        })
    }

    /// One line, without its end. `ended_ns` is since 1970, `route` that of the programs.
    pub fn show(&self, output: Output, ended_ns: u64, route: Option<&str>) -> String {
        match output {
            Output::Default => self.line(false, ended_ns, route),
            Output::Wide => self.line(true, ended_ns, route),
            Output::Json => self.json(ended_ns, route).to_string(),
        }
    }

    fn line(&self, is_wide: bool, ended_ns: u64, route: Option<&str>) -> String {
        let end = &self.end;
        let src = self.source().map(|ip| socket(ip, end.src_port));
        let mut words = Vec::new();
        if is_wide {
            words.push(time(ended_ns));
        }
        let number = self.number.map_or("-".into(), |number| number.to_string());
        words.push(format!("req id={}:{number}", self.connection));
        words.push(format!("proxy={:<3}", short(end.direction)));
        words.push(format!("src={}", src.unwrap_or("-".into())));
        words.push(format!("dst={}", socket(self.destination(), end.dst_port)));
        words.push(format!("protocol={}", protocol::label(end.protocol)));
        words.push(format!(":method={}", clean(self.head.method.as_deref())));
        if is_wide {
            words.push(format!(
                ":authority={}",
                clean(self.head.authority.as_deref())
            ));
        }
        words.push(format!(":path={}", clean(self.path().as_deref())));
        if is_wide {
            words.push(format!("route={}", clean(route)));
        }
        match (self.aborted(), end.status) {
            (Some(reason), _) => words.push(format!("aborted={reason}")),
            (None, 0) => words.push(":status=unknown".into()),
            (None, status) => words.push(format!(":status={status}")),
        }
        words.extend(self.grpc_status().map(|name| format!("grpc-status={name}")));
        words.push(format!("latency={}", took(end.ttfb_ns)));
        words.push(format!("duration={}", took(end.duration_ns)));
        words.join(" ")
    }

    fn json(&self, ended_ns: u64, route: Option<&str>) -> Value {
        let end = &self.end;
        let source = self.source();
        let id = json!({"base": self.connection, "stream": self.number});
        let nanoseconds = |ns: u64| (ns > 0).then_some(ns);
        let (grpc_code, is_derived) = grpc_status(end.grpc_status);
        json!({
            "source": {"ip": source, "port": source.map(|_| end.src_port)},
            "destination": {"ip": self.destination(), "port": end.dst_port},
            "proxyDirection": direction::label(end.direction).to_uppercase(),
            "protocol": protocol::label(end.protocol),
            "requestInitEvent": {
                "id": id,
                "method": self.head.method,
                "authority": self.head.authority,
                "path": self.head.path,
                "pathIsCut": self.head.is_cut,
                "route": route,
            },
            "responseInitEvent": {
                "httpStatus": (end.status > 0).then_some(end.status),
                "sinceRequestInitNanos": nanoseconds(end.ttfb_ns),
            },
            "responseEndEvent": {
                "time": time(ended_ns),
                "sinceRequestInitNanos": nanoseconds(end.duration_ns),
                "grpcStatusCode": grpc_code,
                "grpcStatusDerived": is_derived.then_some(true),
                "aborted": self.aborted(),
            },
        })
    }
}

/// The text of a route that is none of the map's.
pub fn no_route(number: u16) -> Option<&'static str> {
    match number {
        route::UNKNOWN => Some("unknown"),
        route::OTHER => Some("other"),
        _ => None,
    }
}

fn short(direction: u8) -> &'static str {
    match direction {
        direction::OUTBOUND => "out",
        direction::LOCAL => "loc",
        _ => "in",
    }
}

fn socket(ip: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(ip, port).to_string()
}

/// What came from the network, without what a terminal would obey.
fn clean(text: Option<&str>) -> String {
    let text = text.unwrap_or("-").chars();
    text.flat_map(|c| {
        match c.is_control() {
            true => c.escape_default().to_string(),
            false => c.to_string(),
        }
        .chars()
        .collect::<Vec<_>>()
    })
    .collect()
}

fn took(ns: u64) -> String {
    match ns {
        0 => "-".into(),
        ns => format!("{:.0?}", Duration::from_nanos(ns)),
    }
}

fn time(since_1970_ns: u64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(since_1970_ns)) {
        Ok(time) => format!("{time:.6}"),
        Err(_) => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{GRPC_STATUS_NONE, TapEnd};
    use crate::cli::tap::events::Head;

    fn request(direction: u8, src: &str, src_port: u16) -> Request {
        let address = |ip: &str| ip.parse::<Ipv6Addr>().expect("an address").octets();
        Request {
            connection: 0,
            number: Some(1),
            head: Head::default(),
            end: TapEnd {
                src: address(src),
                dst: address("::ffff:10.0.0.1"),
                src_port,
                dst_port: 80,
                direction,
                ..TapEnd::default()
            },
        }
    }

    #[test]
    fn statuses_of_grpc() {
        for (kept, line, json) in [
            (GRPC_STATUS_NONE, "", json!([null, null])),
            (0, "grpc-status=OK", json!([0, null])),
            (14, "grpc-status=Unavailable", json!([14, null])),
            (
                0x80 | 14,
                "grpc-status=Unavailable(derived)",
                json!([14, true]),
            ),
            (17, "grpc-status=17", json!([17, null])),
        ] {
            let mut request = request(direction::INBOUND, "::ffff:10.0.0.9", 7);
            request.end.grpc_status = kept;
            let words = request.line(false, 0, None);
            let found = words.split(' ').find(|w| w.starts_with("grpc-status="));
            assert_eq!(found.unwrap_or_default(), line);
            let end = &request.json(0, None)["responseEndEvent"];
            assert_eq!(
                json!([end["grpcStatusCode"], end["grpcStatusDerived"]]),
                json
            );
        }
    }

    #[test]
    fn who_asks_whom() {
        for (direction, src, port, line, json) in [
            (
                direction::INBOUND,
                "::ffff:10.0.0.9",
                7,
                "proxy=in  src=10.0.0.9:7 dst=10.0.0.1:80",
                json!(["INBOUND", "10.0.0.9", 7]),
            ),
            (
                direction::INBOUND,
                "::",
                0,
                "proxy=in  src=- dst=10.0.0.1:80",
                json!(["INBOUND", null, null]),
            ),
            (
                direction::OUTBOUND,
                "fd00::1",
                7,
                "proxy=out src=[fd00::1]:7 dst=10.0.0.1:80",
                json!(["OUTBOUND", "fd00::1", 7]),
            ),
            (
                direction::LOCAL,
                "::1",
                7,
                "proxy=loc src=[::1]:7 dst=10.0.0.1:80",
                json!(["LOCAL", "::1", 7]),
            ),
        ] {
            let request = request(direction, src, port);
            let shown = request.show(Output::Default, 0, None);
            assert!(shown.contains(line), "{shown}");
            assert!(is_request(&shown), "{shown}");
            let shown = request.json(0, None);
            let source = &shown["source"];
            let found = json!([shown["proxyDirection"], source["ip"], source["port"]]);
            assert_eq!(found, json);
        }
    }
}
