//! Delivers status callbacks: each call's one after another, in the order in which they were given, and no call waits.
//!
//! A callback that fails is tried again with growing pauses and the same idempotency token; a customer's server that
//! is down for half a minute misses nothing. Both queues are bounded: a call that has too many waiting loses its
//! newest, and so does everyone while the total is reached. What is lost is logged and counted.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hyper::Method;
use tokio::sync::watch;

use crate::app::client::Client;
use crate::app::failure::FetchError;
use crate::app::request::{Asker, Outgoing, RequestKind, uuid_of};
use crate::ids::{AccountSid, CallSid, EventSid};
use crate::secret::Secret;

/// A callback's answer is not read further than this.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// How patiently callbacks are delivered.
#[derive(Clone, Copy, Debug)]
pub struct CallbackLimits {
    /// Waiting for one call.
    pub per_call: usize,
    /// Waiting in all.
    pub total: usize,
    /// Tries of one callback.
    pub tries: u32,
    /// Before the second try; doubled before each further one.
    pub pause: Duration,
}

impl Default for CallbackLimits {
    fn default() -> Self {
        Self { per_call: 100, total: 100_000, tries: 5, pause: Duration::from_secs(1) }
    }
}

/// A callback to be delivered.
#[derive(Clone, Debug)]
pub struct CallbackRequest {
    /// The event that it tells of, and its call: whoever keeps events is told when it is delivered, and a callback that is sent
    /// again after a crash has the same idempotency token.
    pub event: Option<(CallSid, EventSid)>,
    pub account: AccountSid,
    pub call: CallSid,
    pub token: Secret,
    pub url: String,
    pub method: Method,
    /// All that is told, `SequenceNumber` included.
    pub params: Vec<(String, String)>,
}

/// Why a callback was not even queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackRefused {
    /// Too many of this call are waiting.
    CallIsFull,
    /// Too many are waiting.
    AllIsFull,
}

impl fmt::Display for CallbackRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CallIsFull => "too many callbacks of the call are waiting",
            Self::AllIsFull => "too many callbacks are waiting",
        })
    }
}

impl std::error::Error for CallbackRefused {}

/// A cheap handle; all clones share the queues. Needs a tokio runtime around it.
#[derive(Clone)]
pub struct Callbacks {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    limits: CallbackLimits,
    /// Is told of events whose callbacks are delivered, or given up.
    delivered: OnceLock<Box<dyn Fn(CallSid, EventSid) + Send + Sync>>,
    /// A call is here while one of its callbacks is waiting or under way.
    queues: Mutex<HashMap<CallSid, VecDeque<CallbackRequest>>>,
    /// Waiting and under way.
    outstanding: watch::Sender<usize>,
}

impl Callbacks {
    pub fn new(client: Client, limits: CallbackLimits) -> Self {
        let (queues, outstanding) = (Mutex::default(), watch::Sender::new(0));
        let inner = Inner { client, limits, delivered: OnceLock::new(), queues, outstanding };
        Self { inner: Arc::new(inner) }
    }

    /// `told` is called with each event whose callback is delivered, or given up.
    pub fn when_delivered(&self, told: impl Fn(CallSid, EventSid) + Send + Sync + 'static) {
        let _ = self.inner.delivered.set(Box::new(told));
    }

    /// Queues a callback; returns at once.
    ///
    /// # Errors
    /// If a queue is full: the callback is lost, which is logged and counted here.
    pub fn deliver(&self, request: CallbackRequest) -> Result<(), CallbackRefused> {
        let (account, call) = (request.account, request.call);
        let result = self.queue(request);
        if let Err(refused) = &result {
            tracing::warn!(%account, call_sid = %call, "status callback lost: {refused}");
            lost("queue_full");
        }
        result
    }

    /// Waits until nothing is waiting or under way. Callbacks that are queued meanwhile are waited for too.
    pub async fn drain(&self) {
        let mut outstanding = self.inner.outstanding.subscribe();
        // The sender is our own, so it cannot be gone.
        let _ = outstanding.wait_for(|count| *count == 0).await;
    }

    fn queue(&self, request: CallbackRequest) -> Result<(), CallbackRefused> {
        let call = request.call;
        let limits = self.inner.limits;
        let mut queues = self.inner.queues();
        if *self.inner.outstanding.borrow() >= limits.total {
            return Err(CallbackRefused::AllIsFull);
        }
        let is_running = match queues.get_mut(&call) {
            Some(queue) if queue.len() >= limits.per_call => return Err(CallbackRefused::CallIsFull),
            Some(queue) => {
                queue.push_back(request);
                true
            }
            None => {
                queues.insert(call, VecDeque::from([request]));
                false
            }
        };
        self.inner.outstanding.send_modify(|count| *count += 1);
        drop(queues);
        if !is_running {
            tokio::spawn(self.inner.clone().run(call));
        }
        Ok(())
    }
}

impl Inner {
    /// Delivers all callbacks of a call, until there is none.
    async fn run(self: Arc<Self>, call: CallSid) {
        while let Some(request) = self.next(call) {
            let event = request.event;
            self.deliver(request).await;
            if let (Some((call, event)), Some(delivered)) = (event, self.delivered.get()) {
                delivered(call, event);
            }
            self.outstanding.send_modify(|count| *count -= 1);
        }
    }

    /// The next of a call; without one, the call is taken off the list.
    fn next(&self, call: CallSid) -> Option<CallbackRequest> {
        let mut queues = self.queues();
        let next = queues.get_mut(&call).and_then(VecDeque::pop_front);
        if next.is_none() {
            queues.remove(&call);
        }
        next
    }

    async fn deliver(&self, request: CallbackRequest) {
        let CallbackRequest { event, account, call, token, url, method, params } = request;
        let asker = Asker { account, call, token };
        let mut outgoing = Outgoing::new(asker, url, method, params, RequestKind::StatusCallback);
        outgoing.max_body_bytes = MAX_ANSWER_BYTES;
        if let Some((_, event)) = event {
            outgoing.idempotency_token = uuid_of(event.bits());
        }
        let mut pause = self.limits.pause;
        for left in (0..self.limits.tries).rev() {
            let failure = match self.client.send_counted(&outgoing).await {
                Ok(_) => return,
                // It was heard; what it answers is nobody's business.
                Err(failure) if matches!(failure.cause, FetchError::TooLarge { .. }) => return,
                Err(failure) => failure,
            };
            if left == 0 || !is_retried(failure.cause) {
                tracing::warn!(%account, call_sid = %call, code = failure.code(), "status callback lost: {failure}");
                lost("failed");
                return;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    fn queues(&self) -> std::sync::MutexGuard<'_, HashMap<CallSid, VecDeque<CallbackRequest>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What may be otherwise in a while. A 4xx is the server's last word, but for "later" and "too many".
const fn is_retried(cause: FetchError) -> bool {
    match cause {
        FetchError::Status(408 | 425 | 429 | 500..) => true,
        FetchError::Status(_)
        | FetchError::InvalidUrl
        | FetchError::ForbiddenAddress(_)
        | FetchError::TooManyRedirects => false,
        _ => true,
    }
}

fn lost(reason: &'static str) {
    metrics::counter!("dialtone_callbacks_lost_total", "reason" => reason).increment(1);
}
