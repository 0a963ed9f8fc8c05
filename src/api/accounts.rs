//! Accounts for the operator: one that a usage trigger has stopped goes on.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::operator::Operator;
use super::{View, error};
use crate::ids::AccountSid;
use crate::store::Kind;

/// `Status=active` is all that can be changed.
pub(super) async fn change(_: Operator, State(view): State<View>, Path(sid): Path<String>, form: String) -> Response {
    if !url::form_urlencoded::parse(form.as_bytes()).any(|(key, value)| key == "Status" && value == "active") {
        return error(StatusCode::BAD_REQUEST, 20_001, "only Status=active can be asked of an account here");
    }
    let Some(account) = sid.parse::<AccountSid>().ok().filter(|sid| view.directory.load().account(*sid).is_some())
    else {
        return error(StatusCode::NOT_FOUND, 20_404, &format!("there is no account {sid}"));
    };
    if let Err(away) = let_go_on(&view, account).await {
        return away;
    }
    let status = view.directory.load().account(account).map_or("closed", |account| account.standing().as_str());
    Json(serde_json::json!({ "sid": sid, "status": status })).into_response()
}

/// Takes back what a usage trigger has done.
pub(super) async fn let_go_on(view: &View, account: AccountSid) -> Result<(), Response> {
    let sid = account.to_string();
    let deleted = view.provisioning.delete(&sid, Kind::Suspension, "", &sid).await;
    deleted.map(drop).map_err(|_| error(StatusCode::SERVICE_UNAVAILABLE, 20_503, "the store does not answer"))
}
