//! What holds for every pod: injected twice is injected once, whatever others have done in between,
//! and taken out again, nothing of ours is left.

use metricd::cluster::inject::{Around, InjectConfig, Outcome, inject, patch, uninject};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

const ASKED: Around = Around {
    namespace: None,
    workload: None,
    asked: true,
};

fn injected(pod: &Value, config: &InjectConfig) -> Value {
    match inject(pod, &ASKED, config).unwrap() {
        Outcome::Injected { pod, .. } => pod,
        skipped => panic!("{skipped:?}"),
    }
}

/// Nothing, or null, or none to three of it.
fn some_of(item: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        vec(item, 0..4).prop_map(|items| Some(items.into())),
    ]
}

fn container() -> impl Strategy<Value = Value> {
    (
        select(vec![
            "app",
            "web",
            "linkerd-proxy",
            "linkerd-init",
            "istio-proxy",
        ]),
        option::of(select(vec![80, 4191, 4192, 4193])),
        option::of(select(vec!["10m", "1"])),
        any::<bool>(),
        option::of(select(vec![
            Value::Null,
            json!([]),
            json!([{"name": "OWN", "value": "1"}]),
        ])),
    )
        .prop_map(|(name, port, cpu, unknown, env)| {
            let mut container = json!({"name": name, "image": "example.org/app:1"});
            if let Some(port) = port {
                container["ports"] = json!([{"containerPort": port}]);
            }
            if let Some(cpu) = cpu {
                let amounts = json!({"cpu": cpu, "memory": "64Mi"});
                container["resources"] = json!({"requests": amounts, "limits": amounts});
            }
            if let Some(env) = env {
                container["env"] = env;
            }
            if unknown {
                container["unknown"] = json!({"deep": [1, null, {}]});
            }
            container
        })
}

fn annotations() -> impl Strategy<Value = Option<Value>> {
    let annotation = (
        select(vec![
            "note",
            "prometheus.io/scrape",
            "linkerd.io/inject",
            "metricd.linkerd.io/inject",
            "metricd.linkerd.io/port",
            "metricd.linkerd.io/detail",
            "metricd.linkerd.io/l7-container",
            "metricd.linkerd.io/no-such",
            "metricd.linkerd.io/proxy-uid",
            "sidecar.istio.io/inject",
            "traffic.sidecar.istio.io/excludeInboundPorts",
            "traffic.sidecar.istio.io/includeInboundPorts",
            "linkerd.io/ebpf-metric-map-size",
        ]),
        select(vec![
            "", "true", "enabled", "4192", "5000", "full", "-1", "app", "web", "80, 4191",
        ]),
    );
    prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        vec(annotation, 0..4).prop_map(|all| {
            let all = all
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()));
            Some(Value::Object(all.collect::<Map<_, _>>()))
        }),
    ]
}

prop_compose! {
    fn pods()(
        containers in some_of(container()),
        init in some_of(container()),
        volumes in some_of(Just(json!({"name": "data", "emptyDir": {}}))),
        annotations in annotations(),
        metadata in option::of(select(vec![Value::Null, json!({}), json!({"name": "x"})])),
    ) -> Value {
        let mut pod = json!({"spec": {"unknown": [{}]}});
        for (field, value) in [("containers", containers), ("initContainers", init), ("volumes", volumes)] {
            if let Some(value) = value {
                pod["spec"][field] = value;
            }
        }
        if let Some(metadata) = metadata {
            pod["metadata"] = metadata;
        }
        if let Some(annotations) = annotations {
            pod["metadata"]["annotations"] = annotations;
        }
        pod
    }
}

fn config(native: bool) -> InjectConfig {
    InjectConfig {
        native_sidecars: Some(native),
        ..InjectConfig::default()
    }
}

/// Anything at all, where a pod has something.
fn garbage() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        select(vec![
            "",
            "metricd",
            "metricd-init",
            "enabled",
            "{}",
            "[]",
            "1Gi"
        ])
        .prop_map(Value::from),
    ];
    let keys = vec![
        "metadata",
        "annotations",
        "spec",
        "containers",
        "initContainers",
        "volumes",
        "name",
        "env",
        "ports",
        "resources",
        "limits",
        "cpu",
        "containerPort",
        "ownerReferences",
        "controller",
        "os",
        "kind",
        "metricd.linkerd.io/status",
        "metricd.linkerd.io/inject",
        "metricd.linkerd.io/port",
        "metricd.linkerd.io/l7-container",
        "volumeMounts",
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        let fields = vec((select(keys.clone()), inner.clone()), 0..6);
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::from),
            fields.prop_map(|fields| {
                let fields = fields
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value));
                Value::Object(fields.collect())
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// An error, or an outcome, but no panic.
    #[test]
    fn garbage_is_survived(pod in garbage(), spec in garbage(), metadata in garbage(), native: bool) {
        for pod in [pod, json!({"spec": spec, "metadata": metadata})] {
            uninject(&pod);
            if let Ok(Outcome::Injected { pod: injected, .. }) = inject(&pod, &ASKED, &config(native)) {
                let mut patched = pod.clone();
                json_patch::patch(&mut patched, &patch(&pod, &injected)).unwrap();
                prop_assert_eq!(patched, injected);
            }
        }
    }

    #[test]
    fn twice_is_once(pod in pods(), native: bool) {
        let once = injected(&pod, &config(native));
        prop_assert_eq!(injected(&once, &config(native)), once);
    }

    /// Other webhooks come behind ours, the API server fills in what is missing, and then ours is
    /// asked again.
    #[test]
    fn others_in_between_change_nothing(pod in pods(), native: bool, first: bool, other in container()) {
        let config = config(native);
        let mut changed = injected(&pod, &config);
        for field in ["initContainers", "containers"] {
            if let Some(list) = changed["spec"][field].as_array_mut() {
                list.insert(if first { 0 } else { list.len() }, other.clone());
                for container in list {
                    container["terminationMessagePath"] = "/dev/termination-log".into();
                    if let Some(env) = container["env"].as_array_mut() {
                        env.push(json!({"name": "OTHERS", "value": "1"}));
                    }
                }
            }
        }
        changed["metadata"]["annotations"]["others"] = "1".into();
        let again = injected(&changed, &config);
        prop_assert_eq!(&again["spec"]["initContainers"][0]["name"], "metricd-init");
        prop_assert_eq!(&again["spec"]["initContainers"][0]["terminationMessagePath"], "/dev/termination-log");
        let env = again["spec"]["initContainers"][0]["env"].as_array().unwrap();
        prop_assert_eq!(env.iter().filter(|env| env["name"] == "OTHERS").count(), 1);
        prop_assert_eq!(injected(&again, &config), again.clone());
        prop_assert_eq!(uninject(&again), uninject(&changed));
        let mut patched = changed.clone();
        json_patch::patch(&mut patched, &patch(&changed, &again)).unwrap();
        prop_assert_eq!(patched, again);
    }

    #[test]
    fn it_can_be_taken_out_again(pod in pods(), native: bool) {
        prop_assert_eq!(uninject(&injected(&pod, &config(native))), pod);
    }
}
