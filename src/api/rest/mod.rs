//! The REST API `2010-04-01`, as the official SDKs speak it.
//!
//! One file per resource. What they share: `auth` (who asks), `form` (what they ask for), `page` (long lists) and
//! `fault` (why not). Every query is keyed by the account of the path, which is that of the credentials.

mod accounts;
mod auth;
mod calls;
mod fault;
mod form;
mod notifications;
mod numbers;
mod page;
mod recordings;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::routing::get;

use super::View;
use fault::Fault;

/// A form of the SDKs is a few kilobytes; TwiML in one is 4,000 characters at most.
const MAX_FORM_BYTES: usize = 256 << 10;

pub(super) fn router() -> Router<View> {
    Router::new()
        .route("/2010-04-01/Accounts.json", get(accounts::list))
        // axum matches whole path segments: the `.json` of an instance is part of the sid's segment.
        .route("/2010-04-01/Accounts/{account}", get(accounts::fetch))
        .route("/2010-04-01/Accounts/{account}/Calls.json", get(calls::list).post(calls::create))
        .route(
            "/2010-04-01/Accounts/{account}/Calls/{sid}",
            get(calls::fetch).post(calls::update).delete(calls::remove),
        )
        .route("/2010-04-01/Accounts/{account}/Calls/{sid}/Notifications.json", get(notifications::list))
        .route("/2010-04-01/Accounts/{account}/Calls/{sid}/Notifications/{name}", get(notifications::fetch))
        .route(
            "/2010-04-01/Accounts/{account}/Calls/{sid}/Recordings.json",
            get(recordings::list_of_call).post(recordings::create_of_call),
        )
        .route(
            "/2010-04-01/Accounts/{account}/Calls/{sid}/Recordings/{name}",
            get(recordings::fetch_of_call).post(recordings::update_of_call).delete(recordings::remove_of_call),
        )
        .route("/2010-04-01/Accounts/{account}/Recordings.json", get(recordings::list))
        .route("/2010-04-01/Accounts/{account}/Recordings/{name}", get(recordings::fetch).delete(recordings::remove))
        .route("/2010-04-01/Accounts/{account}/IncomingPhoneNumbers.json", get(numbers::list))
        .route("/2010-04-01/Accounts/{account}/IncomingPhoneNumbers/{name}", get(numbers::fetch))
        .method_not_allowed_fallback(method_not_allowed)
        .route("/2010-04-01/{*path}", axum::routing::any(not_found))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
}

async fn not_found(uri: Uri) -> Fault {
    Fault::not_found(uri.path())
}

async fn method_not_allowed(method: Method, uri: Uri) -> Fault {
    Fault::new(405, 20_004, format!("Method {method} is not allowed on {}", uri.path()))
}
