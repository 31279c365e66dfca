//! What an API server asks and hears: AdmissionReview of `admission.k8s.io/v1`.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// A question. The object is not parsed yet.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    /// Goes back with the answer.
    pub uid: String,
    #[serde(default)]
    pub resource: Resource,
    #[serde(default)]
    pub sub_resource: String,
    #[serde(default)]
    pub namespace: String,
    #[serde(default)]
    pub operation: String,
    #[serde(borrow, default)]
    pub object: Option<&'a RawValue>,
    /// Nothing is to remain of the question.
    #[serde(default)]
    pub dry_run: bool,
}

/// The type in the question, such as v1 pods, whose group is empty.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Resource {
    pub group: String,
    pub version: String,
    pub resource: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    request: Option<&'a RawValue>,
}

impl<'a> Request<'a> {
    /// Reads a review.
    ///
    /// # Errors
    ///
    /// What `review` is instead of a review. Without a uid there is nothing that could be answered.
    pub fn parse(review: &'a [u8]) -> Result<Self, String> {
        let envelope: Envelope = serde_json::from_slice(review)
            .map_err(|error| format!("this is no JSON of an {KIND}: {error}"))?;
        if (&*envelope.api_version, &*envelope.kind) != (API_VERSION, KIND) {
            return Err(format!(
                "apiVersion {:?}, kind {:?}: only {KIND} of {API_VERSION} is understood",
                envelope.api_version, envelope.kind
            ));
        }
        let request = envelope
            .request
            .ok_or_else(|| format!("an {KIND} without a request"))?;
        let request: Self = serde_json::from_str(request.get())
            .map_err(|error| format!("the request of an {KIND}: {error}"))?;
        if request.uid.is_empty() {
            return Err(format!("the request of an {KIND}: its uid is empty"));
        }
        Ok(request)
    }

    /// Whether the question is about a pod that is being made, which is what the webhook is for.
    pub fn creates_pod(&self) -> bool {
        let Resource {
            group,
            version,
            resource,
        } = &self.resource;
        self.operation == "CREATE"
            && (&**group, &**version, &**resource) == ("", "v1", "pods")
            && self.sub_resource.is_empty()
    }
}

/// An answer, which always allows.
#[derive(Debug, Default)]
pub struct Answer {
    /// What makes the object with metricd in it of the object in the question.
    pub patch: Option<json_patch::Patch>,
    /// Warnings for whoever made the request.
    pub warnings: Vec<String>,
}

impl Answer {
    pub fn new(patch: Option<json_patch::Patch>, warnings: Vec<String>) -> Self {
        Self { patch, warnings }
    }

    /// The review that carries the answer back.
    pub fn review(&self, uid: &str) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Review<'a> {
            api_version: &'a str,
            kind: &'a str,
            response: Response<'a>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Response<'a> {
            uid: &'a str,
            allowed: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            patch_type: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            patch: Option<String>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            warnings: &'a [String],
        }
        let patch = self.patch.as_ref().map(json);
        let review = Review {
            api_version: API_VERSION,
            kind: KIND,
            response: Response {
                uid,
                allowed: true,
                patch_type: patch.is_some().then_some("JSONPatch"),
                patch: patch.map(|patch| STANDARD.encode(patch)),
                warnings: &self.warnings,
            },
        };
        json(&review)
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings and lists are JSON")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn review() -> Value {
        json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "operation": "CREATE",
                "namespace": "shop",
                "object": {"kind": "Pod"},
                "oldObject": null,
            },
        })
    }

    #[test]
    fn what_is_asked() {
        let text = review().to_string();
        let request = Request::parse(text.as_bytes()).unwrap();
        assert_eq!(request.uid, "705ab4f5-6393-11e8-b7cc-42010a800002");
        assert_eq!(request.namespace, "shop");
        assert_eq!(request.object.unwrap().get(), r#"{"kind":"Pod"}"#);
        assert!(request.creates_pod() && !request.dry_run);
        for (pointer, value) in [
            ("/request/operation", "UPDATE"),
            ("/request/resource/resource", "deployments"),
            ("/request/resource/group", "apps"),
            ("/request/subResource", "ephemeralcontainers"),
        ] {
            let mut other = review();
            other["request"]["subResource"] = "".into();
            *other.pointer_mut(pointer).unwrap() = value.into();
            let other = other.to_string();
            let request = Request::parse(other.as_bytes()).unwrap();
            assert!(!request.creates_pod(), "{pointer}");
        }
    }

    #[test]
    fn what_is_no_question() {
        let without = |key: &str| {
            let mut review = review();
            review["request"].as_object_mut().unwrap().remove(key);
            review.to_string()
        };
        let with = |key: &str, value: Value| {
            let mut review = review();
            review[key] = value;
            review.to_string()
        };
        for (text, problem) in [
            (String::new(), "EOF while parsing"),
            ("[]".into(), r#"apiVersion "", kind """#),
            (review().to_string() + "}", "trailing characters"),
            ("{}".into(), r#"apiVersion "", kind """#),
            (
                with("apiVersion", "admission.k8s.io/v1beta1".into()),
                "only AdmissionReview of admission.k8s.io/v1 is understood",
            ),
            (with("kind", "Pod".into()), r#"kind "Pod""#),
            (with("request", Value::Null), "without a request"),
            (with("request", json!([1])), "the request of an"),
            (with("request", json!({"uid": ""})), "its uid is empty"),
            (without("uid"), "missing field `uid`"),
        ] {
            let error = Request::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_answered() {
        let review =
            |answer: Answer| -> Value { serde_json::from_slice(&answer.review("1")).unwrap() };
        assert_eq!(
            review(Answer::default()),
            json!({
                "apiVersion": "admission.k8s.io/v1",
                "kind": "AdmissionReview",
                "response": {"uid": "1", "allowed": true},
            })
        );
        let answer = review(Answer {
            patch: Some(json_patch::diff(&json!({}), &json!({"a": 1}))),
            warnings: vec!["careful".into()],
        });
        let response = &answer["response"];
        assert_eq!(response["patchType"], "JSONPatch");
        assert_eq!(response["warnings"], json!(["careful"]));
        let patch = STANDARD
            .decode(response["patch"].as_str().unwrap())
            .unwrap();
        let patch: Value = serde_json::from_slice(&patch).unwrap();
        assert_eq!(patch, json!([{"op": "add", "path": "/a", "value": 1}]));
    }
}
