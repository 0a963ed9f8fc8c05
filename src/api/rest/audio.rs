//! The audio of a recording: whole or in part, in the form that is asked for, from wherever it is.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use http_range_header::parse_range_header;
use tower::ServiceExt;
use tower_http::services::ServeFile;

use super::fault::Fault;
use crate::api::View;
use crate::events::Recording;
use crate::ids::RecordingSid;
use crate::recordings::{ArchiveError, Audio, Form};

/// `wav` as it was recorded, or another form where the server can make it. Ranges are served as asked for.
pub(super) async fn serve(view: &View, recording: &Recording, kind: &str, request: Request) -> Result<Response, Fault> {
    let path = request.uri().path().to_owned();
    let not_found = || Fault::not_found(&path);
    let form = Form::named(kind).ok_or_else(not_found)?;
    let fact = when_complete(view, recording).await.fact;
    if !fact.status.is_final() {
        let text = "The recording is in progress: its audio is there when it is completed";
        return Err(Fault::new(404, 20_404, text));
    }
    if !fact.has_audio() {
        return Err(not_found());
    }
    let mut response = match found(view, fact.sid, form, request.map(|_| ())).await {
        Ok(response) => response,
        Err(ArchiveError::NotFound) => return Err(not_found()),
        Err(error @ ArchiveError::NoEncoder) => return Err(Fault::new(501, 20_001, error.to_string())),
        Err(ArchiveError::Away) => return Err(storage_is_away()),
        Err(error) => {
            tracing::error!(recording = %fact.sid, %error, "the audio of a recording cannot be given out");
            return Err(storage_is_away());
        }
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    Ok(response)
}

pub(super) fn storage_is_away() -> Fault {
    Fault::unavailable("The storage of recordings does not answer")
}

async fn found(view: &View, sid: RecordingSid, form: Form, request: Request<()>) -> Result<Response, ArchiveError> {
    match view.archive.audio(sid, form).await? {
        Audio::File(path) => {
            let response = of_file(&path, form, request.clone()).await;
            // It may be moved in this moment.
            if response.status() == StatusCode::NOT_FOUND && form == Form::Wav && view.archive.has_bucket() {
                return of_object(view, sid, request.method(), request.headers()).await;
            }
            Ok(response)
        }
        // Open by the time that the head of the response is there.
        Audio::Made(file) => Ok(of_file(file.path(), form, request).await),
        Audio::InBucket => of_object(view, sid, request.method(), request.headers()).await,
    }
}

async fn of_file(path: &std::path::Path, form: Form, request: Request<()>) -> Response {
    let mime = form.content_type().parse().expect("a content type");
    match ServeFile::new_with_mime(path, &mime).oneshot(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

/// As a file is served: one range or all, and 416 for what is not there.
async fn of_object(
    view: &View,
    sid: RecordingSid,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, ArchiveError> {
    let head = Response::builder()
        .header(header::CONTENT_TYPE, Form::Wav.content_type())
        .header(header::ACCEPT_RANGES, "bytes");
    let Some(asked) = headers.get(header::RANGE) else {
        let (bytes, body) = match *method {
            Method::HEAD => (view.archive.stored_bytes(sid).await?, Body::empty()),
            _ => view.archive.stored(sid, None).await?,
        };
        return Ok(head.header(header::CONTENT_LENGTH, bytes).body(body).expect("a response"));
    };
    let all = view.archive.stored_bytes(sid).await?;
    let ranges = asked.to_str().ok().and_then(|text| parse_range_header(text).ok()?.validate(all).ok());
    let Some([range]) = ranges.as_deref() else {
        let head =
            head.status(StatusCode::RANGE_NOT_SATISFIABLE).header(header::CONTENT_RANGE, format!("bytes */{all}"));
        return Ok(head.body(Body::empty()).expect("a response"));
    };
    let (first, last) = (*range.start(), *range.end());
    let body = match *method {
        Method::HEAD => Body::empty(),
        _ => view.archive.stored(sid, Some(first..last + 1)).await?.1,
    };
    let head = head
        .status(StatusCode::PARTIAL_CONTENT)
        .header(header::CONTENT_RANGE, format!("bytes {first}-{last}/{all}"))
        .header(header::CONTENT_LENGTH, last + 1 - first);
    Ok(head.body(body).expect("a response"))
}

/// That a recording is over may be known to whoever asks a moment before it is known here: it is waited for.
async fn when_complete(view: &View, recording: &Recording) -> Recording {
    const STEP: Duration = Duration::from_millis(20);
    let mut latest = recording.clone();
    for _ in 0..10 {
        if latest.fact.status.is_final() {
            break;
        }
        tokio::time::sleep(STEP).await;
        let (account, sid) = (latest.account, latest.fact.sid);
        latest = match view.recordings.get(account, sid) {
            Some(recording) => recording,
            None => view.store.recording(account, sid).await.ok().flatten().unwrap_or(latest),
        };
    }
    latest
}
