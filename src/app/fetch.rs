//! Fetches a document for a call: signed, retried, limited, counted.

use std::time::Instant;

use bytes::Bytes;
use hyper::{Method, header};

use crate::app::client::{Answer, Client};
use crate::app::failure::FetchFailure;
use crate::app::request::{Asker, Outgoing, RequestKind, uuid_of};
use crate::events::traceparent;
use crate::ids::{AccountSid, CallSid};
use crate::secret::Secret;
use crate::telemetry::accounts::{self, Series};
use sha2::{Digest, Sha256};

/// A document larger than this is cut, and error 11750.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024;

/// What is asked of a customer's server.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    pub account: AccountSid,
    pub call: CallSid,
    /// Of the account that owns the call; the key of the signature.
    pub token: Secret,
    /// Absolute; its fragment may say how patiently (`#rc=2&rp=5xx`).
    pub url: String,
    /// A POST sends the parameters as a form, a GET appends them to the query.
    pub method: Method,
    /// In the order in which they are sent; of equal names the first counts.
    pub params: Vec<(String, String)>,
    pub kind: RequestKind,
    /// Which of the call's requests it is: one that is sent again after a crash has the same idempotency token.
    pub number: Option<u32>,
}

/// A document as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Empty where the content type is audio: that is played from its URL.
    pub body: Bytes,
    /// `None` where there was no such header, or it was no text.
    pub content_type: Option<String>,
    /// Where it came from: the URL that was asked for, without fragment and our parameters, or the last redirect's.
    pub url: String,
}

impl Client {
    /// Fetches a document. Takes no longer than the total time, 15 s unless the URL says less.
    ///
    /// # Errors
    /// After the last try. [`FetchFailure::code`] is Twilio's number; its URL is without a password.
    pub async fn fetch(&self, request: FetchRequest) -> Result<Fetched, FetchFailure> {
        let FetchRequest { account, call, token, url, method, params, kind, number } = request;
        let mut outgoing = Outgoing::new(Asker { account, call, token }, url, method, params, kind);
        outgoing.max_body_bytes = MAX_DOCUMENT_BYTES;
        if let Some(number) = number {
            let hash = Sha256::new_with_prefix(call.bits().to_be_bytes()).chain_update(number.to_be_bytes()).finalize();
            outgoing.idempotency_token = uuid_of(u128::from_be_bytes(hash[..16].try_into().expect("half of it")));
            outgoing.traceparent = self.traces().then(|| traceparent(call, number));
        }
        let answer = self.send_counted(&outgoing).await?;
        let content_type = answer.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Ok(Fetched { content_type: content_type.map(str::to_owned), body: answer.body, url: answer.url })
    }

    /// Sends and counts: one request, however many tries and hops it takes.
    pub(super) async fn send_counted(&self, outgoing: &Outgoing) -> Result<Answer, FetchFailure> {
        let start = Instant::now();
        let result = self.send(outgoing).await;
        let kind = outgoing.kind.as_str();
        let outcome = result.as_ref().map_or_else(|failure| failure.cause.label(), |_| "ok");
        accounts::add(outgoing.account, Series::Webhooks(kind, outcome), 1);
        metrics::histogram!("dialtone_webhook_duration_seconds", "kind" => kind).record(start.elapsed().as_secs_f64());
        result
    }
}
