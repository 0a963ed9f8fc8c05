//! How requests go to the bucket, whose host the operator names.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use tokio::time::timeout;
use tower_http::timeout::TimeoutBody;

use crate::https;

/// Until the head of the response, and so for all that is sent.
const ANSWER: Duration = Duration::from_secs(30);
/// Between two pieces of a response.
const PIECE: Duration = Duration::from_secs(30);

/// Makes the one client of a bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connector {
    /// Whether the storage is asked without TLS.
    pub plain: bool,
}

impl object_store::client::HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Pool(https::pool(self.plain))))
    }
}

#[derive(Debug)]
struct Pool(https::Pool<HttpRequestBody>);

type Answer<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Pool {
    fn call<'a, 'b>(&'a self, request: HttpRequest) -> Answer<'b>
    where
        'a: 'b,
    {
        Box::pin(async move {
            let answered = timeout(ANSWER, self.0.request(request)).await;
            let answered = answered.map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?;
            let response = answered.map_err(|error| {
                let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Request };
                HttpError::new(kind, error)
            })?;
            Ok(response.map(|body| HttpResponseBody::new(TimeoutBody::new(PIECE, body).map_err(broken))))
        })
    }
}

fn broken(error: Box<dyn Error + Send + Sync>) -> HttpError {
    HttpError::new_boxed(HttpErrorKind::Interrupted, error)
}
