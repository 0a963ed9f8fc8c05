//! Why a request is refused, in Twilio's envelope.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// HTTP status, Twilio's error number, and what to do about it.
#[derive(Debug, PartialEq)]
pub struct Fault {
    status: u16,
    code: u32,
    message: String,
}

impl Fault {
    pub fn new(status: u16, code: u32, message: impl Into<String>) -> Fault {
        Fault { status, code, message: message.into() }
    }

    /// 401 / 20003: no credentials, or wrong ones; which of them is not told.
    pub fn unauthenticated() -> Fault {
        Fault::new(401, 20_003, "Authenticate")
    }

    /// 403 / 20005: the account is suspended or closed.
    pub fn inactive() -> Fault {
        Fault::new(403, 20_005, "The account is not active")
    }

    /// 403 / 20006: known, and not allowed to do this.
    pub fn denied(why: &str) -> Fault {
        Fault::new(403, 20_006, why)
    }

    /// 404 / 20404, also for what belongs to somebody else.
    pub fn not_found(path: &str) -> Fault {
        Fault::new(404, 20_404, format!("The requested resource {path} was not found"))
    }

    pub fn is_not_found(&self) -> bool {
        self.status == 404
    }

    /// 400 with the error number of the parameter, or 20001.
    pub fn parameter(code: u32, message: impl Into<String>) -> Fault {
        Fault::new(400, code, message)
    }

    /// 500 / 20500: a fault of ours.
    pub fn internal() -> Fault {
        Fault::new(500, 20_500, "An internal server error has occurred")
    }

    /// 503 / 20503: the database does not answer.
    pub fn store_is_away() -> Fault {
        Fault::unavailable("The store does not answer")
    }

    /// 503 / 20503: try again later.
    pub fn unavailable(what: &str) -> Fault {
        Fault::new(503, 20_503, format!("{what}: please try again"))
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = crate::api::error(status, self.code, &self.message);
        if self.status == 401 {
            let realm = header::HeaderValue::from_static("Basic realm=\"Twilio API\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
        }
        response
    }
}
