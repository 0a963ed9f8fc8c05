//! Calls of browsers that speak the official SDK: each is a SIP client inside this process (`signal`), and what SIP has no header
//! for goes in two of our own, which count on such a connection alone.

use std::sync::Arc;

use dialtone_sip::msg::Message;

use super::route::{self, Inbound, NoRoute};
use crate::account::{Application, Client, Directory};

/// The sid that a call has, or is to have.
pub const CALL: &str = "X-Dialtone-Call";
/// The sid of what a page and its application say to each other in a call, with that as JSON for a body.
pub const MESSAGE: &str = "X-Dialtone-Message";
/// As long as one may be, either way, bytes.
pub const MAX_MESSAGE: usize = 8192;
/// What goes with it, as of a form: what the page gives along, or what the browser is told.
pub const PARAMETERS: &str = "X-Dialtone-Parameters";

/// As of a form.
pub fn encode<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

pub fn decode(form: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(form.as_bytes()).into_owned().collect()
}

/// How an identity is written where a number could stand.
pub fn address(identity: &str) -> String {
    format!("client:{identity}")
}

/// What a browser calls is answered by the application of its token, whatever is called; what the page gives along goes there too.
/// A phone of the console reaches who is called.
pub(super) fn inbound(client: &Arc<Client>, invite: &Message, directory: &Directory) -> Result<Inbound, NoRoute> {
    let sid = client.application.as_deref().ok_or(NoRoute::NotFound)?;
    let mut given = decode(invite.other_header(PARAMETERS).unwrap_or_default());
    given.extend(client.parameters.iter().cloned());
    let to = given.iter().find(|(name, _)| name == "To").map(|(_, value)| value.clone()).unwrap_or_default();
    let (application, mut params) = if sid == Client::OF_CONSOLE {
        (route::from_console(client, &to, directory).map(|(application, _)| application), Vec::new())
    } else {
        let application = directory.application(client.account, sid);
        (application.map(|found| Application::clone(found)), vec![("ApplicationSid".to_owned(), sid.to_owned())])
    };
    let application = application.ok_or(NoRoute::NotFound)?;
    params.extend(given.into_iter().filter(|(name, _)| !RESERVED.contains(&name.as_str())));
    Ok(Inbound {
        sid: invite.other_header(CALL).and_then(|sid| sid.parse().ok()),
        account: client.account,
        from: address(&client.identity),
        to,
        via: client.identity.clone(),
        params,
        stir_verstat: None,
        application,
        srtp: None,
    })
}

/// What a request to an application says itself, and no page can.
const RESERVED: &[&str] = &[
    "AccountSid",
    "ApiVersion",
    "ApplicationSid",
    "CallSid",
    "CallStatus",
    "Called",
    "Caller",
    "Direction",
    "From",
    "To",
];
