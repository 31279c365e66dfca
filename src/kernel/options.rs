//! The flags that say how to observe, shared by `metricd-init` and `linkerd-metricd run`.

use std::path::PathBuf;

use clap::builder::{MapValueParser, PathBufValueParser, TypedValueParser, ValueParserFactory};
use clap::{Args, ValueEnum, ValueHint};

use crate::kernel::pin_dir::PinDir;
use crate::kernel::settings::Wanted;

/// How the programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// TCX where the kernel has it (6.6), else clsact.
    Auto,
    Tcx,
    Clsact,
}

/// How the maps are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReadBy {
    /// By iterators where the kernel takes them, else as text.
    #[default]
    Auto,
    /// By pinned iterators, which are programs of the type TRACING.
    Iterator,
    /// As the text that bpffs makes of pinned maps.
    Text,
}

/// Where bpffs usually is.
pub const PIN_DIR: &str = "/sys/fs/bpf";
/// Where metrics usually are served.
pub const PORT: u16 = 4191;
/// The sidecar's usual group: nobody's.
pub const READER_GID: u32 = 65534;

/// How to observe.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Interface to attach to, repeatable [default: every one that is up, but lo and those whose packets pass
    /// another one]
    #[arg(
        long = "interface",
        env = "METRICD_INTERFACE",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub interfaces: Vec<String>,

    /// Attach to lo, too
    #[arg(long, env = "METRICD_LOOPBACK")]
    pub loopback: bool,

    /// Folder on a bpffs for the pinned maps, programs and iterators
    #[arg(
        long,
        env = "METRICD_PIN_DIR",
        value_name = "DIR",
        value_hint = ValueHint::AnyPath,
        default_value = PIN_DIR
    )]
    pub pin_dir: PinDir,

    #[command(flatten)]
    pub wanted: Wanted,

    /// Attach by this way only
    #[arg(long, env = "METRICD_ATTACH", value_enum, default_value_t = Way::Auto)]
    pub attach: Way,

    /// How the maps are to be read: by iterators where the kernel takes them, else as text
    #[arg(long, env = "METRICD_READ", value_enum, default_value_t = ReadBy::Auto)]
    pub read: ReadBy,

    /// Group that may read the maps: the sidecar's [default: 65534]
    #[arg(long, env = "METRICD_READER_GID", value_name = "GID")]
    pub reader_gid: Option<u32>,
}

impl Options {
    /// The flags that say what these options do, for a process elsewhere.
    pub fn to_args(&self) -> Vec<String> {
        let wanted = &self.wanted;
        let number = |n: u32| n.to_string();
        let some = |texts: Vec<String>| (!texts.is_empty()).then(|| texts.join(","));
        let buckets = wanted.buckets.iter().flatten();
        let dns_ports = wanted.dns_ports.iter().flatten();
        let pin_dir = (self.pin_dir != PinDir::new(PIN_DIR)).then(|| self.pin_dir.to_string());
        let flags = [
            ("interface", some(self.interfaces.clone())),
            ("pin-dir", pin_dir),
            ("map-size", wanted.map_size.map(number)),
            ("connections", wanted.connections.map(|n| n.to_string())),
            (
                "http2-connections",
                wanted.http2_connections.map(|n| n.to_string()),
            ),
            ("routes", wanted.routes.map(number)),
            ("perf-buffer-size", wanted.perf_buffer_size.map(number)),
            ("detail", wanted.detail.map(name)),
            ("ipv6", wanted.ipv6.map(|ipv6| ipv6.to_string())),
            ("buckets", some(buckets.map(f64::to_string).collect())),
            ("dns-ports", some(dns_ports.map(u16::to_string).collect())),
            ("proxy-uid", wanted.proxy_uid.map(number)),
            (
                "attach",
                (self.attach != Way::Auto).then(|| name(self.attach)),
            ),
            ("read", (self.read != ReadBy::Auto).then(|| name(self.read))),
            ("reader-gid", self.reader_gid.map(number)),
        ];
        let given = flags
            .into_iter()
            .filter_map(|(flag, value)| Some(format!("--{flag}={}", value?)));
        let loopback = self.loopback.then(|| "--loopback".to_owned());
        given.chain(loopback).collect()
    }
}

/// A pin directory is named on the command line by its path.
impl ValueParserFactory for PinDir {
    type Parser = MapValueParser<PathBufValueParser, fn(PathBuf) -> PinDir>;

    fn value_parser() -> Self::Parser {
        PathBufValueParser::new().map(PinDir::new)
    }
}

/// What a value is called on the command line.
pub fn name(value: impl ValueEnum) -> String {
    let possible = value.to_possible_value();
    possible.map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use clap::Parser;

    use super::*;
    use crate::abi::Info;
    use crate::kernel::settings::{Detail, Settings};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn settle(args: &[&str], running: Option<&Info>) -> Result<Settings> {
        let options = Cli::parse_from([&["test"], args].concat()).options;
        options.wanted.settle(running)
    }

    #[test]
    fn default_bounds_are_exact_nanoseconds() {
        let settings = settle(&[], None).unwrap();
        let bounds = settings.bounds_ns;
        assert_eq!(settings.bounds, 18);
        assert_eq!(bounds[0], 100_000);
        assert_eq!(bounds[17], 60_000_000_000);
        assert_eq!(bounds[18], u64::MAX);
    }

    #[test]
    fn bounds_must_ascend() {
        for bad in ["0.1,0.1", "0.2,0.1", "0", "-1", "nan"] {
            let arg = format!("--buckets={bad}");
            assert!(settle(&[&arg], None).is_err(), "{bad}");
        }
    }

    #[test]
    fn too_many_bounds_are_refused() {
        let many: Vec<String> = (1..=32).map(|i| i.to_string()).collect();
        let arg = format!("--buckets={}", many.join(","));
        assert!(settle(&[&arg], None).is_err());
    }

    #[test]
    fn flags_survive_being_handed_on() {
        let all = [
            "--interface=eth0,lo",
            "--pin-dir=/mnt/x",
            "--map-size=7",
            "--connections=8",
            "--http2-connections=9",
            "--routes=10",
            "--perf-buffer-size=8192",
            "--detail=pod",
            "--ipv6=false",
            "--buckets=0.00025,1,2.5",
            "--dns-ports=53,5353",
            "--proxy-uid=2102",
            "--attach=clsact",
            "--read=text",
            "--reader-gid=11",
            "--loopback",
        ];
        for given in [&all[..], &[]] {
            let options = Cli::parse_from([&["test"], given].concat()).options;
            assert_eq!(options.to_args(), given);
        }
        // A flag that is new must be handed on, too.
        let command = <Cli as clap::CommandFactory>::command();
        assert_eq!(command.get_arguments().count(), all.len());
    }

    #[test]
    fn ports_of_dns() {
        for (given, packed) in [
            ("53", 53),
            ("53,5353", 5353 << 16 | 53),
            ("1,2,3,4", 0x0004_0003_0002_0001),
        ] {
            let settings = settle(&[&format!("--dns-ports={given}")], None).unwrap();
            assert_eq!(settings.dns_ports, packed);
            assert_eq!(Settings::of(&settings.info()).dns_ports, packed);
        }
        assert!(settle(&["--dns-ports=1,2,3,4,5"], None).is_err());
        // An earlier layout does not say which.
        assert_eq!(Settings::of(&Info::default()).dns_ports, 53);
    }

    #[test]
    fn help_tells_the_defaults() {
        let settings = Settings::default();
        let command = <Cli as clap::CommandFactory>::command();
        for (flag, default) in [
            ("map-size", settings.map_size.to_string()),
            ("connections", settings.connections.to_string()),
            ("http2-connections", settings.http2_connections.to_string()),
            ("routes", settings.routes.to_string()),
            ("detail", settings.detail.to_string()),
            ("ipv6", settings.ipv6.to_string()),
            ("reader-gid", READER_GID.to_string()),
        ] {
            let mut flags = command.get_arguments();
            let help = flags.find(|known| known.get_long() == Some(flag));
            let help = help.unwrap().get_help().unwrap().to_string();
            assert!(help.ends_with(&format!("[default: {default}]")), "{help}");
        }
    }

    #[test]
    fn what_is_not_given_stays() {
        let made = settle(&["--map-size=7", "--detail=pod", "--buckets=1,2"], None).unwrap();
        let info = made.info();
        assert_eq!(settle(&[], Some(&info)).unwrap(), made);
        let other = settle(&["--map-size=8"], Some(&info)).unwrap();
        assert_eq!(other.map_size, 8);
        assert_eq!(other.detail, Detail::Pod);
        assert_eq!(other.bounds, 2);
    }
}
