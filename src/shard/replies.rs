//! Texts that come to a number: its application is asked, and what it answers is sent.
//!
//! One that was asked is known by the sid of its message, which stands where a call's sid would: requests are signed, retried
//! and limited as those of a call are.

use super::core::{Core, Output};
use crate::account::Messaging;
use crate::call::{FetchOutcome, Now};
use crate::events::{MessageFact, MessageStatus};
use crate::ids::{AccountSid, CallSid};
use crate::twiml::document::{Link, RedirectSpec, ReplyVerb, SmsVerb};
use crate::twiml::notice::code;
use crate::twiml::{Endpoint, FetchFailure, FetchOrder, FetchReason, Method, Notice, parse};

/// Texts whose applications have not answered yet; who sends another is told 503.
pub(super) const MAX_ASKED: usize = 1_000;

/// Documents of one text: redirects and actions that follow one another for ever end here.
const MAX_DOCUMENTS: u32 = 10;

/// A text that an application is asked about.
pub(super) struct Asked {
    account: AccountSid,
    fact: MessageFact,
    fallback: Option<Endpoint>,
    /// The request that is open, by its number, which counts them.
    fetch: u32,
    reason: FetchReason,
    params: Vec<(String, String)>,
}

/// What comes after an answer.
enum Next {
    Nothing,
    Ask(Endpoint, Vec<(String, String)>, FetchReason),
    Fail(FetchFailure),
}

impl Core {
    /// Asks the application of a number about a text that came to it.
    pub(super) fn ask_about(&mut self, account: AccountSid, fact: MessageFact, messaging: &Messaging, now: Now) {
        self.tell_message(account, fact.clone(), now);
        let fallback = messaging.fallback.clone();
        let asked = Asked { account, fact, fallback, fetch: 0, reason: FetchReason::Document, params: Vec::new() };
        self.ask(asked, messaging.asks.clone(), Vec::new(), FetchReason::Document);
    }

    fn ask(&mut self, mut asked: Asked, endpoint: Endpoint, params: Vec<(String, String)>, reason: FetchReason) {
        asked.fetch += 1;
        (asked.params, asked.reason) = (params, reason);
        let call = key(&asked.fact);
        let params = message_params(&asked).chain(asked.params.iter().cloned()).collect();
        let order = FetchOrder { fetch: asked.fetch, endpoint, params: Vec::new(), reason, answer_wanted: true };
        self.out.push_back(Output::Fetch { call, account: asked.account, order, params });
        self.asked.insert(call, asked);
    }

    /// The application's answer. False: nobody asked by that sid.
    pub(super) fn answered(&mut self, call: CallSid, fetch: u32, outcome: &FetchOutcome, now: Now) -> bool {
        let Some(asked) = self.asked.remove(&call) else { return false };
        if asked.fetch != fetch {
            self.asked.insert(call, asked);
            return true;
        }
        let read = outcome.result.clone().and_then(|fetched| {
            parse::reply(&fetched.body, fetched.content_type.as_deref(), Some(&fetched.url))
                .map_err(|error| FetchFailure { code: error.code(), text: error.to_string(), url: fetched.url })
        });
        let next = match read {
            Ok(reply) => {
                let next = self.carry_out_reply(&asked, reply.verbs, now);
                // What the answer was remarked on for, first.
                self.remark(&asked, reply.notices.first(), now);
                next
            }
            Err(failure) => Next::Fail(failure),
        };
        self.go_on(asked, next, now);
        true
    }

    fn go_on(&mut self, mut asked: Asked, next: Next, now: Now) {
        let (endpoint, params, reason) = match next {
            Next::Ask(endpoint, params, reason) if asked.fetch < MAX_DOCUMENTS => (endpoint, params, reason),
            Next::Ask(endpoint, ..) => {
                let text = format!("more than {MAX_DOCUMENTS} documents for one message, the last {}", endpoint.url);
                let notice = Notice::error(code::TOO_MANY_REDIRECTS, text);
                self.remark(&asked, Some(&notice), now);
                return self.out.push_back(Output::Forget(key(&asked.fact)));
            }
            Next::Fail(FetchFailure { code, text, url }) => match asked.fallback.take() {
                Some(fallback) => {
                    let mut params = std::mem::take(&mut asked.params);
                    params.push(("ErrorCode".to_owned(), code.to_string()));
                    params.push(("ErrorUrl".to_owned(), url));
                    (fallback, params, FetchReason::Fallback)
                }
                None => {
                    self.remark(&asked, Some(&Notice::error(code, text).about(url)), now);
                    return self.out.push_back(Output::Forget(key(&asked.fact)));
                }
            },
            Next::Nothing => return self.out.push_back(Output::Forget(key(&asked.fact))),
        };
        self.ask(asked, endpoint, params, reason);
    }

    /// Sends what the answer says, up to what leads elsewhere.
    fn carry_out_reply(&mut self, asked: &Asked, verbs: Vec<ReplyVerb>, now: Now) -> Next {
        for verb in verbs {
            match verb {
                ReplyVerb::Redirect(RedirectSpec { link, method }) => {
                    return ask_next(link, method, Vec::new(), FetchReason::Redirect);
                }
                ReplyVerb::Message(message) => {
                    let SmsVerb { action, method, .. } = *message.clone();
                    let sent = self.reply(asked, *message, now);
                    let Some(link) = action else { continue };
                    let status = if sent.is_some() { MessageStatus::Queued } else { MessageStatus::Failed };
                    let mut params = vec![("MessageStatus".to_owned(), status.as_str().to_owned())];
                    if let Some(sid) = sent {
                        // Of the answer, in the place of that of the text.
                        params.extend(["MessageSid", "SmsSid"].map(|name| (name.to_owned(), sid.to_string())));
                    }
                    return ask_next(link, method, params, FetchReason::Action);
                }
            }
        }
        Next::Nothing
    }

    fn reply(&mut self, asked: &Asked, message: SmsVerb, now: Now) -> Option<crate::ids::MessageSid> {
        let SmsVerb { to, from, body, callback, .. } = message;
        let to = to.unwrap_or_else(|| asked.fact.from.clone());
        let from = from.unwrap_or_else(|| asked.fact.to.clone());
        let callback = match callback {
            Some((Link::Absolute(url), method)) => Some(Endpoint { url, method }),
            _ => None,
        };
        match self.send_as(
            asked.account,
            (from, to),
            body,
            crate::events::MessageDirection::OutboundReply,
            callback,
            now,
        ) {
            Ok(sid) => Some(sid),
            Err(notice) => {
                self.remark(asked, Some(&notice), now);
                None
            }
        }
    }

    /// What is wrong with the answer to a text is told by the text itself.
    fn remark(&mut self, asked: &Asked, notice: Option<&Notice>, now: Now) {
        let Some(notice) = notice else { return };
        tracing::warn!(message = %asked.fact.sid, code = notice.code, text = %notice.text, "the answer to a message");
        let fact = MessageFact { error_code: notice.code, ..asked.fact.clone() };
        self.tell_message(asked.account, fact, now);
    }
}

fn key(fact: &MessageFact) -> CallSid {
    CallSid::new(fact.sid.bits())
}

fn ask_next(link: Link, method: Method, params: Vec<(String, String)>, reason: FetchReason) -> Next {
    match link {
        Link::Absolute(url) => Next::Ask(Endpoint { url, method }, params, reason),
        Link::Unresolvable(url) => {
            let text = "url is not absolute, and the document has no url to resolve it against".to_owned();
            Next::Fail(FetchFailure { code: code::INVALID_URL, text, url })
        }
    }
}

/// What every request about a text says. What a request adds goes before it, by the same name.
fn message_params(asked: &Asked) -> impl Iterator<Item = (String, String)> {
    let fact = &asked.fact;
    let sid = fact.sid.to_string();
    let all = [
        ("MessageSid", sid.clone()),
        ("SmsSid", sid.clone()),
        ("SmsMessageSid", sid),
        ("AccountSid", asked.account.to_string()),
        ("From", fact.from.clone()),
        ("To", fact.to.clone()),
        ("Body", fact.body.clone()),
        ("NumMedia", "0".to_owned()),
        ("NumSegments", fact.segments().to_string()),
        ("SmsStatus", fact.status.as_str().to_owned()),
        ("ApiVersion", "2010-04-01".to_owned()),
    ];
    let own: Vec<String> = asked.params.iter().map(|(name, _)| name.clone()).collect();
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).filter(move |(name, _)| !own.contains(name))
}
