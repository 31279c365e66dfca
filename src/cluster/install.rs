//! The Helm chart in manifests/chart, rendered without Helm.

/// The text of a file of the chart.
macro_rules! chart {
    ($file:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/manifests/chart/",
            $file
        ))
    };
}

mod functions;
mod values;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use gtmpl::Template;
use serde_json::{Value, json};

use crate::cluster::inject::{InjectConfig, yaml};

/// The namespace of all that has one.
#[derive(Args, Clone, Debug)]
pub struct Namespace {
    /// Namespace of the installation; it comes and goes with it
    #[arg(short, long = "namespace", value_name = "NAMESPACE", default_value = "linkerd-metricd", value_parser = label)]
    name: String,
}

/// Where and how to install.
#[derive(Args, Clone, Debug)]
pub struct Flags {
    #[command(flatten)]
    pub namespace: Namespace,

    /// YAML file with values of the chart; repeatable, later ones win
    #[arg(short = 'f', long, value_name = "FILE")]
    pub values: Vec<PathBuf>,

    /// One value of the chart, after those in files: KEY as image.tag, with \. for a dot of a name,
    /// VALUE as YAML; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    /// Three injectors on different nodes
    #[arg(long)]
    pub ha: bool,

    /// Leave all pods as they are, also annotated ones
    #[arg(long)]
    pub disable_ebpf_metrics: bool,
}

const HELPERS: &str = chart!("templates/_helpers.tpl");

/// The chart's templates, in the order in which they are best applied.
const TEMPLATES: [(&str, &str); 7] = [
    ("namespace.yaml", chart!("templates/namespace.yaml")),
    ("rbac.yaml", chart!("templates/rbac.yaml")),
    ("config.yaml", chart!("templates/config.yaml")),
    ("webhook.yaml", chart!("templates/webhook.yaml")),
    ("injector.yaml", chart!("templates/injector.yaml")),
    ("gc.yaml", chart!("templates/gc.yaml")),
    ("podmonitor.yaml", chart!("templates/podmonitor.yaml")),
];

/// What `kubectl apply -f -` takes.
///
/// # Errors
/// If a file can't be read, or values are not as the chart's schema or the injector wants them.
pub fn install(flags: &Flags) -> Result<String> {
    let values = values::merge(flags)?;
    let documents = render(&flags.namespace.name, &values)?;
    for document in &documents {
        let object = yaml::parse(document).context("parse what was rendered")?;
        if let Some(config) = object.pointer("/data/config.yaml").and_then(Value::as_str) {
            InjectConfig::parse(config).context("values: config")?;
        }
    }
    Ok(documents.join("---\n"))
}

/// What `kubectl delete -f -` takes: the objects that are in no namespace, and the namespace with all
/// that is in it. The webhook comes first, so that nobody asks an injector that is gone.
///
/// # Errors
/// None that an installation would not have, too.
pub fn uninstall(namespace: &Namespace) -> Result<String> {
    let flags = Flags {
        namespace: namespace.clone(),
        values: Vec::new(),
        set: Vec::new(),
        ha: false,
        disable_ebpf_metrics: false,
    };
    let mut objects = Vec::new();
    for document in render(&namespace.name, &values::merge(&flags)?)? {
        let object = yaml::parse(&document).context("parse what was rendered")?;
        if object["metadata"]["namespace"].is_null() {
            objects.push(json!({
                "apiVersion": object["apiVersion"],
                "kind": object["kind"],
                "metadata": {"name": object["metadata"]["name"]},
            }));
        }
    }
    objects.reverse();
    let documents: Result<Vec<_>, _> = objects.iter().map(yaml::print).collect();
    Ok(documents?.join("---\n"))
}

/// The chart's objects, each a YAML document.
fn render(namespace: &str, values: &Value) -> Result<Vec<String>> {
    let chart = yaml::parse(chart!("Chart.yaml")).context("parse Chart.yaml")?;
    let context = functions::from_json(&json!({
        "Values": values,
        "Release": {"Namespace": namespace},
        "Chart": {"AppVersion": chart["appVersion"]},
    }));
    let mut documents = Vec::new();
    for (name, text) in TEMPLATES {
        let render = || -> Result<String> {
            let mut template = Template::default();
            template.add_funcs(functions::ALL);
            template.add_template("_helpers.tpl", HELPERS)?;
            template.parse(text)?;
            Ok(template.render(&gtmpl::Context::from(context.clone()))?)
        };
        let rendered = render().with_context(|| format!("render {name}"))?;
        for document in rendered.split("\n---\n") {
            if !document.trim().is_empty() {
                documents.push(format!("{}\n", document.trim()));
            }
        }
    }
    Ok(documents)
}

/// A DNS label (RFC 1123), as namespaces' names are.
fn label(name: &str) -> Result<String> {
    let is_label = (1..=63).contains(&name.len())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    if !is_label {
        bail!("a namespace's name has up to 63 of a-z, 0-9 and -, the latter not at its ends");
    }
    Ok(name.to_owned())
}
