//! Who may listen, to what, and until when.

use axum::http::{HeaderMap, header};

use super::TOKEN;
use crate::account::{AccountStatus, Directory};
use crate::api::rest;
use crate::eventlog::Filter;
use crate::ids::AccountSid;
use crate::tokens::{TokenError, capability};

/// The path that a scope must name.
const PATH: &str = "/2010-04-01/Events";

/// What somebody has shown. Kept while the stream is open: whether it still holds is looked at again.
pub(super) struct Credentials {
    token: Option<String>,
    headers: HeaderMap,
}

/// What credentials allow.
pub(super) struct Grant {
    pub(super) account: AccountSid,
    pub(super) filter: Filter,
    /// Seconds since 1970; `None`: as long as the credentials hold.
    pub(super) expires_s: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No credentials, or wrong ones.
    Nothing,
    Inactive,
    Token(TokenError),
}

impl Credentials {
    pub(super) fn of(headers: &HeaderMap, query: &[(String, String)]) -> Credentials {
        let authorization = headers.get(header::AUTHORIZATION);
        let bearer = authorization.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned));
        let of_query = query.iter().find(|(name, _)| name == TOKEN).map(|(_, value)| value.clone());
        let headers = authorization.map(|value| (header::AUTHORIZATION, value.clone())).into_iter().collect();
        Credentials { token: of_query.or(bearer), headers }
    }

    pub(super) fn grant(&self, directory: &Directory, now_s: u64) -> Result<Grant, Refusal> {
        let Some(token) = &self.token else {
            let account = rest::account_of(&self.headers, directory).ok_or(Refusal::Nothing)?;
            return match account.standing() {
                AccountStatus::Active => Ok(Grant { account: account.sid, filter: Filter::default(), expires_s: None }),
                _ => Err(Refusal::Inactive),
            };
        };
        let capability = capability::read(token, directory, now_s).map_err(Refusal::Token)?;
        let filters = capability.stream(PATH).map_err(Refusal::Token)?;
        let filters = filters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        // A filter that is not understood might allow too much.
        let filter = Filter::read(filters).map_err(|_| Refusal::Token(TokenError::Scope))?;
        Ok(Grant { account: capability.account.sid, filter, expires_s: Some(capability.expires_s) })
    }
}
