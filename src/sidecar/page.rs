//! The page on `/`: one document that shows `/metrics` to people, and asks nobody else.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY},
};
use sha2::{Digest, Sha256};

use super::http;

const HTML: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

struct Page {
    html: String,
    policy: String,
}

/// The page. It may use its own style and script, and ask its own server, nothing else (CSP Level
/// 3).
static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    Page {
        html: HTML.replace("{style}", STYLE).replace("{script}", SCRIPT),
        policy: format!(
            "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash(STYLE),
            hash(SCRIPT)
        ),
    }
});

pub fn page() -> Response<Full<Bytes>> {
    let page = &*PAGE;
    let mut response = http::full(
        StatusCode::OK,
        "text/html; charset=utf-8",
        page.html.as_str(),
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&page.policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
