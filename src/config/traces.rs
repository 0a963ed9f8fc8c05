//! `[traces]`: a collector of OpenTelemetry.

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

use super::file;
use super::read::Reader;
use super::{ConfigError, Traces};

pub(super) fn traces(reader: &Reader<'_>, traces: &file::Traces) -> Result<Traces, ConfigError> {
    let is_url = |url: &String| ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    let endpoint = traces.endpoint.get_ref();
    if !is_url(endpoint) || endpoint.parse::<Uri>().is_err() {
        let message = format!(
            "wrong value of `endpoint`: \"{endpoint}\" is not a URL such as \"http://127.0.0.1:4318/v1/traces\""
        );
        return Err(reader.fault(&traces.endpoint, message));
    }
    let mut headers = Vec::new();
    for (name, value) in &traces.headers {
        if HeaderName::try_from(name.get_ref().as_str()).is_err() {
            return Err(reader.fault(name, format!("`{}` is no name of a header", name.get_ref())));
        }
        let secret = reader.secret(value, name.get_ref())?;
        if HeaderValue::try_from(secret.expose()).is_err() {
            return Err(reader.fault(value, format!("the value of `{}` fits into no header", name.get_ref())));
        }
        headers.push((name.get_ref().clone(), secret));
    }
    let share = match &traces.share {
        None => 1.0,
        Some(share) if (0.0..=1.0).contains(share.get_ref()) => *share.get_ref(),
        Some(share) => return Err(reader.fault(share, "wrong value of `share`: it is a number from 0 to 1")),
    };
    Ok(Traces { endpoint: endpoint.clone(), headers, share })
}
