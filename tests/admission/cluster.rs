//! What the injector learns from the API server, and does without it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    api::Api,
    fixture::{Injector, review, until, wanted},
};

fn enabled() -> Value {
    json!({"metricd.linkerd.io/inject": "enabled"})
}

#[test]
fn changes_of_namespaces_are_seen() {
    let api = Api::start();
    api.set_namespace("shop", json!({}), enabled());
    let injector = Injector::start(&api);
    let injected = || injector.ask(&review()).pod.is_some();
    assert!(injected());
    // What is watched is no more than is needed.
    let accepts = api.accepts();
    assert!(
        accepts
            .iter()
            .all(|it| it.contains("as=PartialObjectMetadata")),
        "{accepts:?}"
    );

    api.set_namespace(
        "shop",
        json!({}),
        json!({"metricd.linkerd.io/inject": "disabled"}),
    );
    until("disabled", injected, |injected| !injected);
    api.set_namespace("shop", json!({}), enabled());
    until("enabled", injected, |injected| *injected);
    let restricted = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    api.set_namespace("shop", restricted, enabled());
    until("restricted", injected, |injected| !injected);
    let series = r#"metricd_injector_admissions_total{outcome="skipped",reason="pod_security"}"#;
    assert_eq!(injector.metric(series), 1.0);
    api.remove_namespace("shop");
    api.set_namespace("other", json!({}), enabled());
    until("removed", injected, |injected| !injected);
    let mut other = review();
    other["request"]["namespace"] = "other".into();
    assert!(injector.ask(&other).pod.is_some());
}

#[test]
fn a_namespace_that_the_watch_has_not_brought_is_asked_for() {
    let api = Api::start();
    let injector = Injector::start(&api);
    api.set_unwatched("shop", enabled());
    assert!(injector.ask(&review()).pod.is_some());
}

#[test]
fn sidecars_are_init_containers_where_every_node_has_them() {
    let job = || {
        let mut job = wanted();
        job["request"]["object"]["spec"]["restartPolicy"] = "Never".into();
        job["request"]["object"]["metadata"]["ownerReferences"][0]["kind"] = "Job".into();
        job
    };
    for (minor, config, native) in [
        ("36", "", true),
        ("32+", "", true),
        ("31", "", false),
        ("31", "nativeSidecars: true", true),
        ("36", "nativeSidecars: false", false),
    ] {
        let api = Api::start();
        api.set_minor(minor);
        let injector = Injector::launch(&api, config);
        injector.until_ready();
        let expected = match native {
            true => ["metricd-init", "metricd", "web"],
            false => ["metricd-init", "web", "metricd"],
        };
        assert_eq!(
            injector.ask(&wanted()).containers(),
            expected,
            "{minor} {config}"
        );
        assert_eq!(
            injector.ask(&job()).pod.is_some(),
            native,
            "{minor} {config}"
        );
    }
}

#[test]
fn without_the_api_server_it_answers_and_says_what_it_waits_for() {
    let mut api = Api::away();
    let injector = Injector::launch(&api, "");
    let ready = until(
        "a reason",
        || injector.page("/ready"),
        |page| page.body.contains("refused"),
    );
    assert_eq!(ready.status, 503);
    assert!(ready.body.starts_with("namespaces: "), "{ready:?}");
    assert_eq!(injector.page("/live").status, 200);

    let answer = injector.ask(&wanted());
    assert_eq!(answer.containers(), ["metricd-init", "web", "metricd"]);
    assert!(
        answer.warnings[0].contains("could not look up the namespace shop"),
        "{answer:?}"
    );
    let answer = injector.ask(&review());
    assert_eq!((answer.pod, answer.warnings.len()), (None, 1));

    api.listen();
    injector.until_ready();
    assert_eq!(
        injector.ask(&wanted()).containers(),
        ["metricd-init", "metricd", "web"]
    );
}

#[test]
fn what_was_known_counts_when_the_api_server_goes() {
    let api = Api::start();
    api.set_namespace("shop", json!({}), enabled());
    let injector = Injector::start(&api);
    drop(api);
    let errors = r#"metricd_injector_api_errors_total{request="watch namespaces"}"#;
    until(
        "noticed",
        || injector.metric(errors),
        |errors| *errors > 0.0,
    );
    assert_eq!(injector.page("/ready").status, 200);
    assert_eq!(injector.ask(&review()).containers().len(), 3);

    // Events that nobody takes delay nothing.
    let mut skipped = wanted();
    skipped["request"]["object"]["spec"]["hostNetwork"] = true.into();
    let begun = Instant::now();
    for _ in 0..20 {
        injector.ask(&skipped);
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    let failed = r#"metricd_injector_events_total{result="failed"}"#;
    until("failed", || injector.metric(failed), |failed| *failed > 0.0);
}
