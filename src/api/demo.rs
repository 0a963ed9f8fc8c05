//! The documents of the demo's spoken menu, as `dialtone dev` serves them to itself.

use axum::Router;
use axum::extract::RawForm;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use super::View;

pub(super) fn router() -> Router<View> {
    Router::new().route("/demo/menu", post(menu)).route("/demo/choice", post(choice))
}

async fn menu() -> Response {
    twiml(
        "<Gather numDigits=\"1\" action=\"/demo/choice\" timeout=\"6\"><Play>dialtone:demo-menu</Play></Gather>\
         <Play>dialtone:no-input</Play><Redirect>/demo/menu</Redirect>",
    )
}

async fn choice(RawForm(form): RawForm) -> Response {
    let digits =
        url::form_urlencoded::parse(&form).find(|(name, _)| name == "Digits").map(|(_, value)| value.into_owned());
    match digits.as_deref() {
        Some("1") => twiml("<Play>dialtone:pressed-one</Play><Redirect>/demo/menu</Redirect>"),
        Some("2") => twiml("<Play>dialtone:pressed-two</Play><Echo/>"),
        _ => twiml("<Play>dialtone:goodbye</Play><Hangup/>"),
    }
}

fn twiml(verbs: &str) -> Response {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response>{verbs}</Response>");
    ([(header::CONTENT_TYPE, "text/xml")], body).into_response()
}
