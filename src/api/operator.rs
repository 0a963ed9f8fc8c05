//! Who may do everything: whoever has the operator's token.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;

use super::{View, error};

/// As the first argument of a handler: nothing else of the request is looked at before it.
pub(super) struct Operator;

impl FromRequestParts<View> for Operator {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, view: &View) -> Result<Operator, Response> {
        let denied =
            || error(StatusCode::UNAUTHORIZED, 20_003, "this needs the operator token: Authorization: Bearer TOKEN");
        is_operator(view, &parts.headers).then_some(Operator).ok_or_else(denied)
    }
}

/// Whether a request carries the operator's token.
pub(super) fn is_operator(view: &View, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    given.and_then(|value| value.strip_prefix("Bearer ")).is_some_and(|token| view.operator_token.matches(token))
}
