//! Why a request is not answered with a review.

use std::borrow::Cow;

use hyper::StatusCode;

/// Why a request is no review that can be answered.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub text: Cow<'static, str>,
}

impl Refusal {
    pub fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }
}
