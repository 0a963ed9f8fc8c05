//! How many requests of an account are served at once; one more is told to come later.
//!
//! A request holds its place until its work is done, whether somebody still waits for the answer or not. Where edges share limits
//! an account's is that of all together; one that nobody has set is for each edge by itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use dialtone_sip::time::Mono;
use tokio::sync::{Notify, oneshot};

use super::auth::claimed;
use super::fault::Fault;
use crate::account::Directory;
use crate::api::View;
use crate::clock::mono_us;
use crate::concurrency::{
    Acquired, Decision, Impede, InUse, Ledger, OnLoss, Request as Wanted, Resource, Scope, Slots, Want,
    account_and_owners,
};
use crate::hot::EdgeId;
use crate::ids::AccountSid;

/// Requests of one account at once, where nobody has said how many: as many as Twilio takes.
const USUAL: u32 = 100;
const CONCURRENT: HeaderName = HeaderName::from_static("twilio-concurrent-requests");

/// The places of requests. Clones are the same.
#[derive(Clone)]
pub struct RequestPlaces(Arc<Inner>);

struct Inner {
    places: Mutex<Places>,
    /// Somebody waits for the store's answer.
    asks: Notify,
}

struct Places {
    /// Of limits that were not set.
    usual: Slots,
    /// Of those that were.
    limited: Slots,
    waiting: HashMap<u128, oneshot::Sender<bool>>,
    requests: u128,
}

/// A place, until it is dropped.
struct Place {
    places: RequestPlaces,
    request: u128,
    is_limited: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.places.lock();
        let slots = if self.is_limited { &mut places.limited } else { &mut places.usual };
        slots.release((Resource::Api, self.request), now());
        places.decide();
        drop(places);
        self.places.0.asks.notify_one();
    }
}

fn now() -> Mono {
    Mono(mono_us())
}

impl RequestPlaces {
    /// `on_loss`: limits are shared with other edges.
    pub fn new(on_loss: Option<OnLoss>) -> RequestPlaces {
        let limited = on_loss.map_or_else(Slots::alone, Slots::shared);
        let places = Places { usual: Slots::alone(), limited, waiting: HashMap::new(), requests: 0 };
        RequestPlaces(Arc::new(Inner { places: Mutex::new(places), asks: Notify::new() }))
    }

    /// Asks the store for places, until the process ends; how many edges share it is told now and then.
    pub async fn share(self, ledger: Ledger, me: EdgeId, edges: impl Fn() -> Option<usize>) {
        loop {
            let (claim, wait) = {
                let mut places = self.lock();
                edges().into_iter().for_each(|count| places.limited.set_edges(count));
                places.limited.handle_timeout(now());
                places.decide();
                let claim = places.limited.poll_claim(now());
                (claim, places.limited.next_deadline().map_or(IDLE_US, |at| at.0.saturating_sub(mono_us())))
            };
            match claim {
                Some(claim) => {
                    let answer = ledger.claim(&me, claim).await;
                    let mut places = self.lock();
                    places.limited.handle_answer(answer, now());
                    places.decide();
                }
                None => {
                    let wait = Duration::from_micros(wait.max(1));
                    let _ = tokio::time::timeout(wait, self.0.asks.notified()).await;
                }
            }
        }
    }

    /// The store by which edges share limits has forgotten what this one holds.
    pub fn tell_again(&self) {
        self.lock().limited.tell_again();
        self.0.asks.notify_one();
    }

    /// A place for a request of an account, and how many it has with it.
    async fn enter(&self, account: AccountSid, directory: &Directory) -> Result<(Place, u32), Scope> {
        let set = account_and_owners(Resource::Api, account, directory);
        let is_limited = !set.is_empty();
        let usual = || vec![Want { scope: Scope::Account(Resource::Api, account), limit: USUAL }];
        let wants = if is_limited { set } else { usual() };
        let scope = wants[0].scope.clone();
        let (request, decided) = {
            let mut places = self.lock();
            places.requests += 1;
            let request = places.requests;
            let slots = vec![(Resource::Api, request)];
            let wanted = Wanted { slots, wants, impede: Impede::Reject, priority: 0, account };
            let own = if is_limited { &mut places.limited } else { &mut places.usual };
            match own.acquire(wanted, now()) {
                Acquired::Granted => (request, None),
                Acquired::Refused(scope) => return Err(scope),
                Acquired::Waits => {
                    let (decision, decided) = oneshot::channel();
                    places.waiting.insert(request, decision);
                    (request, Some(decided))
                }
            }
        };
        let place = Place { places: self.clone(), request, is_limited };
        if let Some(decided) = decided {
            self.0.asks.notify_one();
            if !decided.await.unwrap_or(false) {
                return Err(scope);
            }
        }
        let count = self.held().into_iter().find(|in_use| in_use.scope == scope).map_or(1, |in_use| in_use.held);
        Ok((place, count))
    }

    /// How many requests are being served.
    pub fn held(&self) -> Vec<InUse> {
        let places = self.lock();
        places.limited.held(Resource::Api).chain(places.usual.held(Resource::Api)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const IDLE_US: u64 = 1_000_000;

impl Places {
    /// Tells those who have waited. One that is not there any more gives its place back.
    fn decide(&mut self) {
        while let Some(decision) = self.limited.poll_decision() {
            let (slot, is_granted) = match decision {
                Decision::Granted(slot) => (slot, true),
                Decision::Refused(slot, _) => (slot, false),
                Decision::End(_) => continue,
            };
            let told = self.waiting.remove(&slot.1).is_some_and(|waiting| waiting.send(is_granted).is_ok());
            if is_granted && !told {
                self.limited.release(slot, now());
            }
        }
    }
}

/// Counts for the account that the credentials name, whether they are right or not: a wrong one has its place for no
/// longer than it takes to refuse it.
pub async fn limit(State((view, places)): State<(View, RequestPlaces)>, request: Request, next: Next) -> Response {
    let directory = view.directory.load_full();
    let Some(account) = claimed(request.headers(), &directory) else { return next.run(request).await };
    let (place, count) = match places.enter(account, &directory).await {
        Ok(entered) => entered,
        Err(_) => {
            metrics::counter!("dialtone_concurrency_impeded_total", "resource" => "api", "action" => "reject")
                .increment(1);
            return Fault::new(429, 20_429, "Too Many Requests").into_response();
        }
    };
    // Whoever hangs up does not stop the work in the middle.
    let work = tokio::spawn(async move {
        let response = next.run(request).await;
        drop(place);
        response
    });
    let mut response = work.await.unwrap_or_else(|_| Fault::internal().into_response());
    response.headers_mut().insert(CONCURRENT, HeaderValue::from(count));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Account, Limits};
    use crate::secret::Secret;

    fn directory(api: Option<u32>) -> Directory {
        let mut directory = Directory::default();
        for number in 1..3 {
            let account = Account::configured(AccountSid::new(number), Secret::new("token".to_owned()), String::new());
            directory.add_account(Account { limits: Limits { api, ..Limits::default() }, ..account }).unwrap();
        }
        directory
    }

    #[tokio::test]
    async fn cc_01_account_has_its_places_for_itself_and_gets_them_back() {
        for (api, most) in [(None, USUAL), (Some(5), 5)] {
            let (places, directory) = (RequestPlaces::new(None), directory(api));
            let (one, other) = (AccountSid::new(1), AccountSid::new(2));
            let mut held = Vec::new();
            for count in 1..=most {
                let (place, taken) = places.enter(one, &directory).await.unwrap();
                assert_eq!(taken, count, "cc_02: with itself");
                held.push(place);
            }
            assert!(places.enter(one, &directory).await.is_err());
            assert_eq!(places.enter(other, &directory).await.map(|(_, taken)| taken).ok(), Some(1));
            held.pop();
            held.push(places.enter(one, &directory).await.unwrap().0);
            assert!(places.enter(one, &directory).await.is_err());
            drop(held);
            assert_eq!(places.held(), [], "cc_17");
        }
    }

    #[tokio::test]
    async fn cc_03_edges_that_share_a_limit_serve_no_more_than_that_at_any_moment() {
        let hot = crate::hot::Hot::memory();
        let mut edges = Vec::new();
        for number in 0..4 {
            let me = EdgeId { node: number.to_string(), epoch: 1 };
            let (about, slots) = (String::new(), Vec::new());
            let beat = crate::hot::Command::Beat { edge: me.clone(), lease_ms: 60_000, about, slots, barrier_ms: 0 };
            hot.ask(beat).await.unwrap();
            let places = RequestPlaces::new(Some(OnLoss::Closed));
            tokio::spawn(places.clone().share(Ledger::Hot(hot.clone()), me, || None));
            edges.push(places);
        }
        let (inside, most) = (Arc::new(Mutex::new(0_u32)), Arc::new(Mutex::new(0_u32)));
        let requests = (0..100).map(|number| {
            let (places, inside, most) = (edges[number % 4].clone(), inside.clone(), most.clone());
            tokio::spawn(async move {
                let Ok((place, _)) = places.enter(AccountSid::new(1), &directory(Some(10))).await else { return 0 };
                {
                    let mut inside = inside.lock().unwrap();
                    *inside += 1;
                    let mut most = most.lock().unwrap();
                    *most = (*most).max(*inside);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                *inside.lock().unwrap() -= 1;
                drop(place);
                1
            })
        });
        let mut served = 0;
        for request in requests.collect::<Vec<_>>() {
            served += request.await.unwrap();
        }
        assert!(served >= 10, "{served} served");
        assert_eq!(*most.lock().unwrap(), 10);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let scope = Scope::Account(Resource::Api, AccountSid::new(1)).to_string();
        let left = Ledger::Hot(hot).holders(scope).await;
        assert_eq!(left, Some(vec![]), "no place is lost");
    }
}
