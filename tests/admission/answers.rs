//! What becomes of pods.

use serde_json::{Value, json};

use crate::{
    api::Api,
    fixture::{Injector, annotations, review, until, wanted},
};

const OURS: [&str; 2] = ["metricd-init", "metricd"];

#[test]
fn a_pod_that_wants_metricd_gets_it() {
    let api = Api::start();
    let injector = Injector::start(&api);
    let answer = injector.ask(&wanted());
    assert_eq!(answer.containers(), [OURS[0], OURS[1], "web"]);
    assert_eq!(answer.warnings, [""; 0]);
    let pod = answer.pod.unwrap();
    assert_eq!(
        pod["spec"]["containers"][0],
        wanted()["request"]["object"]["spec"]["containers"][0]
    );

    // As when another webhook has changed the pod and ours is asked again.
    let mut again = wanted();
    again["request"]["object"] = pod;
    let answer = injector.ask(&again);
    assert_eq!((answer.pod, answer.warnings), (None, vec![]));
    let admissions =
        |labels| injector.metric(&format!("metricd_injector_admissions_total{labels}"));
    assert_eq!(admissions(r#"{outcome="injected",reason=""}"#), 2.0);
    assert_eq!(
        injector.metric("metricd_injector_admission_duration_seconds_count"),
        2.0
    );
}

/// Before Kubernetes 1.34 what is not set yet was null (kubernetes PR 130989).
#[test]
fn a_review_of_an_older_server_is_no_other() {
    let api = Api::start();
    let injector = Injector::start(&api);
    let mut review = wanted();
    review["request"]["object"]["metadata"]["creationTimestamp"] = Value::Null;
    let answer = injector.ask(&review);
    assert_eq!(answer.containers(), [OURS[0], OURS[1], "web"]);
    assert_eq!(
        answer.pod.unwrap()["metadata"]["creationTimestamp"],
        Value::Null
    );
}

#[test]
fn a_pod_that_does_not_ask_is_left_alone() {
    let api = Api::start();
    let injector = Injector::start(&api);
    let answer = injector.ask(&review());
    assert_eq!((answer.pod, answer.warnings), (None, vec![]));
    let series = r#"metricd_injector_admissions_total{outcome="skipped",reason="not_enabled"}"#;
    assert_eq!(injector.metric(series), 1.0);
}

#[test]
fn the_file_of_settings_counts() {
    let api = Api::start();
    let injector = Injector::launch(&api, "image: example.com/metricd:7\nmapSize: 2048\n");
    injector.until_ready();
    let pod = injector.ask(&wanted()).pod.unwrap();
    let init = &pod["spec"]["initContainers"][0];
    assert_eq!(init["image"], "example.com/metricd:7");
    assert!(init.to_string().contains("2048"), "{init}");
}

#[test]
fn a_bad_annotation_comes_back_as_a_warning_and_an_event() {
    let api = Api::start();
    let injector = Injector::start(&api);
    let mut review = wanted();
    annotations(&mut review)["linkerd.io/ebpf-metric-map-size"] = "many".into();
    let answer = injector.ask(&review);
    assert_eq!(answer.containers(), [OURS[0], OURS[1], "web"]);
    let [warning] = &*answer.warnings else {
        panic!("{:?}", answer.warnings);
    };
    assert!(
        warning.contains("linkerd.io/ebpf-metric-map-size"),
        "{warning}"
    );
    let events = until("an event", || api.events(), |events| !events.is_empty());
    let [event] = &*events else {
        panic!("{events:?}");
    };
    assert_eq!(event["reason"], "MetricdWarning");
    assert_eq!(event["note"], **warning);
    assert_eq!(event["type"], "Warning");
}

#[test]
fn an_event_of_the_owner_says_why_a_pod_is_skipped() {
    let api = Api::start();
    let injector = Injector::start(&api);
    let mut review = wanted();
    review["request"]["object"]["spec"]["hostNetwork"] = true.into();
    assert_eq!(injector.ask(&review).pod, None);
    let events = until("an event", || api.events(), |events| !events.is_empty());
    let [event] = &*events else {
        panic!("{events:?}");
    };
    assert_eq!(event["reason"], "MetricdSkipped");
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["metadata"]["namespace"], "shop");
    assert_eq!(event["reportingController"], "metricd-injector");
    let regarding = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6d4cf56db6",
        "namespace": "shop", "uid": "0f2f8a2c-6f9d-4c3a-8a0e-6a4c9d1f3b77",
    });
    assert_eq!(event["regarding"], regarding);
    assert!(
        event["note"].as_str().unwrap().contains("hostNetwork"),
        "{event}"
    );

    // The same again is the same event, seen twice.
    injector.ask(&review);
    let events = until("a series", || api.events(), |events| events.len() == 2);
    assert_eq!(events[1]["series"]["count"], 2);
    assert!(injector.log().contains("skipped: hostNetwork"));

    annotations(&mut review)["metricd.linkerd.io/inject"] = "disabled".into();
    injector.ask(&review);
    let events = until("another event", || api.events(), |events| events.len() == 3);
    assert_eq!(events[2]["type"], "Normal");
    assert_eq!(
        injector.metric(r#"metricd_injector_events_total{result="written"}"#),
        3.0
    );
}

#[test]
fn what_is_tried_leaves_no_event() {
    let api = Api::start();
    let injector = Injector::start(&api);
    let mut skipped = wanted();
    skipped["request"]["object"]["spec"]["hostNetwork"] = true.into();
    let mut warned = wanted();
    annotations(&mut warned)["linkerd.io/ebpf-metric-map-size"] = "many".into();
    for review in [&mut skipped, &mut warned] {
        review["request"]["dryRun"] = true.into();
    }
    assert_eq!(injector.ask(&skipped).pod, None);
    let answer = injector.ask(&warned);
    assert_eq!((answer.containers().len(), answer.warnings.len()), (3, 1));
    // Whatever these had caused would come first.
    skipped["request"]["dryRun"] = false.into();
    skipped["request"]["object"]["metadata"]["ownerReferences"][0]["name"] = "other".into();
    injector.ask(&skipped);
    let events = until("an event", || api.events(), |events| !events.is_empty());
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["regarding"]["name"], "other");
}

#[test]
fn events_in_plenty_are_dropped_and_counted_and_delay_nothing() {
    let api = Api::start();
    let injector = Injector::start(&api);
    let mut review = wanted();
    review["request"]["object"]["spec"]["hostNetwork"] = true.into();
    let path = injector.path("review.json");
    std::fs::write(&path, review.to_string()).unwrap();
    let report = injector.h2load(&path, &["-n", "1000", "-c", "1", "-m", "1"]);
    assert!(report.contains("1000 succeeded"), "{report}");
    let dropped = injector.metric(r#"metricd_injector_events_total{result="dropped"}"#);
    assert!((600.0..=750.0).contains(&dropped), "{dropped}");
    assert!(api.events().len() < 100);
}

#[test]
fn an_error_in_us_blocks_no_pod() {
    let api = Api::start();
    let injector = Injector::start(&api);
    for object in [
        json!({"metadata": {"annotations": 7}, "spec": {"containers": "none"}}),
        json!("a pod"),
        Value::Null,
    ] {
        let mut review = review();
        review["request"]["object"] = object;
        let answer = injector.ask(&review);
        assert_eq!(answer.pod, None);
        assert!(
            answer.warnings[0].starts_with("no metricd in the pod: "),
            "{answer:?}"
        );
    }
    let series = r#"metricd_injector_admissions_total{outcome="failed",reason=""}"#;
    assert_eq!(injector.metric(series), 3.0);
}

#[test]
fn what_is_no_new_pod_is_allowed_with_a_warning() {
    let api = Api::start();
    let injector = Injector::start(&api);
    let mut update = wanted();
    update["request"]["operation"] = "UPDATE".into();
    let mut deployment = wanted();
    deployment["request"]["resource"] =
        json!({"group": "apps", "version": "v1", "resource": "deployments"});
    for review in [update, deployment] {
        let answer = injector.ask(&review);
        assert_eq!((answer.pod, answer.warnings.len()), (None, 1));
    }
}
