//! The injector as a process, and ways to ask it.

use std::{
    env,
    fmt::Debug,
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    admission::{
        api::Api,
        pki::{Authority, Mount, Pair},
    },
    machine::binaries,
};

/// What an API server sends for a pod of a ReplicaSet.
pub const REVIEW: &str = include_str!("review.json");

pub fn review() -> Value {
    serde_json::from_str(REVIEW).unwrap()
}

/// The same for a pod that wants metricd.
pub fn wanted() -> Value {
    let mut review = review();
    annotations(&mut review)["metricd.linkerd.io/inject"] = "enabled".into();
    review
}

pub fn annotations(review: &mut Value) -> &mut Value {
    &mut review["request"]["object"]["metadata"]["annotations"]
}

/// A folder that is gone in the end.
pub struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("metricd-admission-{}-{count}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running injector, which has to live until the test's end.
pub struct Injector {
    pub reviews: SocketAddr,
    pub admin: SocketAddr,
    pub authority: Authority,
    mount: Option<Mount>,
    folder: Folder,
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Injector {
    /// One that is ready.
    pub fn start(api: &Api) -> Self {
        let injector = Self::launch(api, "");
        injector.until_ready();
        injector
    }

    /// One with a file of settings.
    pub fn launch(api: &Api, config: &str) -> Self {
        Self::spawn(api, config, true)
    }

    pub fn without_certificate(api: &Api) -> Self {
        Self::spawn(api, "", false)
    }

    fn spawn(api: &Api, config: &str, certificate: bool) -> Self {
        let folder = Folder::new();
        let authority = Authority::new();
        let mount = certificate.then(|| Mount::new(&folder.0.join("tls"), &authority.pair(1)));
        fs::write(folder.0.join("ca.pem"), &authority.pem).unwrap();
        fs::write(folder.0.join("config.yaml"), config).unwrap();
        fs::write(folder.0.join("kubeconfig"), kubeconfig(api.address)).unwrap();
        let mut child = Command::new(binaries::path("metricd-injector"))
            .args([
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--tls-dir",
            ])
            .arg(folder.0.join("tls"))
            .env("METRICD_CONFIG", folder.0.join("config.yaml"))
            .env("KUBECONFIG", folder.0.join("kubeconfig"))
            .env(
                "METRICD_LOG",
                "debug,kube=info,hyper=info,h2=info,tower=info,rustls=info",
            )
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (send, serving) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        thread::spawn({
            let log = log.clone();
            move || {
                for line in lines.map_while(Result::ok) {
                    if line.contains("serving listen=") {
                        let _ = send.send(line.clone());
                    }
                    *log.lock().unwrap() += &(line + "\n");
                }
            }
        });
        let Ok(line) = serving.recv_timeout(Duration::from_secs(20)) else {
            let _ = child.kill();
            panic!("it does not serve: {}", log.lock().unwrap());
        };
        let address = |name: &str| {
            let (_, rest) = line.split_once(name).unwrap();
            rest.split(' ').next().unwrap().parse().unwrap()
        };
        Self {
            reviews: address("listen="),
            admin: address("admin="),
            authority,
            mount,
            folder,
            child,
            log,
        }
    }

    /// Mounts a certificate, or replaces it.
    pub fn swap(&mut self, pair: &Pair) {
        match &mut self.mount {
            Some(mount) => mount.swap(pair),
            None => self.mount = Some(Mount::new(&self.folder.0.join("tls"), pair)),
        }
    }

    pub fn until_ready(&self) {
        until("ready", || self.page("/ready"), |page| page.status == 200);
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// For its exit, which then is no fault.
    pub fn wait(mut self) -> process::ExitStatus {
        self.child.wait().unwrap()
    }

    /// A page for the kubelet or Prometheus.
    pub fn page(&self, path: &str) -> Reply {
        curl(&["-sS", &format!("http://{}{path}", self.admin)], b"")
    }

    /// A metric's value; 0 as long as there is none.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.page("/metrics").body;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// A review's answer.
    pub fn ask(&self, review: &Value) -> Answer {
        let reply = self.post(&[], review.to_string().as_bytes());
        assert_eq!(reply.status, 200, "{reply:?}");
        Answer::new(review, &reply)
    }

    /// What comes of a body and more of curl's arguments.
    pub fn post(&self, args: &[&str], body: &[u8]) -> Reply {
        let mut all = vec!["--data-binary", "@-"];
        if !args.iter().any(|arg| arg.starts_with("content-type:")) {
            all.extend(["-H", "content-type: application/json"]);
        }
        all.extend(args);
        self.curl(&all, body)
    }

    /// The same with nothing but where to.
    pub fn curl(&self, args: &[&str], stdin: &[u8]) -> Reply {
        let ca = self.path("ca.pem");
        let url = self.url();
        let mut all = vec!["-sS", "--cacert", ca.to_str().unwrap()];
        all.extend(args);
        if !args.iter().any(|arg| arg.starts_with("https:")) {
            all.push(&url);
        }
        curl(&all, stdin)
    }

    /// What h2load says after posting a file as a review.
    pub fn h2load(&self, path: &Path, args: &[&str]) -> String {
        let (path, url) = (path.to_str().unwrap(), self.url());
        let common = ["-H", "content-type: application/json", "-d", path, &url];
        let (ok, text) = run("h2load", &[args, &common].concat(), Path::new("/dev/null"));
        assert!(ok, "{text}");
        text
    }

    /// With the query that an API server adds.
    pub fn url(&self) -> String {
        format!(
            "https://localhost:{}/inject?timeout=3s",
            self.reviews.port()
        )
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        let ended = self.child.try_wait().unwrap();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        if thread::panicking() {
            eprintln!("its log:\n{log}");
        } else {
            let ended_well = ended.is_none_or(|status| status.success());
            assert!(
                ended_well && !log.contains("panicked at"),
                "{ended:?}: {log}"
            );
        }
    }
}

fn kubeconfig(address: SocketAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         users: [{{name: u, user: {{token: t}}}}]\n"
    )
}

/// What curl got.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// As curl writes it: 1.1 or 2. 0 if there was no answer.
    pub version: String,
    pub body: String,
    /// What curl complains about, for the messages of tests.
    #[allow(dead_code)]
    pub problem: String,
}

fn curl(args: &[&str], stdin: &[u8]) -> Reply {
    let mut child = Command::new("curl")
        .args(["-w", "\n%{http_code} %{http_version}", "--max-time", "60"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("curl");
    let mut input = child.stdin.take().unwrap();
    let output = thread::scope(|scope| {
        scope.spawn(move || {
            // It may have its answer before it has sent all.
            let _ = input.write_all(stdin);
        });
        child.wait_with_output().unwrap()
    });
    let text = String::from_utf8_lossy(&output.stdout);
    let (body, last) = text.rsplit_once('\n').unwrap();
    let (status, version) = last.split_once(' ').unwrap();
    Reply {
        status: status.parse().unwrap(),
        version: version.into(),
        body: body.into(),
        problem: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What a review came back with.
#[derive(Debug)]
pub struct Answer {
    /// The pod after the patch, if there was one.
    pub pod: Option<Value>,
    pub warnings: Vec<String>,
}

impl Answer {
    /// Checks what every answer has to be.
    pub fn new(asked: &Value, reply: &Reply) -> Self {
        let review: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(review["kind"], "AdmissionReview");
        let response = &review["response"];
        assert_eq!(response["uid"], asked["request"]["uid"]);
        assert_eq!(response["allowed"], true);
        let pod = response["patch"].as_str().map(|patch| {
            assert_eq!(response["patchType"], "JSONPatch");
            let patch = STANDARD.decode(patch).unwrap();
            let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
            let mut pod = asked["request"]["object"].clone();
            json_patch::patch(&mut pod, &patch).unwrap();
            pod
        });
        let warnings = response["warnings"].as_array().into_iter().flatten();
        Self {
            pod,
            warnings: warnings.map(|it| it.as_str().unwrap().into()).collect(),
        }
    }

    /// The names of the pod's containers, those of init first.
    pub fn containers(&self) -> Vec<String> {
        let Some(pod) = &self.pod else {
            return Vec::new();
        };
        ["initContainers", "containers"]
            .iter()
            .flat_map(|field| pod["spec"][field].as_array().into_iter().flatten())
            .map(|container| container["name"].as_str().unwrap().into())
            .collect()
    }
}

/// Waits until something is as it should be.
pub fn until<T: Debug>(what: &str, get: impl Fn() -> T, is: impl Fn(&T) -> bool) -> T {
    let begun = Instant::now();
    loop {
        let value = get();
        if is(&value) {
            return value;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "not {what}: {value:?}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// A command's output, both kinds, and whether it succeeded.
pub fn run(program: &str, args: &[&str], input: &Path) -> (bool, String) {
    let output = Command::new(program)
        .args(args)
        .stdin(fs::File::open(input).unwrap())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text += &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}
