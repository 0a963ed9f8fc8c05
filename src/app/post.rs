//! Posts JSON to a customer's server: events to a sink.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;

use crate::app::client::Client;
use crate::app::failure::{FetchError, FetchFailure};
use crate::app::request::{Asker, Outgoing, RequestKind};
use crate::ids::{AccountSid, CallSid};
use crate::secret::Secret;

/// An answer is wanted within this time, whatever the URL's fragment says.
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// JSON for a URL.
pub struct JsonPost {
    pub account: AccountSid,
    pub token: Secret,
    pub url: String,
    pub body: Bytes,
    /// The same for the same events, however often they are sent.
    pub idempotency_token: String,
}

impl Client {
    /// Posts, and waits for an answer of status 2xx. The hash of the body is in the query, and so in the signature.
    pub async fn post_json(&self, post: JsonPost) -> Result<(), FetchFailure> {
        let JsonPost { account, token, url, body, idempotency_token } = post;
        let asker = Asker { account, call: CallSid::new(0), token };
        let mut outgoing = Outgoing::new(asker, url, Method::POST, Vec::new(), RequestKind::Sink);
        outgoing.json = Some(body);
        outgoing.idempotency_token = idempotency_token;
        outgoing.max_body_bytes = MAX_ANSWER_BYTES;
        match tokio::time::timeout(PATIENCE, self.send(&outgoing)).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(FetchFailure::new(FetchError::TotalTimeout, &outgoing.url)),
        }
    }
}
