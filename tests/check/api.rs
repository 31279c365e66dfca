//! An API server that serves what a test gives it: objects by the path of their collection, and
//! texts by theirs. What was asked is written down. A log that is followed comes as the test sends
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use futures_util::stream::{self, BoxStream, StreamExt};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::golden::{TempDir, binary};

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// What the server has.
#[derive(Default)]
pub struct World {
    /// Objects, by the path of their collection.
    pub objects: BTreeMap<String, Vec<Value>>,
    /// Answers that are no objects, by path.
    pub texts: BTreeMap<String, String>,
    /// Resources that may not be created.
    pub denied: BTreeSet<String>,
    /// Collections that may not be read.
    pub forbidden: BTreeSet<String>,
    /// Statuses that a created pod has, one after the other; the last one stays.
    pub statuses: Vec<Value>,
    /// What a created pod writes.
    pub log: String,
    /// The same for who follows it.
    pub followed: Option<UnboundedReceiver<Piece>>,
    /// What was asked so far.
    pub requests: Vec<Asked>,
}

/// Of a log that is followed: some of it, or that it breaks off.
pub type Piece = io::Result<Frame<Bytes>>;

/// Where a test writes such a log; it ends with this.
pub struct Log(UnboundedSender<Piece>);

impl Log {
    /// With the other end, for [`World::followed`].
    pub fn new() -> (Self, Option<UnboundedReceiver<Piece>>) {
        let (send, receive) = unbounded_channel();
        (Self(send), Some(receive))
    }

    pub fn write(&self, text: &str) {
        let piece = Bytes::copy_from_slice(text.as_bytes());
        let _ = self.0.send(Ok(Frame::data(piece)));
    }

    pub fn break_off(self) {
        let _ = self.0.send(Err(io::ErrorKind::ConnectionReset.into()));
    }
}

type Body = Either<Full<Bytes>, StreamBody<BoxStream<'static, Piece>>>;

#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    /// Impersonate-User and Impersonate-Group.
    pub acting_as: Vec<String>,
    pub body: Value,
}

pub struct Api {
    address: SocketAddr,
    world: Arc<Mutex<World>>,
    dir: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Api {
    pub fn start(world: World) -> Self {
        let world = Arc::new(Mutex::new(world));
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let served = world.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = serve(listener, served) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address: told.recv().unwrap(),
            world,
            dir: TempDir::new("api"),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// The command line, with this as its cluster.
    pub fn command(&self, words: &str) -> Command {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url()}}],
            "users": [{"name": "test", "user": {"token": "secret"}}],
            "contexts": [
                {"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "emojivoto"}},
            ],
        });
        let path = self.dir.write("kubeconfig", &config.to_string());
        let mut command = binary();
        command.env("KUBECONFIG", path);
        command.args(words.split_whitespace());
        command
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// What was asked of it so far by this method.
    pub fn asked(&self, method: Method) -> Vec<Asked> {
        let world = self.world();
        let of = world.requests.iter().filter(|asked| asked.method == method);
        of.cloned().collect()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, world: Arc<Mutex<World>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let world = world.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, world.clone()));
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    world: Arc<Mutex<World>>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let acting_as = ["impersonate-user", "impersonate-group"];
    let acting_as = acting_as
        .iter()
        .flat_map(|name| head.headers.get_all(*name));
    let asked = Asked {
        method: head.method,
        path: head.uri.path().to_owned(),
        acting_as: acting_as
            .map(|value| value.to_str().unwrap().to_owned())
            .collect(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let query = head.uri.query().unwrap_or_default();
    let mut world = world.lock().unwrap();
    world.requests.push(asked.clone());
    let (code, body) = world.answer(&asked, query);
    let is_followed = code == 200 && asked.path.ends_with("/log") && query.contains("follow=true");
    let pieces = is_followed.then(|| world.followed.take()).flatten();
    let body = match (pieces, body) {
        (Some(mut pieces), _) => {
            let pieces = stream::poll_fn(move |context| pieces.poll_recv(context));
            Either::Right(StreamBody::new(pieces.boxed()))
        }
        (None, Value::String(text)) => Either::Left(text.into()),
        (None, json) => Either::Left(json.to_string().into()),
    };
    let response = Response::builder().status(code);
    let response = response.header("content-type", "application/json");
    Ok(response.body(body).unwrap())
}

impl World {
    fn answer(&mut self, asked: &Asked, query: &str) -> (u16, Value) {
        let path = asked.path.as_str();
        let (collection, name) = path.rsplit_once('/').unwrap_or_default();
        if self.forbidden.contains(path) || self.forbidden.contains(collection) {
            return status(
                403,
                &format!("{path} is forbidden: User \"dev\" cannot read it"),
            );
        }
        if asked.method == Method::POST && path == REVIEWS {
            let mut review = asked.body.clone();
            let resource = review["spec"]["resourceAttributes"]["resource"].as_str();
            let allowed = !self.denied.contains(resource.unwrap());
            review["status"] = json!({"allowed": allowed});
            return (201, review);
        }
        if asked.method == Method::POST {
            let mut object = asked.body.clone();
            let prefix = object["metadata"]["generateName"]
                .as_str()
                .unwrap_or_default();
            object["metadata"]["name"] = format!("{prefix}x7k2p").into();
            self.objects
                .entry(path.to_owned())
                .or_default()
                .push(object.clone());
            return (201, object);
        }
        if asked.method == Method::DELETE {
            let objects = self.objects.entry(collection.to_owned()).or_default();
            let before = objects.len();
            objects.retain(|object| object["metadata"]["name"] != name);
            return match objects.len() < before {
                true => (
                    200,
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}),
                ),
                false => status(404, &format!("\"{name}\" not found")),
            };
        }
        if let Some(text) = self.texts.get(path) {
            return (200, text.clone().into());
        }
        if name == "log" {
            return (200, self.log.clone().into());
        }
        if let Some(objects) = self.objects.get(path) {
            return (200, list(objects, query));
        }
        let objects = self.objects.get(collection).into_iter().flatten();
        let found = objects
            .clone()
            .find(|object| object["metadata"]["name"] == name);
        match found {
            Some(object) if object["metadata"]["generateName"].is_string() => {
                let mut object = object.clone();
                object["status"] = match self.statuses.len() {
                    0 => Value::Null,
                    1 => self.statuses[0].clone(),
                    _ => self.statuses.remove(0),
                };
                (200, object)
            }
            Some(object) => (200, object.clone()),
            None => status(404, &format!("\"{name}\" not found")),
        }
    }
}

/// A page of them, as `limit` and `continue` say.
fn list(objects: &[Value], query: &str) -> Value {
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| {
            value
                .replace("%3D", "=")
                .replace("%2C", ",")
                .replace("%2F", "/")
        })
    };
    let labels = parameter("labelSelector").unwrap_or_default();
    let selected = |object: &&Value| {
        let mut wanted = labels.split(',').filter_map(|label| label.split_once('='));
        wanted.all(|(label, value)| object["metadata"]["labels"][label] == value)
    };
    let selected: Vec<&Value> = objects.iter().filter(selected).collect();
    let number = |name| parameter(name).and_then(|text| text.parse().ok());
    let from = number("continue").unwrap_or(0);
    let limit = number("limit").unwrap_or(usize::MAX);
    let page: Vec<&Value> = selected.iter().copied().skip(from).take(limit).collect();
    let end = from + page.len();
    let more = (end < selected.len()).then(|| end.to_string());
    json!({
        "kind": "List",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "1", "continue": more.unwrap_or_default()},
        "items": page,
    })
}

fn status(code: u16, message: &str) -> (u16, Value) {
    let reason = match code {
        403 => "Forbidden",
        _ => "NotFound",
    };
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    });
    (code, status)
}
