//! Capability tokens: `scope:SERVICE:PRIVILEGE?PARAMS`, with spaces between, as the SDKs write them.

use std::sync::Arc;

use serde::Deserialize;

use super::{TokenError, active, check_times, claims, is_signed};
use crate::account::{Account, Directory};
use crate::ids::AccountSid;

/// What a capability token allows.
#[derive(Clone, Debug)]
pub struct Capability {
    pub account: Arc<Account>,
    /// Seconds since 1970.
    pub expires_s: u64,
    scopes: Vec<Scope>,
}

#[derive(Clone, Debug, PartialEq)]
struct Scope {
    service: String,
    privilege: String,
    params: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(default)]
    scope: String,
}

/// Reads a token and checks who has signed it.
pub fn read(token: &str, directory: &Directory, now_s: u64) -> Result<Capability, TokenError> {
    let Claims { iss, scope } = claims(token)?;
    let account = iss.parse::<AccountSid>().ok().and_then(|sid| directory.account(sid)).ok_or(TokenError::Signature)?;
    is_signed(token, account.auth_token.expose().as_bytes())?;
    let expires_s = check_times(token, now_s)?;
    active(directory, account)?;
    Ok(Capability { account: account.clone(), expires_s, scopes: scope.split(' ').filter_map(Scope::read).collect() })
}

impl Capability {
    /// The filters of a scope that lets its holder read the stream of events at `path`.
    pub fn stream(&self, path: &str) -> Result<Vec<(String, String)>, TokenError> {
        let found = self.scopes.iter().find(|scope| {
            (scope.service.as_str(), scope.privilege.as_str()) == ("stream", "subscribe")
                && scope.param("path").is_some_and(|known| known == path)
        });
        let scope = found.ok_or(TokenError::Scope)?;
        // One SDK writes the filters as `params`, another as `appParams`.
        let filters = ["params", "appParams"].into_iter().filter_map(|name| scope.param(name));
        Ok(filters
            .flat_map(|text| url::form_urlencoded::parse(text.as_bytes()).into_owned().collect::<Vec<_>>())
            .collect())
    }

    /// Whom its holder may be called as.
    pub fn incoming(&self) -> Option<&str> {
        let of = |scope: &&Scope| (scope.service.as_str(), scope.privilege.as_str()) == ("client", "incoming");
        self.scopes.iter().find(of)?.param("clientName").filter(|name| !name.is_empty())
    }
}

impl Scope {
    fn read(text: &str) -> Option<Scope> {
        let mut parts = text.strip_prefix("scope:")?.splitn(2, ':');
        let (service, rest) = (parts.next()?, parts.next()?);
        let (privilege, params) = rest.split_once('?').unwrap_or((rest, ""));
        let params = url::form_urlencoded::parse(params.as_bytes()).into_owned().collect();
        Some(Scope { service: service.to_owned(), privilege: privilege.to_owned(), params })
    }

    fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
