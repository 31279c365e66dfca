//! As much of an API server as the injector asks: namespaces, the version, and events.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
};

use futures_util::{StreamExt, future, stream};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Frame, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::TcpSocket,
    runtime,
    sync::{broadcast, oneshot},
    task::JoinSet,
};

/// A server on a thread of its own. Its port refuses connections until it is told to listen.
pub struct Api {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    listen: Option<oneshot::Sender<()>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changes: broadcast::Sender<Value>,
}

#[derive(Default)]
struct State {
    namespaces: BTreeMap<String, Value>,
    /// Those that are not told to who watches.
    unwatched: Vec<String>,
    revision: u64,
    events: Vec<Value>,
    minor: String,
    accepts: Vec<String>,
}

impl Api {
    /// One that listens.
    pub fn start() -> Self {
        let mut api = Self::away();
        api.listen();
        api
    }

    /// One that does not listen yet.
    pub fn away() -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                minor: "36".into(),
                ..State::default()
            }),
            changes: broadcast::channel(64).0,
        });
        let (listen, listening) = oneshot::channel::<()>();
        let (stop, stopped) = oneshot::channel::<()>();
        let (send, address) = mpsc::channel();
        let thread = thread::spawn({
            let shared = shared.clone();
            move || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(async {
                    let socket = TcpSocket::new_v4().unwrap();
                    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
                    send.send(socket.local_addr().unwrap()).unwrap();
                    let serve = async {
                        if listening.await.is_ok() {
                            serve(socket, shared).await;
                        }
                    };
                    tokio::select! {
                        () = serve => {}
                        _ = stopped => {}
                    }
                });
            }
        });
        Self {
            address: address.recv().unwrap(),
            shared,
            listen: Some(listen),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub fn listen(&mut self) {
        self.listen.take().unwrap().send(()).unwrap();
    }

    /// The minor version that it says it has.
    pub fn set_minor(&self, minor: &str) {
        self.shared.state.lock().unwrap().minor = minor.into();
    }

    /// Makes a namespace or changes it.
    pub fn set_namespace(&self, name: &str, labels: Value, annotations: Value) {
        let mut state = self.shared.state.lock().unwrap();
        let object = state.put(name, labels, annotations);
        let old = state.namespaces.insert(name.into(), object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        let _ = self
            .shared
            .changes
            .send(json!({"type": kind, "object": object}));
    }

    /// Makes one that the watch does not tell of.
    pub fn set_unwatched(&self, name: &str, annotations: Value) {
        let mut state = self.shared.state.lock().unwrap();
        let object = state.put(name, json!({}), annotations);
        state.namespaces.insert(name.into(), object);
        state.unwatched.push(name.into());
    }

    pub fn remove_namespace(&self, name: &str) {
        let object = self.shared.state.lock().unwrap().namespaces.remove(name);
        let _ = self
            .shared
            .changes
            .send(json!({"type": "DELETED", "object": object}));
    }

    /// What was written so far.
    pub fn events(&self) -> Vec<Value> {
        self.shared.state.lock().unwrap().events.clone()
    }

    /// What answers to questions about namespaces were to be like.
    pub fn accepts(&self) -> Vec<String> {
        self.shared.state.lock().unwrap().accepts.clone()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.listen.take();
        self.stop.take();
        let result = self.thread.take().unwrap().join();
        assert!(thread::panicking() || result.is_ok());
    }
}

impl State {
    fn put(&mut self, name: &str, labels: Value, annotations: Value) -> Value {
        self.revision += 1;
        json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": {
                "name": name,
                "uid": format!("uid-of-{name}"),
                "resourceVersion": self.revision.to_string(),
                "labels": labels,
                "annotations": annotations,
                "managedFields": [{"manager": "kubectl", "operation": "Update"}],
            },
        })
    }
}

async fn serve(socket: TcpSocket, shared: Arc<Shared>) {
    let listener = socket.listen(64).unwrap();
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(|request| {
                let shared = shared.clone();
                async move { Ok::<_, Infallible>(answer(request, &shared).await) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = connection.await;
        });
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Content> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut state = shared.state.lock().unwrap();
    let path: Vec<&str> = head.uri.path().split('/').skip(1).collect();
    if path.contains(&"namespaces")
        && head.method == Method::GET
        && let Some(accept) = head.headers.get("accept")
    {
        state.accepts.push(accept.to_str().unwrap().into());
    }
    let watch = head
        .uri
        .query()
        .is_some_and(|query| query.contains("watch=true"));
    match (&head.method, &*path) {
        (&Method::GET, ["version"]) => json_answer(
            StatusCode::OK,
            &json!({
                "major": "1", "minor": state.minor, "gitVersion": "v1.36.0", "gitCommit": "",
                "gitTreeState": "clean", "buildDate": "2026-04-01T00:00:00Z",
                "goVersion": "go1.26", "compiler": "gc", "platform": "linux/amd64",
            }),
        ),
        (&Method::GET, ["api", "v1", "namespaces"]) if watch => {
            let changes = stream::unfold(shared.changes.subscribe(), |mut changes| async {
                let line = format!("{}\n", changes.recv().await.ok()?);
                Some((Ok(Frame::data(line.into())), changes))
            });
            // The head goes out with the first piece, so there is one at once.
            let begin = stream::once(future::ready(Ok(Frame::data(Bytes::new()))));
            let body = StreamBody::new(begin.chain(changes).boxed());
            with_type(StatusCode::OK, Either::Right(body))
        }
        (&Method::GET, ["api", "v1", "namespaces"]) => {
            let watched = |name: &String| !state.unwatched.contains(name);
            let items: Vec<&Value> = state
                .namespaces
                .iter()
                .filter(|(name, _)| watched(name))
                .map(|(_, object)| object)
                .collect();
            json_answer(
                StatusCode::OK,
                &json!({
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": {"resourceVersion": state.revision.to_string()},
                    "items": items,
                }),
            )
        }
        (&Method::GET, ["api", "v1", "namespaces", name]) => match state.namespaces.get(*name) {
            Some(object) => json_answer(StatusCode::OK, object),
            None => status(StatusCode::NOT_FOUND, "NotFound"),
        },
        (
            &Method::POST | &Method::PATCH,
            [
                "apis",
                "events.k8s.io",
                "v1",
                "namespaces",
                namespace,
                "events",
                ..,
            ],
        ) => {
            let event: Value = serde_json::from_slice(&body).unwrap();
            let namespaces_agree = event["metadata"]["namespace"] == *namespace;
            let note = event["note"].as_str().unwrap_or_default();
            if !namespaces_agree || note.len() > 1024 {
                return status(StatusCode::UNPROCESSABLE_ENTITY, "Invalid");
            }
            state.events.push(event.clone());
            json_answer(StatusCode::CREATED, &event)
        }
        _ => status(StatusCode::NOT_FOUND, "NotFound"),
    }
}

type Stream = StreamBody<stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;
type Content = Either<Full<Bytes>, Stream>;

fn status(code: StatusCode, reason: &str) -> Response<Content> {
    json_answer(
        code,
        &json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": reason, "reason": reason, "code": code.as_u16(),
        }),
    )
}

fn json_answer(code: StatusCode, value: &Value) -> Response<Content> {
    with_type(code, Either::Left(Full::new(value.to_string().into())))
}

fn with_type(code: StatusCode, body: Content) -> Response<Content> {
    let response = Response::builder()
        .status(code)
        .header(CONTENT_TYPE, "application/json");
    response.body(body).unwrap()
}
