//! How commands reach a running server: over its HTTP address, with the operator token of its configuration.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::find_config;
use crate::config::Config;

/// Asks the running server, with the operator token of its configuration.
pub(super) fn ask(config: Option<PathBuf>, path: &str) -> Result<Bytes, String> {
    request(config, path, None)
}

/// Tells it something, as a form.
pub(super) fn tell(config: Option<PathBuf>, path: &str, form: &'static str) -> Result<(), String> {
    request(config, path, Some(form)).map(|_| ())
}

fn request(config: Option<PathBuf>, path: &str, form: Option<&'static str>) -> Result<Bytes, String> {
    let file = find_config(config.as_deref())?;
    let config = Config::load(&file).map_err(|error| error.to_string())?;
    if config.http.operator_token.is_empty() {
        return Err(format!("{} has no [http] operator_token, which this command needs", file.display()));
    }
    let mut address = config.http.listen;
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let request = Request::builder()
            .method(if form.is_some() { Method::POST } else { Method::GET })
            .uri(format!("http://{address}{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", config.http.operator_token.expose()))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::<Bytes>::from(form.unwrap_or_default()))
            .map_err(|error| error.to_string())?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let response = client
            .request(request)
            .await
            .map_err(|_| format!("no server answers at http://{address}: is it running?"))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
    })
}

fn refusal(status: StatusCode, body: &[u8]) -> String {
    let message = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|value| Some(value.get("message")?.as_str()?.to_owned()));
    message.unwrap_or_else(|| format!("the server answered {status}"))
}
