//! Counts of a shard's SIP, for the metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use dialtone_sip::flow::Transport;
use dialtone_sip::msg::{Message, Method, StartLine};
use dialtone_sip::time::Mono;

use super::core::Core;

/// Messages counted since the last publication.
#[derive(Default)]
pub(super) struct Traffic {
    requests: Counts<(&'static str, Method, Transport)>,
    responses: Counts<(&'static str, Method, u16)>,
    published: Option<Mono>,
    /// The gateways whose queues were told of.
    gateways: BTreeSet<String>,
}

/// The kinds that a second brings are few: looking at each is quicker than to hash one.
type Counts<K> = Vec<(K, u64)>;

fn count_one<K: PartialEq>(counts: &mut Counts<K>, key: K) {
    match counts.iter_mut().find(|(known, _)| *known == key) {
        Some((_, count)) => *count += 1,
        None => counts.push((key, 1)),
    }
}

const EVERY: Duration = Duration::from_secs(1);

impl Traffic {
    pub(super) fn received(&mut self, message: &Message, transport: Transport) {
        self.count("in", message.start(), message.cseq().map(|(_, method)| method), transport);
    }

    /// Counts a message of ours by its first line and its CSeq.
    pub(super) fn sent(&mut self, bytes: &Bytes, transport: Transport) {
        let Some(text) = bytes.get(..16) else { return };
        if let Some(rest) = text.strip_prefix(b"SIP/2.0 ") {
            let code = rest.get(..3).and_then(|code| std::str::from_utf8(code).ok()).and_then(|code| code.parse().ok());
            self.count("out", StartLine::Response(code.unwrap_or(0)), cseq_method(bytes), transport);
        } else {
            let end = text.iter().position(|byte| *byte == b' ').unwrap_or(0);
            let method = Method::from_text(std::str::from_utf8(&text[..end]).unwrap_or(""));
            self.count("out", StartLine::Request(method), None, transport);
        }
    }

    fn count(&mut self, direction: &'static str, start: StartLine, cseq_method: Option<&str>, transport: Transport) {
        match start {
            StartLine::Request(method) => count_one(&mut self.requests, (direction, method, transport)),
            StartLine::Response(code) => {
                let method = Method::from_text(cseq_method.unwrap_or(""));
                count_one(&mut self.responses, (direction, method, code));
            }
        }
    }

    /// Hands the counts and the state of the stack to the registry, once a second at most.
    pub(super) fn publish(&mut self, core: &Core, connections: usize, now: Mono) {
        if self.published.is_some_and(|at| now.since(at) < EVERY) {
            return;
        }
        self.published = Some(now);
        for ((direction, method, transport), count) in self.requests.drain(..) {
            metrics::counter!("dialtone_sip_requests_total", "direction" => direction, "method" => name(method), "transport" => transport.uri_name())
                .increment(count);
        }
        for ((direction, method, code), count) in self.responses.drain(..) {
            metrics::counter!("dialtone_sip_responses_total", "direction" => direction, "method" => name(method), "code" => code.to_string()).increment(count);
        }
        let counts = core.stack().counts();
        for (kind, count) in [("request", counts.retransmitted_requests), ("response", counts.retransmitted_responses)]
        {
            metrics::counter!("dialtone_sip_retransmissions_total", "direction" => "out", "kind" => kind)
                .absolute(count);
        }
        for (kind, count) in core.stack().open_transactions() {
            metrics::gauge!("dialtone_sip_transactions", "kind" => kind).set(count as f64);
        }
        self.publish_queues(core);
        metrics::gauge!("dialtone_sip_connections", "transport" => "tcp").set(connections as f64);
    }
}

/// Where what needs no trunk goes: to the server's own users.
const DEFAULT_GATEWAY: &str = "default";
/// A series each; what waits for further trunks is told together.
const MAX_GATEWAYS: usize = 100;
const OTHER_GATEWAYS: &str = "other";

impl Traffic {
    fn publish_queues(&mut self, core: &Core) {
        metrics::gauge!("dialtone_call_queue_depth").set(core.orders_waiting() as f64);
        queue_depth(DEFAULT_GATEWAY, "message").set(core.messages_waiting() as f64);
        let mut depths: BTreeMap<&str, usize> = self.gateways.iter().map(|known| (known.as_str(), 0)).collect();
        for (trunk, waiting) in core.orders_waiting_by_trunk() {
            let gateway = match trunk {
                "" => DEFAULT_GATEWAY,
                named if depths.contains_key(named) || depths.len() < MAX_GATEWAYS => named,
                _ => OTHER_GATEWAYS,
            };
            *depths.entry(gateway).or_default() += waiting;
        }
        for (gateway, waiting) in &depths {
            queue_depth(gateway, "call").set(*waiting as f64);
        }
        // Whose queue is empty again is told so.
        self.gateways = depths.into_keys().map(str::to_owned).collect();
    }
}

fn queue_depth(gateway: &str, kind: &'static str) -> metrics::Gauge {
    metrics::gauge!("dialtone_queue_depth", "gateway" => gateway.to_owned(), "kind" => kind)
}

fn name(method: Method) -> &'static str {
    if method.as_str().is_empty() { "other" } else { method.as_str() }
}

/// The method in the CSeq of a message of ours, whose headers are written in the long form.
fn cseq_method(bytes: &Bytes) -> Option<&str> {
    let at = memchr::memmem::find(bytes, b"\r\nCSeq: ")?;
    let line = bytes.get(at + 8..)?;
    let end = memchr::memchr(b'\r', line)?;
    std::str::from_utf8(&line[..end]).ok()?.split(' ').nth(1)
}
