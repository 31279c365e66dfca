//! Upgrade, resize and detach of a pod through the cluster: what is created, what is said, and that
//! it is deleted.

use std::process::Output;
use std::thread;
use std::time::Duration;

use hyper::Method;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::api::{Api, World};
use crate::golden::{binary, output, stderr};
use crate::world::*;

pub const NODE_POD: &str = "/api/v1/namespaces/linkerd-metricd/pods/linkerd-metricd-";

fn run(world: World, words: &str) -> (Api, Output) {
    let api = Api::start(world);
    let output = output(&mut api.command(words));
    (api, output)
}

fn ends(phase: &str, log: &str) -> World {
    World {
        statuses: vec![
            json!({"phase": "Pending"}),
            json!({"phase": "Running"}),
            json!({"phase": phase}),
        ],
        log: log.into(),
        ..installed()
    }
}

/// What was created; it must have been deleted.
#[track_caller]
fn created(api: &Api) -> Value {
    let made: Vec<_> = api.asked(Method::POST);
    let [made] = &made[..] else {
        panic!("{made:?}");
    };
    assert_eq!(made.path, HOME_PODS);
    let deleted = api.asked(Method::DELETE);
    assert_eq!(deleted.len(), 1, "{deleted:?}");
    assert!(deleted[0].path.starts_with(NODE_POD), "{}", deleted[0].path);
    let left = api.world().objects[HOME_PODS].len();
    assert_eq!(left, 1, "the injector alone");
    made.body.clone()
}

#[test]
fn an_upgrade() {
    let log = " INFO interface 2 ingress: programs replaced (tcx)\n";
    let (api, ended) = run(
        ends("Succeeded", log),
        "upgrade web-7d4b9 -n emojivoto --detail pod",
    );
    assert!(ended.status.success(), "{}", stderr(&ended));
    assert!(
        stderr(&ended).contains("interface 2 ingress: programs replaced"),
        "{}",
        stderr(&ended)
    );
    let pod = created(&api);
    let expected = json!({
        "nodeName": "node-2",
        "hostPID": true,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": 180,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "tolerations": [{"operator": "Exists"}],
        "imagePullSecrets": [{"name": "registry"}],
        "containers": [{
            "name": "linkerd-metricd",
            "image": format!("example.org/metricd:{VERSION}"),
            "command": ["/linkerd-metricd"],
            "args": ["upgrade", "--pod=emojivoto/web-7d4b9", "--detail=pod"],
            "securityContext": {"privileged": true, "runAsUser": 0, "runAsNonRoot": false},
            "volumeMounts": [
                {"name": "bpf", "mountPath": "/sys/fs/bpf"},
                {"name": "logs", "mountPath": "/var/log/pods", "readOnly": true},
            ],
        }],
        "volumes": [
            {"name": "bpf", "hostPath": {"path": "/sys/fs/bpf", "type": "Directory"}},
            {"name": "logs", "hostPath": {"path": "/var/log/pods", "type": "Directory"}},
        ],
    });
    assert_eq!(pod["spec"], expected);
    // There it is understood; that pod is not on this node.
    let args = pod["spec"]["containers"][0]["args"].as_array().unwrap();
    let there = output(binary().args(args.iter().map(|arg| arg.as_str().unwrap())));
    assert!(
        stderr(&there).contains("/var/log/pods"),
        "{}",
        stderr(&there)
    );
    assert_eq!(
        pod["metadata"]["annotations"]["metricd.linkerd.io/inject"],
        "disabled"
    );
}

#[test]
fn a_resize_and_a_detach_with_names_as_the_context_has_them() {
    for (words, args) in [
        (
            "resize web-7d4b9 --map-size 7",
            json!(["resize", "--pod=emojivoto/web-7d4b9", "--map-size=7"]),
        ),
        (
            "detach emojivoto/web-7d4b9",
            json!(["detach", "--pod=emojivoto/web-7d4b9"]),
        ),
    ] {
        let (api, output) = run(ends("Succeeded", ""), &format!("{words} --image other:1"));
        assert!(output.status.success(), "{}", stderr(&output));
        let container = &created(&api)["spec"]["containers"][0];
        assert_eq!(container["args"], args);
        assert_eq!(container["image"], "other:1");
    }
}

#[test]
fn one_that_fails() {
    let log = "ERROR nothing of ours is pinned in /sys/fs/bpf/linkerd-metricd/3c1f";
    let (api, output) = run(ends("Failed", log), "upgrade web-7d4b9");
    assert!(!output.status.success());
    let said = stderr(&output);
    assert!(
        said.contains("upgrade emojivoto/web-7d4b9 on node node-2: ERROR nothing of ours"),
        "{said}"
    );
    created(&api);
}

#[test]
fn one_that_never_starts() {
    let waiting = json!({"reason": "ImagePullBackOff", "message": "Back-off pulling image \"x\""});
    let world = World {
        statuses: vec![json!({
            "phase": "Pending",
            "containerStatuses": [{"name": "linkerd-metricd", "ready": false, "restartCount": 0,
                                   "image": "", "imageID": "", "state": {"waiting": waiting}}],
        })],
        ..installed()
    };
    let (api, output) = run(world, "upgrade web-7d4b9 --wait 1s");
    assert!(!output.status.success());
    let said = stderr(&output);
    assert!(
        said.contains("was not done within") && said.contains("ImagePullBackOff: Back-off"),
        "{said}"
    );
    created(&api);
}

#[test]
fn one_that_is_interrupted() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let world = World {
            statuses: vec![json!({"phase": "Running"})],
            ..installed()
        };
        let api = Api::start(world);
        let mut command = api.command("upgrade web-7d4b9");
        let child = command
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        while api.asked(Method::POST).is_empty() {
            thread::sleep(Duration::from_millis(10));
        }
        // Once the pod is there to be deleted.
        while !api
            .asked(Method::GET)
            .iter()
            .any(|asked| asked.path.starts_with(NODE_POD))
        {
            thread::sleep(Duration::from_millis(10));
        }
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        created(&api);
    }
}

#[test]
fn what_can_be_told_before() {
    let mut plain = injected("plain", "example.org/metricd:1", true);
    plain["spec"]["initContainers"] = json!([]);
    let mut unscheduled = injected("unscheduled", "example.org/metricd:1", true);
    unscheduled["spec"]
        .as_object_mut()
        .unwrap()
        .remove("nodeName");
    for (words, why) in [
        (
            "upgrade missing",
            "get pod emojivoto/missing: \"missing\" not found",
        ),
        (
            "upgrade plain",
            "pod emojivoto/plain has no container metricd-init",
        ),
        (
            "upgrade unscheduled",
            "pod emojivoto/unscheduled is on no node yet",
        ),
        ("upgrade a/b -n c", "a/b is not in namespace c"),
        ("resize web-7d4b9", "--map-size"),
        ("upgrade web-7d4b9 --buckets 2,1", "--buckets"),
        ("upgrade web-7d4b9 --pid 1", "cannot be used with"),
    ] {
        let mut world = installed();
        let pods = world.objects.get_mut(EMOJIVOTO_PODS).unwrap();
        pods.extend([plain.clone(), unscheduled.clone()]);
        let (api, output) = run(world, words);
        assert!(!output.status.success());
        assert!(
            stderr(&output).contains(why),
            "{words}: {}",
            stderr(&output)
        );
        assert!(api.asked(Method::POST).is_empty(), "{words}");
    }
}

#[test]
fn an_api_server_that_refuses() {
    let mut world = installed();
    world.objects.insert(NAMESPACES.into(), vec![]);
    let (api, output) = run(world, "detach web-7d4b9");
    assert!(
        stderr(&output).contains("no namespace has the label"),
        "{}",
        stderr(&output)
    );
    assert!(api.asked(Method::POST).is_empty());
}
