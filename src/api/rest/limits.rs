//! How many requests of an account are served at once; one more is told to come later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::auth::claimed;
use super::fault::Fault;
use crate::api::View;
use crate::ids::AccountSid;

/// Requests of one account at once: as many as Twilio takes.
const AT_ONCE: usize = 100;
const CONCURRENT: HeaderName = HeaderName::from_static("twilio-concurrent-requests");

/// The requests that are being served, by account.
#[derive(Clone, Default)]
pub struct Limits(Arc<Mutex<HashMap<AccountSid, Arc<Semaphore>>>>);

impl Limits {
    /// A place for a request, and how many are taken with it; `None` where all are.
    fn enter(&self, account: AccountSid) -> Option<(OwnedSemaphorePermit, usize)> {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let places = accounts.entry(account).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone();
        drop(accounts);
        let place = places.clone().try_acquire_owned().ok()?;
        Some((place, AT_ONCE - places.available_permits()))
    }
}

/// Counts for the account that the credentials name, whether they are right or not: a wrong one has its place for no
/// longer than it takes to refuse it.
pub async fn limit(State((view, limits)): State<(View, Limits)>, request: Request, next: Next) -> Response {
    let Some(account) = claimed(request.headers(), &view.directory.load()) else { return next.run(request).await };
    let Some((place, count)) = limits.enter(account) else {
        let why = format!("Too many requests at once: {AT_ONCE} of the account are being served");
        return Fault::new(429, 20_429, why).into_response();
    };
    let mut response = next.run(request).await;
    drop(place);
    response.headers_mut().insert(CONCURRENT, HeaderValue::from(count));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_has_its_places_for_itself_and_gets_them_back() {
        let limits = Limits::default();
        let (one, other) = (AccountSid::new(1), AccountSid::new(2));
        let mut held: Vec<_> = (1..=AT_ONCE)
            .map(|count| {
                let (place, taken) = limits.enter(one).unwrap();
                assert_eq!(taken, count);
                place
            })
            .collect();
        assert!(limits.enter(one).is_none());
        assert_eq!(limits.enter(other).map(|(_, taken)| taken), Some(1));
        held.pop();
        assert!(limits.enter(one).is_some());
    }
}
