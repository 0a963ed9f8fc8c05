//! The names of a call's trace (W3C Trace Context, OpenTelemetry): its trace is named as the call is, so that who has one has the
//! other, and each span by what it is of, so that what happens at different moments agrees on it without asking.

use sha2::{Digest, Sha256};

use crate::ids::CallSid;

/// What a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanOf {
    Call,
    /// That it waited for its turn.
    Queue,
    /// From the INVITE to its final response.
    Invite,
    /// A request to the application, by its number in the call.
    Request(u32),
    /// A verb, by the number of its event.
    Verb(u32),
}

pub fn trace_id(call: CallSid) -> [u8; 16] {
    call.bits().to_be_bytes()
}

pub fn span_id(call: CallSid, of: SpanOf) -> [u8; 8] {
    let (kind, number) = match of {
        SpanOf::Call => (b'c', 0),
        SpanOf::Queue => (b'q', 0),
        SpanOf::Invite => (b'i', 0),
        SpanOf::Request(number) => (b'r', number),
        SpanOf::Verb(number) => (b'v', number),
    };
    let hash =
        Sha256::new_with_prefix(trace_id(call)).chain_update([kind]).chain_update(number.to_be_bytes()).finalize();
    hash[..8].try_into().expect("eight of thirty-two bytes")
}

/// The header by which an application makes what it does a part of the call's trace.
pub fn traceparent(call: CallSid, request: u32) -> String {
    let span = u64::from_be_bytes(span_id(call, SpanOf::Request(request)));
    format!("00-{:032x}-{span:016x}-01", call.bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_is_named_as_its_call_and_spans_differ() {
        let call: CallSid = "CA0123456789abcdef0123456789abcdef".parse().unwrap();
        let header = traceparent(call, 1);
        assert!(header.starts_with("00-0123456789abcdef0123456789abcdef-") && header.ends_with("-01"), "{header}");
        assert_eq!(header.len(), 55, "W3C Trace Context s3.2.2");
        assert_eq!(traceparent(call, 1), header);
        let all =
            [SpanOf::Call, SpanOf::Queue, SpanOf::Invite, SpanOf::Request(0), SpanOf::Request(1), SpanOf::Verb(0)];
        let mut ids: Vec<[u8; 8]> = all.map(|of| span_id(call, of)).to_vec();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all.len());
    }
}
