//! Which transaction a message belongs to (RFC 3261 s17.1.3, s17.2.3).

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::msg::{HeaderName, Message, Method};

/// A server transaction, named by a keyed hash of what RFC 3261 compares.
///
/// Hashing keeps the table small and its cost apart from a stranger's choice of names; with 128 bits under a secret
/// key nobody can make two requests meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerKey(u128);

/// Makes keys; one per stack.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    secret: u128,
}

impl Keys {
    pub fn new(secret: u128) -> Self {
        Self { secret }
    }

    /// The transaction that a request belongs to or opens. An ACK belongs to its INVITE; a CANCEL has its own.
    pub fn of(&self, request: &Message) -> ServerKey {
        self.of_method(request, request.method().unwrap_or(Method::Other))
    }

    /// The INVITE transaction that a CANCEL wants to end (RFC 3261 s9.2).
    pub fn canceled_by(&self, cancel: &Message) -> ServerKey {
        self.of_method(cancel, Method::Invite)
    }

    /// A request seen by another way: the same From tag, Call-ID and CSeq in another transaction (RFC 3261 s8.2.2.2).
    pub fn merge_key(&self, request: &Message) -> ServerKey {
        self.hash(|state| {
            (request.from_tag(), request.call_id(), request.cseq()).hash(state);
        })
    }

    fn of_method(&self, request: &Message, method: Method) -> ServerKey {
        let method = if method == Method::Ack { Method::Invite } else { method };
        let Some(via) = request.top_via() else { return ServerKey(0) };
        match via.transaction_branch() {
            Some(branch) => self.hash(|state| {
                (branch, via.sent_by.host, via.sent_by.port, method, other_text(request, method)).hash(state);
            }),
            // RFC 2543 has no usable branch: the request's own fields name the transaction.
            None => self.hash(|state| {
                let cseq = request.cseq().map(|(number, _)| number);
                (request.request_uri(), request.from_tag(), request.call_id(), cseq, method).hash(state);
                request.values(HeaderName::Via).next().hash(state);
            }),
        }
    }

    fn hash(&self, feed: impl Fn(&mut DefaultHasher)) -> ServerKey {
        let half = |salt: u8| {
            let mut state = DefaultHasher::new();
            (self.secret, salt).hash(&mut state);
            feed(&mut state);
            u128::from(state.finish())
        };
        ServerKey(half(0) << 64 | half(1))
    }
}

fn other_text(request: &Message, method: Method) -> &str {
    if method == Method::Other { request.method_text() } else { "" }
}
