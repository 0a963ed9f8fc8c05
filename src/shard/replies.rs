//! Texts that come to a number: its application is asked, and what it answers is sent.
//!
//! One that was asked is known by the sid of its message, which stands where a call's sid would: requests are signed, retried
//! and limited as those of a call are.

use dialtone_sip::tokens::TokenMap;

use super::core::{Core, Output};
use crate::account::Messaging;
use crate::call::{FetchOutcome, Now};
use crate::events::{MessageDirection, MessageFact, MessageStatus};
use crate::ids::{AccountSid, CallSid, MessageSid};
use crate::twiml::document::{Link, RedirectSpec, ReplyVerb, SmsVerb};
use crate::twiml::notice::{Severity, code};
use crate::twiml::{Endpoint, FetchFailure, FetchOrder, FetchReason, Method, Notice, parse};

/// Texts of one account whose applications have not answered yet, and of all; who sends another is told 503.
const MAX_ASKED_OF_ACCOUNT: usize = 100;
const MAX_ASKED: usize = 10_000;

/// Documents of one text: redirects and actions that follow one another for ever end here.
const MAX_DOCUMENTS: u32 = 10;

/// Messages that answer one text.
const MAX_ANSWERS: u32 = 100;

/// The texts that applications are asked about.
#[derive(Default)]
pub(super) struct Asking(TokenMap<CallSid, Asked>);

/// A text that an application is asked about.
struct Asked {
    account: AccountSid,
    fact: MessageFact,
    fallback: Option<Endpoint>,
    /// The request that is open, by its number, which counts them.
    fetch: u32,
    /// What it says besides what all say.
    params: Vec<(String, String)>,
    answers: u32,
    /// The first thing that is wrong with what was answered; an error goes before a warning.
    fault: Option<Notice>,
}

/// What comes after an answer.
enum Next {
    Nothing,
    Ask(Endpoint, Vec<(String, String)>, FetchReason),
    Fail(FetchFailure),
}

impl Asking {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_full(&self, account: AccountSid) -> bool {
        self.0.len() >= MAX_ASKED
            || self.0.values().filter(|asked| asked.account == account).count() >= MAX_ASKED_OF_ACCOUNT
    }
}

impl Asked {
    fn remark(&mut self, notice: Notice) {
        let is_worse = |known: &Notice| known.severity == Severity::Warning && notice.severity == Severity::Error;
        if self.fault.as_ref().is_none_or(is_worse) {
            self.fault = Some(notice);
        }
    }
}

impl Core {
    /// Asks the application of a number about a text that came to it.
    pub(super) fn ask_about(&mut self, account: AccountSid, fact: MessageFact, messaging: &Messaging, now: Now) {
        self.tell_message(account, fact.clone(), now);
        let fallback = messaging.fallback.clone();
        let asked = Asked { account, fact, fallback, fetch: 0, params: Vec::new(), answers: 0, fault: None };
        self.ask(asked, messaging.asks.clone(), Vec::new(), FetchReason::Document);
    }

    fn ask(&mut self, mut asked: Asked, endpoint: Endpoint, params: Vec<(String, String)>, reason: FetchReason) {
        asked.fetch += 1;
        asked.params = params;
        let call = key(&asked.fact);
        let params = message_params(&asked).chain(asked.params.iter().cloned()).collect();
        let order = FetchOrder { fetch: asked.fetch, endpoint, params: Vec::new(), reason, answer_wanted: true };
        self.out.push_back(Output::Fetch { call, account: asked.account, order, params });
        self.asked.0.insert(call, asked);
    }

    /// The application's answer. Gives it back where nobody asked by that sid.
    pub(super) fn answered(
        &mut self,
        call: CallSid,
        fetch: u32,
        outcome: FetchOutcome,
        now: Now,
    ) -> Option<FetchOutcome> {
        if self.asked.0.get(&call).is_some_and(|asked| asked.fetch != fetch) {
            return None;
        }
        let Some(mut asked) = self.asked.0.remove(&call) else { return Some(outcome) };
        let read = outcome.result.and_then(|fetched| {
            parse::reply(&fetched.body, fetched.content_type.as_deref(), Some(&fetched.url))
                .map_err(|error| FetchFailure { code: error.code(), text: error.to_string(), url: fetched.url })
        });
        let next = match read {
            Ok(reply) => {
                reply.notices.into_iter().for_each(|notice| asked.remark(notice));
                self.carry_out_reply(&mut asked, reply.verbs, now)
            }
            Err(failure) => Next::Fail(failure),
        };
        self.go_on(asked, next, now);
        None
    }

    fn go_on(&mut self, mut asked: Asked, next: Next, now: Now) {
        match next {
            Next::Nothing => {}
            Next::Ask(endpoint, params, reason) if asked.fetch < MAX_DOCUMENTS => {
                return self.ask(asked, endpoint, params, reason);
            }
            Next::Ask(endpoint, ..) => {
                let text = format!("more than {MAX_DOCUMENTS} documents for one message");
                asked.remark(Notice::error(code::TOO_MANY_REDIRECTS, text).about(endpoint.url));
            }
            Next::Fail(FetchFailure { code, text, url }) => match asked.fallback.take() {
                Some(fallback) => {
                    let mut params = std::mem::take(&mut asked.params);
                    params.push(("ErrorCode".to_owned(), code.to_string()));
                    params.push(("ErrorUrl".to_owned(), url));
                    return self.ask(asked, fallback, params, FetchReason::Fallback);
                }
                None => asked.remark(Notice::error(code, text).about(url)),
            },
        }
        self.answered_all(asked, now);
    }

    /// The text has been received. What is wrong with what was answered is told by the text itself.
    fn answered_all(&mut self, asked: Asked, now: Now) {
        let Asked { account, fact, fault, .. } = asked;
        if let Some(Notice { code, text, url, .. }) = &fault {
            tracing::warn!(message_sid = %fact.sid, code, %text, url, "an application's answer to a message is wrong");
        }
        let error_code = fault.map_or(0, |notice| notice.code);
        self.out.push_back(Output::Forget(key(&fact)));
        self.tell_message(account, MessageFact { status: MessageStatus::Received, error_code, ..fact }, now);
    }

    /// Sends what the answer says, up to what leads elsewhere.
    fn carry_out_reply(&mut self, asked: &mut Asked, verbs: Vec<ReplyVerb>, now: Now) -> Next {
        for verb in verbs {
            match verb {
                ReplyVerb::Redirect(RedirectSpec { link, method }) => {
                    return ask_next(link, method, Vec::new(), FetchReason::Redirect);
                }
                ReplyVerb::Message(mut message) => {
                    let (action, method) = (message.action.take(), message.method);
                    let sent = self.reply(asked, *message, now).map_err(|notice| asked.remark(notice)).ok();
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

    fn reply(&mut self, asked: &mut Asked, message: SmsVerb, now: Now) -> Result<MessageSid, Notice> {
        asked.answers += 1;
        if asked.answers > MAX_ANSWERS {
            let text = format!("more than {MAX_ANSWERS} messages answer one: the rest is not sent");
            return Err(Notice::error(code::MESSAGE_RATE, text));
        }
        let SmsVerb { to, from, body, callback, .. } = message;
        let to = to.unwrap_or_else(|| asked.fact.from.clone());
        let from = from.unwrap_or_else(|| asked.fact.to.clone());
        let callback = match callback {
            None => None,
            Some((Link::Absolute(url), method)) => Some(Endpoint { url, method }),
            Some((Link::Unresolvable(url), _)) => {
                asked.remark(
                    Notice::warning(code::INVALID_URL, "statusCallback cannot be resolved: ignored").about(url),
                );
                None
            }
        };
        let sent = self.send_as(asked.account, (from, to), body, MessageDirection::OutboundReply, callback, now);
        sent.map_err(|notice| Notice { severity: Severity::Error, ..notice })
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
        ("SmsStatus", MessageStatus::Received.as_str().to_owned()),
        ("ApiVersion", "2010-04-01".to_owned()),
    ];
    let own: Vec<String> = asked.params.iter().map(|(name, _)| name.clone()).collect();
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).filter(move |(name, _)| !own.contains(name))
}
