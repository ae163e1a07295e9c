//! How a request is refused: as RFC 9457 has it.

use std::fmt;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::Problem;

/// A request that is not done.
pub(super) struct Refusal {
    status: StatusCode,
    detail: String,
    retry_after_s: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, detail: impl fmt::Display) -> Refusal {
        Refusal { status, detail: detail.to_string(), retry_after_s: None }
    }

    /// Something of ours failed.
    pub(super) fn failed(detail: impl fmt::Display) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    /// Not now.
    pub(super) fn unavailable(detail: impl fmt::Display) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// Too often.
    pub(super) fn too_many(detail: impl fmt::Display, retry_after_s: u64) -> Refusal {
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, detail);
        Refusal { retry_after_s: Some(retry_after_s), ..refusal }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = Problem {
            title: self.status.canonical_reason().unwrap_or("error").to_string(),
            status: self.status.as_u16(),
            detail: self.detail,
        };
        let mut response = (self.status, Json(problem)).into_response();
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
