//! The injector of a mesh may run before ours or after: either order gives a right pod.

use metricd::cluster::inject::{Around, InjectConfig, Namespace, Outcome, inject, uninject};
use serde_json::{Value, json};

const EXCLUDE: &str = "traffic.sidecar.istio.io/excludeInboundPorts";

fn namespace() -> Namespace {
    Namespace {
        name: "shop".into(),
        labels: [("istio-injection".into(), "enabled".into())].into(),
        annotations: [("linkerd.io/inject".into(), "enabled".into())].into(),
    }
}

/// Ours, in a namespace that has both meshes' injectors called.
fn metricd(pod: &Value) -> Value {
    let namespace = namespace();
    let around = Around {
        namespace: Some(&namespace),
        workload: None,
        asked: true,
    };
    match inject(pod, &around, &InjectConfig::default()).unwrap() {
        Outcome::Injected { pod, .. } => pod,
        skipped => panic!("{skipped:?}"),
    }
}

fn list<'a>(pod: &'a mut Value, field: &str) -> &'a mut Vec<Value> {
    let list = &mut pod["spec"][field];
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().unwrap()
}

fn linkerd(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let proxy = json!({"name": "linkerd-proxy", "restartPolicy": "Always", "securityContext": {"runAsUser": 2105}});
    list(&mut pod, "initContainers").extend([json!({"name": "linkerd-init"}), proxy]);
    pod
}

/// With istio-init, which does what the annotation says by then.
fn istio(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let excluded = pod["metadata"]["annotations"][EXCLUDE].as_str();
    let excluded = format!("15090,15021,15020,{}", excluded.unwrap_or_default());
    let init = json!({"name": "istio-init", "args": ["istio-iptables", "-b", "*", "-d", excluded]});
    list(&mut pod, "initContainers").push(init);
    proxy(&mut pod);
    pod
}

/// With the CNI plugin, for which the injector changes the annotation.
fn istio_cni(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let annotations = &mut pod["metadata"]["annotations"];
    annotations[EXCLUDE] = match annotations[EXCLUDE].as_str() {
        Some(excluded) => format!("{excluded},15020").into(),
        None => "15020".into(),
    };
    list(&mut pod, "initContainers").push(json!({"name": "istio-validation"}));
    proxy(&mut pod);
    pod
}

/// The proxy, whose agent fetches what the application's annotations for Prometheus say.
fn proxy(pod: &mut Value) {
    let security = json!({"runAsUser": 1400});
    list(pod, "containers").push(json!({"name": "istio-proxy", "securityContext": security}));
    let annotations = &mut pod["metadata"]["annotations"];
    annotations["prometheus.io/scrape"] = "true".into();
    annotations["prometheus.io/port"] = "15020".into();
    annotations["prometheus.io/path"] = "/stats/prometheus".into();
}

fn pods() -> [Value; 3] {
    let spec = json!({"containers": [{"name": "web"}]});
    [
        json!({"spec": spec}),
        json!({"spec": spec, "metadata": {"annotations": {EXCLUDE: "8080"}}}),
        json!({"spec": spec, "metadata": {"annotations": {EXCLUDE: "4191"}}}),
    ]
}

/// What metricd-init is told by a variable, which it has once.
fn told<'a>(pod: &'a Value, name: &str) -> &'a str {
    let init = &pod["spec"]["initContainers"][0];
    assert_eq!(init["name"], "metricd-init");
    let env = init["env"].as_array().unwrap().iter();
    let values: Vec<_> = env.filter(|env| env["name"] == name).collect();
    assert_eq!(values.len(), 1, "{name}: {values:?}");
    values[0]["value"].as_str().unwrap()
}

fn sorted(list: &str) -> Vec<&str> {
    let mut items: Vec<_> = list.split(',').collect();
    items.sort_unstable();
    items
}

#[test]
fn linkerds_before_or_after() {
    for pod in pods() {
        let before = metricd(&linkerd(&pod));
        assert_eq!(told(&before, "METRICD_PROXY_UID"), "2105");
        assert_eq!(told(&before, "METRICD_LOOPBACK"), "true");
        let first = metricd(&pod);
        assert_eq!(told(&first, "METRICD_PROXY_UID"), "2102");
        assert_eq!(metricd(&linkerd(&first)), before);
        assert_eq!(uninject(&before), linkerd(&pod));
    }
}

#[test]
fn istios_before_or_after() {
    for pod in pods() {
        for istio in [istio, istio_cni] {
            // Linkerd's is refused, else its proxy would be about to come.
            let mut pod = pod.clone();
            pod["metadata"]["annotations"]["linkerd.io/inject"] = "disabled".into();
            let first = metricd(&pod);
            assert_eq!(told(&first, "METRICD_PROXY_UID"), "1337");
            let before = metricd(&istio(&pod));
            let after = metricd(&istio(&first));
            assert_eq!(metricd(&after), after);
            for injected in [&before, &after] {
                assert_eq!(told(injected, "METRICD_PROXY_UID"), "1400");
                assert_eq!(told(injected, "METRICD_LOOPBACK"), "true");
                let annotations = &injected["metadata"]["annotations"];
                assert_eq!(annotations["prometheus.io/scrape"], "true");
                assert_eq!(annotations["prometheus.io/port"], "15020");
            }
            let [excluded, excluded_after] = [&before, &after]
                .map(|pod| sorted(pod["metadata"]["annotations"][EXCLUDE].as_str().unwrap()));
            assert_eq!(excluded, excluded_after);
            assert!(excluded.contains(&"4191"), "{excluded:?}");
            assert_eq!(uninject(&before), istio(&pod));
            assert_eq!(
                uninject(&after)["metadata"],
                istio(&pod)["metadata"],
                "{after:#}"
            );
        }
    }
}

/// Unless Istio's injector is called again, istio-init stays as it is.
#[test]
fn istio_init_that_does_not_exclude_the_port_is_told_of() {
    let warning = |pod: &Value| {
        pod["metadata"]["annotations"]["metricd.linkerd.io/warning"]
            .as_str()
            .unwrap_or_default()
            .contains("istio-init")
    };
    let mut pod = pods()[0].clone();
    pod["metadata"]["annotations"]["linkerd.io/inject"] = "disabled".into();
    assert!(warning(&metricd(&istio(&pod))));
    assert!(!warning(&metricd(&istio(&metricd(&pod)))));
    assert!(!warning(&metricd(&istio_cni(&pod))));
    pod["metadata"]["annotations"][EXCLUDE] = "4191".into();
    assert!(!warning(&metricd(&istio(&pod))));
}
