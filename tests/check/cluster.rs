//! The checks of a cluster, of which a fake API server serves the objects.

use hyper::Method;
use serde_json::{Value, json};

use crate::api::{Api, World};
use crate::golden::{check, output, stderr, stdout};
use crate::world::*;

const VERSIONS: [(&str, &str); 1] = [(VERSION, "VERSION")];

#[track_caller]
fn golden(name: &str, success: bool, world: World, words: &str) {
    let api = Api::start(world);
    let run =
        |format: &str| output(&mut api.command(&format!("check --wait 0s {words} -o {format}")));
    check(name, success, run, &VERSIONS);
}

/// What a check says of a world.
fn said(world: World, words: &str) -> (bool, String) {
    let api = Api::start(world);
    let output = output(&mut api.command(&format!("check --wait 0s {words}")));
    (output.status.success(), stdout(&output))
}

#[track_caller]
fn fails(world: World, check: &str, why: &str) {
    let (success, text) = said(world, "--proxy");
    assert!(!success, "{text}");
    let expected = format!("× {check}\n    {why}");
    assert!(text.contains(&expected), "no {expected:?} in\n{text}");
}

#[track_caller]
fn warns(world: World, check: &str, why: &str) {
    let (success, text) = said(world, "--proxy");
    assert!(success, "{text}");
    let expected = format!("‼ {check}\n    {why}");
    assert!(text.contains(&expected), "no {expected:?} in\n{text}");
}

/// The first object of a collection.
fn first<'a>(world: &'a mut World, path: &str) -> &'a mut Value {
    world.objects.get_mut(path).unwrap().first_mut().unwrap()
}

#[test]
fn all_is_well() {
    golden("installed", true, installed(), "");
    golden("proxy", true, installed(), "--proxy");
    golden("proxy-namespace", true, installed(), "--proxy -n emojivoto");
    golden("pre", true, bare(), "--pre");
}

/// A proxy that the environment names is for where it is meant for.
#[test]
fn proxies() {
    let said = |variables: &[(&str, &str)]| {
        let api = Api::start(installed());
        let mut command = api.command("check --wait 0s");
        let output = output(command.envs(variables.iter().copied()));
        (output.status.success(), stdout(&output))
    };
    let proxy = ("HTTPS_PROXY", "http://127.0.0.1:1");
    let (success, text) = said(&[proxy, ("NO_PROXY", "127.0.0.1")]);
    assert!(success, "{text}");
    let (success, text) = said(&[proxy, ("HTTP_PROXY", "http://127.0.0.1:1")]);
    assert!(!success, "{text}");
    assert!(text.contains("Connection refused"), "{text}");
}

#[test]
fn not_yet_installed() {
    golden("not-installed", false, bare(), "");
}

#[test]
fn installed_before() {
    let mut world = installed();
    world.denied.insert("clusterroles".into());
    first(&mut world, NODES)["status"]["nodeInfo"]["kernelVersion"] =
        "4.14.355-276.618.amzn2".into();
    golden("pre-failing", false, world, "--pre");
}

#[test]
fn much_is_wrong() {
    let mut world = installed();
    first(&mut world, WEBHOOKS)["webhooks"][0]["failurePolicy"] = "Fail".into();
    let other = Authority::new();
    let (certificate, _) = other.sign(HOST, (2020, 1), (4000, 1));
    *first(&mut world, SECRETS) = secret(&certificate);
    *first(&mut world, HOME_PODS) = injector("example.org/metricd:0.0.9", true);
    world.texts.insert(
        metrics("web-7d4b9"),
        "linkerd_ebpf_up{reason=\"kernel 5.4 is too old\"} 0\n".into(),
    );
    golden("failing", false, world, "--proxy");
}

#[test]
fn an_api_server_that_is_away() {
    let api = Api::start(bare());
    let mut command = api.command("check --wait 0s");
    drop(api);
    // The configuration went with it.
    let away = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "users": [{"name": "a", "user": {}}],
    });
    let dir = crate::golden::TempDir::new("away");
    command.env("KUBECONFIG", dir.write("config", &away.to_string()));
    let output = output(&mut command);
    let text = stdout(&output);
    assert!(
        text.contains("√ can initialize the client\n× can query the Kubernetes API\n"),
        "{text}"
    );
    assert!(text.contains("refused"), "{text}");
    assert!(!output.status.success());
}

#[test]
fn a_kubeconfig_that_makes_no_sense() {
    let api = Api::start(bare());
    for (words, why) in [
        ("check --kubeconfig /nonexistent", "/nonexistent"),
        ("check --context other", "other"),
    ] {
        let output = output(&mut api.command(words));
        let text = stdout(&output);
        assert!(text.contains("× can initialize the client\n"), "{text}");
        assert!(text.contains(why), "{text}");
    }
}

#[test]
fn who_asks_is_handed_on() {
    let api = Api::start(installed());
    let words = "check --wait 0s --as dev --as-group=[a,b] --as-group c";
    assert!(output(&mut api.command(words)).status.success());
    for asked in api.asked(Method::GET) {
        assert_eq!(asked.acting_as, ["dev", "a", "b", "c"], "{}", asked.path);
    }
}

#[test]
fn what_may_not_be_read() {
    let mut world = installed();
    world.forbidden.insert(NODES.into());
    fails(
        world,
        "all nodes run Linux 5.10 or later",
        "list the nodes: /api/v1/nodes is forbidden",
    );
    let mut world = installed();
    world.forbidden.insert(SECRETS.into());
    fails(
        world,
        "injector webhook has valid cert",
        "get the injector's secret: ",
    );
}

#[test]
fn namespaces() {
    let mut world = bare();
    let unlabelled = namespace(HOME, json!({}));
    world.objects.get_mut(NAMESPACES).unwrap().push(unlabelled);
    let remedy = "namespace linkerd-metricd lacks the label linkerd.io/extension=metricd: kubectl \
                  label namespace linkerd-metricd linkerd.io/extension=metricd";
    fails(world, "linkerd-metricd Namespace exists", remedy);
    let mut world = installed();
    let second = namespace("second", json!({"linkerd.io/extension": "metricd"}));
    world.objects.get_mut(NAMESPACES).unwrap().push(second);
    fails(world, "linkerd-metricd Namespace exists", "more than one");
}

#[test]
fn the_webhook() {
    let mut world = installed();
    world.objects.insert(WEBHOOKS.into(), vec![]);
    fails(
        world,
        "injector webhook is registered",
        "no MutatingWebhookConfiguration leads",
    );
    let mut world = installed();
    *first(&mut world, HOME_PODS) = injector("example.org/metricd:1", false);
    fails(
        world,
        "injector pods are ready",
        "these pods are not ready:\n\t* metricd-injector-6c9f7",
    );
}

#[test]
fn certificates() {
    let authority = Authority::new();
    let with = |host: &str, from, until| {
        let mut world = installed();
        *first(&mut world, WEBHOOKS) = webhook(&authority.pem());
        *first(&mut world, SECRETS) = secret(&authority.sign(host, from, until).0);
        world
    };
    let check = "injector webhook has valid cert";
    fails(
        with(HOST, (2020, 1), (2021, 1)),
        check,
        "it was valid until 2021-01-01T00:00:00Z",
    );
    fails(
        with(HOST, (3000, 1), (4000, 1)),
        check,
        "it is valid from 3000-01-01T00:00:00Z on",
    );
    fails(
        with("other.svc", (2020, 1), (4000, 1)),
        check,
        "invalid peer certificate: certificate not valid for name",
    );
    let mut world = installed();
    *first(&mut world, WEBHOOKS) = webhook("");
    fails(
        world,
        check,
        "metricd-injector-webhook-config has no caBundle",
    );
    let mut world = installed();
    *first(&mut world, SECRETS) = secret("no certificate");
    fails(
        world,
        check,
        "read the injector's tls.crt: there is no certificate in it",
    );
}

#[test]
fn a_certificate_that_expires_soon() {
    let authority = Authority::new();
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 20);
    // The first of a month that is at most 60 days away.
    let mut month = soon.strftime("%Y-%m").to_string();
    let until = loop {
        let (year, number) = month.split_once('-').unwrap();
        let (year, number): (i32, u8) = (year.parse().unwrap(), number.parse().unwrap());
        let next = match number {
            12 => (year + 1, 1),
            _ => (year, number + 1),
        };
        let at: jiff::Timestamp = format!("{:04}-{:02}-01T00:00:00Z", next.0, next.1)
            .parse()
            .unwrap();
        if at > jiff::Timestamp::now() {
            break next;
        }
        month = format!("{:04}-{:02}", next.0, next.1);
    };
    let mut world = installed();
    *first(&mut world, WEBHOOKS) = webhook(&authority.pem());
    *first(&mut world, SECRETS) = secret(&authority.sign(HOST, (2020, 1), until).0);
    let date = format!(
        "it is valid until {:04}-{:02}-01T00:00:00Z",
        until.0, until.1
    );
    warns(world, "injector cert is valid for at least 60 days", &date);
}

#[test]
fn old_versions() {
    let mut world = installed();
    world.texts.insert("/version".into(), json!({
        "major": "1", "minor": "20", "gitVersion": "v1.20.15", "gitCommit": "", "gitTreeState": "",
        "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
    }).to_string());
    fails(
        world,
        "is running the minimum Kubernetes API version",
        "Kubernetes v1.20.15 is too old",
    );
    let mut world = installed();
    let pod = injected("old-1", "example.org/metricd:0.0.8", true);
    world.objects.get_mut(PODS).unwrap().push(pod);
    world.texts.insert(
        metrics("old-1"),
        "linkerd_ebpf_up 1\nlinkerd_ebpf_build_info{version=\"0.0.8\",init_version=\"0.0.7\"} 1\n"
            .into(),
    );
    let api = Api::start(world);
    let text = stdout(&output(&mut api.command("check --wait 0s --proxy")));
    let by_image = "‼ sidecar versions match\n";
    assert!(
        text.contains(by_image) && text.contains("\n\t* emojivoto/old-1: 0.0.8\n"),
        "{text}"
    );
    let by_metrics = "\n\t* emojivoto/old-1: metricd 0.0.8, metricd-init 0.0.7\n";
    assert!(text.contains(by_metrics), "{text}");
}

#[test]
fn sidecars_that_are_not_there_or_not_ready() {
    let mut world = installed();
    world.objects.insert(PODS.into(), vec![]);
    fails(
        world,
        "data plane pods are ready",
        "no \"metricd\" containers found in any namespace",
    );
    let mut world = installed();
    let pod = injected("late-1", "example.org/metricd:1", false);
    world.objects.get_mut(PODS).unwrap().push(pod);
    fails(
        world,
        "data plane pods are ready",
        "the sidecars of these pods are not ready:\n\t* emojivoto/late-1",
    );
    let mut world = installed();
    world.texts.remove(&metrics("web-7d4b9"));
    fails(
        world,
        "data plane pods count (linkerd_ebpf_up)",
        "these pods have no metrics:\n\t* emojivoto/web-7d4b9: scrape port 4191: ",
    );
}

/// More than a page of them.
#[test]
fn many_pods() {
    let mut world = installed();
    for n in 0..1200 {
        let pod = injected(&format!("many-{n}"), "example.org/metricd:0.0.8", true);
        world.objects.get_mut(PODS).unwrap().push(pod);
    }
    let (success, text) = said(world, "");
    assert!(success && text.contains("\n\tand 1180 more\n"), "{text}");
}

#[test]
fn what_comes_up_meanwhile() {
    let mut world = installed();
    *first(&mut world, HOME_PODS) = injector(&format!("example.org/metricd:{VERSION}"), false);
    let api = Api::start(world);
    let mut command = api.command("check --wait 60s");
    std::thread::scope(|scope| {
        let check = scope.spawn(move || output(&mut command));
        while api
            .asked(Method::GET)
            .iter()
            .filter(|asked| asked.path == HOME_PODS)
            .count()
            < 2
        {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        *first(&mut api.world(), HOME_PODS) =
            injector(&format!("example.org/metricd:{VERSION}"), true);
        let output = check.join().unwrap();
        let text = stdout(&output);
        assert!(
            output.status.success() && text.contains("√ injector pods are ready"),
            "{text}"
        );
        assert!(
            stderr(&output).contains("waiting: these pods are not ready"),
            "{}",
            stderr(&output)
        );
    });
}

#[test]
fn the_servers_version() {
    let api = Api::start(installed());
    let text = stdout(&output(&mut api.command("version")));
    assert_eq!(
        text,
        format!("Client version: {VERSION}\nServer version: {VERSION}\n")
    );
}
