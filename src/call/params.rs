//! The parameters of every request to the application (compat: voice request parameters).

use crate::call::Call;
use crate::events::CallStatus;

/// The API version that all requests name.
const API_VERSION: &str = "2010-04-01";

impl Call {
    /// The standard set, then what the verb adds.
    pub(super) fn params(&self, added: &[(String, String)]) -> Vec<(String, String)> {
        let opening = &self.opening;
        let status = match self.status() {
            // A leg that was refused or canceled before its answer still has a final word.
            status if status.is_final() => status,
            CallStatus::InProgress => CallStatus::InProgress,
            _ => CallStatus::Ringing,
        };
        let mut params: Vec<(String, String)> = [
            ("CallSid", opening.sid.to_string()),
            ("AccountSid", opening.account.to_string()),
            ("From", opening.from.clone()),
            ("To", opening.to.clone()),
            ("Caller", opening.from.clone()),
            ("Called", opening.to.clone()),
            ("CallStatus", status.as_str().to_owned()),
            ("Direction", opening.direction.as_str().to_owned()),
            ("ApiVersion", API_VERSION.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        if let Some(parent) = &self.parent {
            params.push(("ParentCallSid".to_owned(), parent.sid.to_string()));
        }
        params.extend(opening.params.iter().cloned());
        for (name, value) in added {
            // The validators of some frameworks refuse a name that stands twice: the verb's own value wins.
            params.retain(|(known, _)| known != name);
            params.push((name.clone(), value.clone()));
        }
        params
    }
}
