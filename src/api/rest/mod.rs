//! The REST API `2010-04-01`, as the official SDKs speak it.
//!
//! One file per resource. What they share: `auth` (who asks), `form` (what they ask for), `page` (long lists) and
//! `fault` (why not). Every query is keyed by the account of the path, which is that of the credentials.

mod accounts;
mod applications;
mod audio;
mod auth;
mod bills;
mod budget;
mod call_events;
mod caller_ids;
mod calls;
mod clients;
mod concurrency;
mod conferences;
mod fault;
mod fields;
mod form;
mod keys;
mod limits;
mod messages;
mod notifications;
mod numbers;
mod openapi;
mod page;
mod queues;
mod recordings;
mod resources;
mod sinks;
mod sip;
mod streams;
mod table;
mod triggers;
mod trunks;
mod usage;
mod user_messages;

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use tower_http::catch_panic::CatchPanicLayer;

use super::View;
use crate::account::{Account, Directory};
pub(super) use calls::resource as shown_call;
pub(super) use conferences::resource as shown_conference;
pub(super) use fault::Fault;
pub use limits::RequestPlaces;
pub use sinks::SinkTest;
use table::Table;
pub use table::{Param, Route};

/// A form of the SDKs is a few kilobytes; TwiML in one is 4,000 characters at most.
const MAX_FORM_BYTES: usize = 256 << 10;

pub(super) fn router(view: &View) -> Router<View> {
    let limit = from_fn_with_state((view.clone(), view.requests.clone()), limits::limit);
    answering_panics(table().router)
        .route("/openapi.json", axum::routing::get(openapi::serve))
        .method_not_allowed_fallback(method_not_allowed)
        .route("/2010-04-01/{*path}", axum::routing::any(not_found))
        .route("/v1/{*path}", axum::routing::any(not_found))
        .layer(limit)
        .layer(from_fn(only_by_its_own_name))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
}

/// Whether the headers have credentials of an account.
pub(super) fn is_authentic(view: &View, headers: &HeaderMap) -> bool {
    auth::authenticate(headers, &view.directory.load()).is_ok()
}

/// Whose credentials the headers have.
pub(super) fn account_of(headers: &HeaderMap, directory: &Directory) -> Option<Arc<Account>> {
    auth::authenticate(headers, directory).ok().map(|asking| asking.account)
}

/// A fault of ours is told as one, and its request is the only one that it breaks.
fn answering_panics<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.layer(CatchPanicLayer::custom(|_: Box<dyn Any + Send>| Fault::internal().into_response()))
}

/// Every route. axum matches whole path segments: the `.json` of an instance is part of the sid's segment.
pub(super) fn table() -> Table {
    let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
    let account = "/2010-04-01/Accounts/{account}";
    let below = |path: &str| format!("{account}{path}");
    let table = Table::default()
        .on(get.clone(), "/2010-04-01/Accounts.json", accounts::list)
        .lists(&["FriendlyName", "Status"])
        .on(post.clone(), "/2010-04-01/Accounts.json", accounts::create)
        .reads(&["FriendlyName"])
        .on(get.clone(), account, accounts::fetch)
        .on(post.clone(), account, accounts::update)
        .reads(&["FriendlyName", "Status"])
        .on(get.clone(), &below("/Calls.json"), calls::list)
        .lists(calls::FILTERS)
        .on(post.clone(), &below("/Calls.json"), calls::create)
        .reads(calls::PROGRAM)
        .reads(calls::PLACING)
        .reads(recordings::OPTIONS)
        .on(get.clone(), &below("/Calls/{sid}"), calls::fetch)
        .on(post.clone(), &below("/Calls/{sid}"), calls::update)
        .reads(calls::PROGRAM_OF_A_CHANGE)
        .reads(&["Status", "TimeLimit", "StatusCallback", "StatusCallbackMethod"])
        .on(delete.clone(), &below("/Calls/{sid}"), calls::remove)
        .on(get.clone(), &below("/Calls/{sid}/Events.json"), call_events::list)
        .lists(&[])
        .on(get.clone(), &below("/Calls/{sid}/Bill.json"), bills::fetch)
        .on(post.clone(), &below("/Calls/{sid}/UserDefinedMessages.json"), user_messages::create)
        .reads(user_messages::MESSAGE)
        .on(post.clone(), &below("/Calls/{sid}/UserDefinedMessageSubscriptions.json"), user_messages::subscribe)
        .reads(user_messages::SUBSCRIPTION)
        .on(delete.clone(), &below("/Calls/{sid}/UserDefinedMessageSubscriptions/{name}"), user_messages::unsubscribe)
        .on(post.clone(), &below("/Calls/{sid}/Streams.json"), streams::create)
        .reads(&streams::CREATE)
        .on(post.clone(), &below("/Calls/{sid}/Streams/{name}"), streams::update)
        .reads(streams::UPDATE)
        .on(get.clone(), &below("/Calls/{sid}/Notifications.json"), notifications::list_of_call)
        .lists(notifications::FILTERS)
        .on(get.clone(), &below("/Calls/{sid}/Notifications/{name}"), notifications::fetch_of_call)
        .on(get.clone(), &below("/Notifications.json"), notifications::list)
        .lists(notifications::FILTERS)
        .on(get.clone(), &below("/Notifications/{sid}"), notifications::fetch)
        .on(get.clone(), "/v1/Alerts", notifications::list_alerts)
        .lists(&["LogLevel", "StartDate", "EndDate"])
        .on(get.clone(), "/v1/Alerts/{sid}", notifications::fetch_alert)
        .on(get.clone(), &below("/Calls/{sid}/Recordings.json"), recordings::list_of_call)
        .lists(recordings::FILTERS)
        .on(post.clone(), &below("/Calls/{sid}/Recordings.json"), recordings::create_of_call)
        .reads(recordings::OPTIONS)
        .on(get.clone(), &below("/Calls/{sid}/Recordings/{name}"), recordings::fetch_of_call)
        .on(post.clone(), &below("/Calls/{sid}/Recordings/{name}"), recordings::update_of_call)
        .reads(&["Status", "PauseBehavior"])
        .on(delete.clone(), &below("/Calls/{sid}/Recordings/{name}"), recordings::remove_of_call)
        .on(get.clone(), &below("/Budget.json"), budget::fetch)
        .on(post.clone(), &below("/Budget.json"), budget::update)
        .reads(budget::SETTINGS)
        .on(get.clone(), &below("/Concurrency.json"), concurrency::list)
        .on(get.clone(), &below("/Concurrency/{sid}"), concurrency::fetch)
        .on(post.clone(), &below("/Concurrency/{sid}"), concurrency::update)
        .reads(concurrency::SETTINGS)
        .on(get.clone(), &below("/Concurrency/{sid}/Holders.json"), concurrency::holders)
        .on(get.clone(), &below("/Conferences.json"), conferences::list)
        .lists(conferences::FILTERS)
        .on(get.clone(), &below("/Conferences/{sid}"), conferences::fetch)
        .on(post.clone(), &below("/Conferences/{sid}"), conferences::update)
        .reads(&["Status", "AnnounceUrl", "AnnounceMethod"])
        .on(get.clone(), &below("/Conferences/{sid}/Participants.json"), conferences::list_participants)
        .lists(&["Muted", "Hold", "Coaching"])
        .on(post.clone(), &below("/Conferences/{sid}/Participants.json"), conferences::create_participant)
        .reads(conferences::MEMBERSHIP)
        .reads(calls::PLACING)
        .reads(recordings::OPTIONS)
        .on(get.clone(), &below("/Conferences/{sid}/Participants/{name}"), conferences::fetch_participant)
        .on(post.clone(), &below("/Conferences/{sid}/Participants/{name}"), conferences::update_participant)
        .reads(conferences::CHANGES)
        .on(delete.clone(), &below("/Conferences/{sid}/Participants/{name}"), conferences::remove_participant)
        .on(get.clone(), &below("/Conferences/{sid}/Recordings.json"), recordings::list_of_conference)
        .lists(recordings::FILTERS)
        .on(get.clone(), &below("/Conferences/{sid}/Recordings/{name}"), recordings::fetch_of_conference)
        .on(post.clone(), &below("/Conferences/{sid}/Recordings/{name}"), recordings::update_of_conference)
        .reads(&["Status", "PauseBehavior"])
        .on(delete.clone(), &below("/Conferences/{sid}/Recordings/{name}"), recordings::remove_of_conference)
        .on(get.clone(), &below("/Messages.json"), messages::list)
        .lists(messages::FILTERS)
        .on(post.clone(), &below("/Messages.json"), messages::create)
        .reads(messages::NEW)
        .on(get.clone(), &below("/Messages/{sid}"), messages::fetch)
        .on(post.clone(), &below("/Messages/{sid}"), messages::update)
        .reads(&["Body", "Status"])
        .on(delete.clone(), &below("/Messages/{sid}"), messages::remove)
        .on(get.clone(), &below("/Messages/{sid}/Media.json"), messages::list_media)
        .lists(recordings::FILTERS)
        .on(get.clone(), &below("/Queues/{sid}/Members.json"), queues::list_members)
        .lists(&[])
        .on(get.clone(), &below("/Queues/{sid}/Members/{name}"), queues::fetch_member)
        .on(post.clone(), &below("/Queues/{sid}/Members/{name}"), queues::update_member)
        .reads(&["Url", "Method"])
        .on(get.clone(), &below("/Recordings.json"), recordings::list)
        .lists(&["CallSid", "ConferenceSid", "IncludeSoftDeleted"])
        .reads(recordings::FILTERS)
        .on(get.clone(), &below("/Recordings/{sid}/Transcriptions.json"), recordings::list_transcriptions)
        .lists(&[])
        .on(get.clone(), &below("/Recordings/{sid}"), recordings::fetch)
        .on(delete.clone(), &below("/Recordings/{sid}"), recordings::remove)
        .on(get.clone(), &below("/IncomingPhoneNumbers.json"), numbers::list)
        .lists(&["PhoneNumber", "FriendlyName", "Beta", "Origin"])
        .on(post.clone(), &below("/IncomingPhoneNumbers.json"), numbers::create)
        .reads(&["PhoneNumber", "AreaCode"])
        .reads_fields(numbers::FIELDS)
        .on(get.clone(), &below("/IncomingPhoneNumbers/{sid}"), numbers::fetch)
        .on(post.clone(), &below("/IncomingPhoneNumbers/{sid}"), numbers::update)
        .reads(&["AccountSid"])
        .reads_fields(numbers::FIELDS)
        .on(delete, &below("/IncomingPhoneNumbers/{sid}"), numbers::remove)
        .on(post.clone(), &below("/OutgoingCallerIds.json"), caller_ids::validate)
        .reads(&["PhoneNumber", "StatusCallback", "StatusCallbackMethod"])
        .reads_fields(caller_ids::FIELDS)
        .on(post.clone(), &below("/Keys.json"), keys::create)
        .reads_fields(keys::FIELDS)
        .on(post.clone(), &below("/SigningKeys.json"), keys::create)
        .reads_fields(keys::FIELDS)
        .on(get.clone(), &below("/metrics"), usage::metrics)
        .on(post, &below("/Tokens.json"), keys::token)
        .reads(&["Ttl"])
        .on(get, &below("/Balance.json"), budget::balance);
    let alone = [&applications::SPEC, &caller_ids::SPEC, &keys::KEYS, &keys::SIGNING_KEYS, &queues::SPEC];
    let table = clients::routes(sinks::routes(triggers::routes(usage::routes(table))));
    trunks::routes(alone.into_iter().chain(sip::SPECS).fold(table, |table, spec| spec.routes(table)))
}

/// Products have the same paths: one that is asked for by Twilio's name of another is not found. By any other name all
/// are served side by side.
async fn only_by_its_own_name(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let named = host.strip_suffix(".twilio.com").and_then(|names| names.split('.').next());
    match named.is_none_or(|product| product == product_of(request.uri().path())) {
        true => next.run(request).await,
        false => Fault::not_found(request.uri().path()).into_response(),
    }
}

/// The first part of the host that has a path at Twilio.
fn product_of(path: &str) -> &'static str {
    match path.strip_prefix("/v1/").map(|rest| rest.split('/').next().unwrap_or_default()) {
        None => "api",
        Some("Trunks") => "trunking",
        Some("Alerts") => "monitor",
        Some(_) => "",
    }
}

async fn not_found(uri: Uri) -> Fault {
    Fault::not_found(uri.path())
}

async fn method_not_allowed(method: Method, uri: Uri) -> Fault {
    Fault::new(405, 20_004, format!("Method {method} is not allowed on {}", uri.path()))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn fault_of_ours_is_answered_with_20500() {
        async fn broken() -> &'static str {
            panic!("a fault of ours")
        }
        let router: Router = answering_panics(Router::new().route("/", get(broken)));
        let response = router.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 500);
        let body = to_bytes(response.into_body(), 1_000).await.unwrap();
        let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&told["code"], &told["status"]), (&20_500.into(), &500.into()));
        assert!(!told.to_string().contains("a fault of ours"), "{told}");
    }
}
