//! Finding the servers of a URI (RFC 3263 s4): what to ask of the name service, and what its answers come to.
//!
//! A [`Resolution`] asks in three rounds, each made of the answers of the one before: NAPTR for the transports that a
//! domain offers, SRV for its servers, A and AAAA for their addresses. A numeric host, a port and `transport=` skip
//! rounds. No round leads back, and what is asked and found is counted: no zone keeps it busy for ever.
//!
//! It knows nothing of name servers, caches and time. Who asks decides how long to wait, and may use what is there by
//! then. `maddr` is not looked at: it would send the credentials of one host to another.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::flow::Transport;
use crate::msg::SipUri;
use crate::tokens::Tokens;

/// Servers that are tried for one request; what a domain has beyond that is not looked at.
pub const MAX_DESTINATIONS: usize = 16;
/// Questions that one URI may cost.
pub const MAX_QUESTIONS: usize = 32;
/// Transports of a domain, each with servers of its own, that are asked about.
const MAX_OFFERS: usize = 8;

/// What to ask of the name service, about a domain name in lower case without a dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    Naptr(String),
    Srv(String),
    A(String),
    Aaaa(String),
}

/// What the name service says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Naptr(Vec<Naptr>),
    Srv(Vec<Srv>),
    Addresses(Vec<IpAddr>),
    /// There is no such record, or nobody says so in time.
    Nothing,
}

/// A NAPTR record (RFC 3403 s4.1). Its regular expression is not for SIP, which has none (RFC 3263 s4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naptr {
    pub order: u16,
    pub preference: u16,
    pub flags: String,
    pub services: String,
    pub replacement: String,
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub target: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// What we can send by: the transport and the address family of a listener of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlet {
    pub transport: Transport,
    pub family: Family,
}

/// A server to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    pub transport: Transport,
    pub address: SocketAddr,
}

/// The search for the servers of one URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    host: String,
    /// What we can send by and the URI lets us, the preferred first.
    outlets: Vec<Outlet>,
    /// The transport where the domain says nothing of any.
    default: Transport,
    round: Round,
    waiting: VecDeque<Question>,
    open: Vec<Question>,
    asked: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Round {
    Offers(Vec<Naptr>),
    Servers(Vec<Offer>),
    Addresses(Vec<Server>),
}

/// A transport that the domain may be reached by, and the name of its SRV records.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    transport: Transport,
    name: String,
    records: Vec<Srv>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    transport: Transport,
    host: String,
    port: u16,
    addresses: Vec<IpAddr>,
}

impl Resolution {
    /// Begins the search. `outlets` in the order of preference; without one that the URI lets us use, nothing is to be
    /// found; a `sips:` URI lets us use TLS alone, whatever else there is.
    pub fn new(uri: &SipUri<'_>, outlets: &[Outlet]) -> Resolution {
        let named = uri.transport().map(Transport::from_uri_name);
        let named = match (uri.wants_tls(), named) {
            // The transport under TLS.
            (true, None | Some(Some(Transport::Tcp | Transport::Tls))) => Some(Some(Transport::Tls)),
            (true, Some(_)) => Some(None),
            (false, named) => named,
        };
        let fits = |outlet: &&Outlet| named.is_none_or(|named| named == Some(outlet.transport));
        let outlets: Vec<Outlet> = outlets.iter().filter(fits).copied().collect();
        let has_udp = outlets.iter().any(|outlet| outlet.transport == Transport::Udp);
        let default = outlets.first().filter(|_| !has_udp).map_or(Transport::Udp, |outlet| outlet.transport);
        let mut resolution = Resolution {
            host: plain(uri.host.host),
            outlets,
            default,
            round: Round::Addresses(Vec::new()),
            waiting: VecDeque::new(),
            open: Vec::new(),
            asked: 0,
        };
        if !resolution.outlets.is_empty() {
            resolution.begin(uri, uri.transport().is_some());
        }
        resolution
    }

    fn begin(&mut self, uri: &SipUri<'_>, has_transport: bool) {
        let port = uri.host.port.unwrap_or(self.default.default_port());
        let server = |addresses| Server { transport: self.default, host: self.host.clone(), port, addresses };
        match uri.host.ip() {
            Some(ip) => self.round = Round::Addresses(vec![server(vec![ip])]),
            None if uri.host.port.is_some() => self.ask_addresses(vec![server(Vec::new())]),
            None if has_transport => self.ask_servers(self.usual_offers()),
            None => {
                self.round = Round::Offers(Vec::new());
                self.ask(Question::Naptr(self.host.clone()));
            }
        }
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// The next question; it may be asked while others are open.
    pub fn poll_question(&mut self) -> Option<Question> {
        let question = self.waiting.pop_front()?;
        self.open.push(question.clone());
        Some(question)
    }

    /// Takes the answer to a question that is open; of another it takes nothing.
    ///
    /// `random` decides among servers of one priority, by their weights.
    pub fn handle_answer(&mut self, question: &Question, answer: Answer, random: &mut Tokens) {
        let Some(at) = self.open.iter().position(|open| open == question) else { return };
        self.open.swap_remove(at);
        match (&mut self.round, question, answer) {
            (Round::Offers(found), Question::Naptr(_), Answer::Naptr(records)) => *found = records,
            (Round::Servers(offers), Question::Srv(name), Answer::Srv(records)) => {
                for offer in offers.iter_mut().filter(|offer| offer.name == *name) {
                    offer.records = records.clone();
                }
            }
            (Round::Addresses(servers), Question::A(host) | Question::Aaaa(host), Answer::Addresses(found)) => {
                for server in servers.iter_mut().filter(|server| server.host == *host) {
                    server.addresses.extend(&found);
                }
            }
            _ => {}
        }
        if self.is_over() {
            self.next_round(random);
        }
    }

    /// Whether nothing is left to ask or to wait for.
    pub fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.open.is_empty()
    }

    /// The servers to try, in this order (s4.3): what is known of them by now.
    pub fn destinations(&self) -> Vec<Destination> {
        let Round::Addresses(servers) = &self.round else { return Vec::new() };
        let mut found: Vec<Destination> = Vec::new();
        for server in servers {
            for outlet in self.outlets.iter().filter(|outlet| outlet.transport == server.transport) {
                for ip in server.addresses.iter().filter(|ip| Family::of(**ip) == outlet.family) {
                    let address = SocketAddr::new(*ip, server.port);
                    let destination = Destination { transport: server.transport, address };
                    if found.len() < MAX_DESTINATIONS && !found.contains(&destination) {
                        found.push(destination);
                    }
                }
            }
        }
        found
    }

    fn next_round(&mut self, random: &mut Tokens) {
        match std::mem::replace(&mut self.round, Round::Addresses(Vec::new())) {
            Round::Offers(records) => match self.offers(records) {
                offers if offers.is_empty() => self.ask_servers(self.usual_offers()),
                offers => {
                    self.default = offers[0].transport;
                    self.ask_servers(offers);
                }
            },
            Round::Servers(offers) => self.ask_addresses(self.servers(offers, random)),
            Round::Addresses(servers) => self.round = Round::Addresses(servers),
        }
    }

    /// The offers that we can take up, the preferred first. Once the lowest order has one, those of a higher order are
    /// not for us (RFC 3403 s4.1).
    fn offers(&self, records: Vec<Naptr>) -> Vec<Offer> {
        let mut usable: Vec<(Naptr, Transport)> = Vec::new();
        for record in records {
            let named = !plain(&record.replacement).is_empty() && record.flags.eq_ignore_ascii_case("s");
            if let Some(transport) = self.transport_of(&record.services).filter(|_| named) {
                usable.push((record, transport));
            }
        }
        let lowest = usable.iter().map(|(record, _)| record.order).min();
        usable.retain(|(record, _)| Some(record.order) == lowest);
        usable.sort_by_key(|(record, _)| record.preference);
        let offer = |(record, transport): (Naptr, Transport)| Offer::new(transport, plain(&record.replacement));
        usable.into_iter().map(offer).take(MAX_OFFERS).collect()
    }

    /// `SIP+D2U`, `SIP+D2T`, `SIPS+D2T`, if we can send by that; what we do not speak is passed over.
    fn transport_of(&self, services: &str) -> Option<Transport> {
        let service = |transport| match transport {
            Transport::Udp => "SIP+D2U",
            Transport::Tcp => "SIP+D2T",
            Transport::Tls => "SIPS+D2T",
            Transport::Ws => "SIPS+D2W",
        };
        self.transports().into_iter().find(|transport| service(*transport).eq_ignore_ascii_case(services))
    }

    /// What to look for where no NAPTR record says it: the usual names, for each transport of ours.
    fn usual_offers(&self) -> Vec<Offer> {
        let name = |transport: Transport| match transport {
            Transport::Tls => format!("_sips._tcp.{}", self.host),
            transport => format!("_sip._{}.{}", transport.uri_name(), self.host),
        };
        let mut transports = self.transports();
        // Who does not ask for TLS, and is offered none, does without.
        if self.default != Transport::Tls {
            transports.retain(|transport| *transport != Transport::Tls);
        }
        transports.into_iter().map(|transport| Offer::new(transport, name(transport))).collect()
    }

    /// The servers of all offers, in the order to try them in. Where no SRV record names one it is the domain itself
    /// (s4.2); the target `.` says that there is none at all (RFC 2782).
    fn servers(&self, offers: Vec<Offer>, random: &mut Tokens) -> Vec<Server> {
        let server = |transport, host, port| Server { transport, host, port, addresses: Vec::new() };
        if offers.iter().all(|offer| offer.records.is_empty()) {
            return vec![server(self.default, self.host.clone(), self.default.default_port())];
        }
        let mut servers = Vec::new();
        for offer in offers {
            for record in in_order(offer.records, random) {
                servers.push(server(offer.transport, plain(&record.target), record.port));
            }
        }
        servers.retain(|server| !server.host.is_empty() && server.port != 0);
        servers
    }

    fn ask_servers(&mut self, offers: Vec<Offer>) {
        for offer in &offers {
            self.ask(Question::Srv(offer.name.clone()));
        }
        self.round = Round::Servers(offers);
    }

    fn ask_addresses(&mut self, servers: Vec<Server>) {
        let questions: Vec<Question> = servers.iter().flat_map(|server| self.address_questions(server)).collect();
        for question in questions {
            self.ask(question);
        }
        self.round = Round::Addresses(servers);
    }

    fn address_questions(&self, server: &Server) -> impl Iterator<Item = Question> {
        let outlets = self.outlets.iter().filter(|outlet| outlet.transport == server.transport);
        outlets.map(|outlet| match outlet.family {
            Family::V4 => Question::A(server.host.clone()),
            Family::V6 => Question::Aaaa(server.host.clone()),
        })
    }

    fn ask(&mut self, question: Question) {
        if self.asked < MAX_QUESTIONS && !self.waiting.contains(&question) {
            self.asked += 1;
            self.waiting.push_back(question);
        }
    }

    /// The transports of the outlets, each once.
    fn transports(&self) -> Vec<Transport> {
        let mut transports: Vec<Transport> = Vec::new();
        for outlet in &self.outlets {
            if !transports.contains(&outlet.transport) {
                transports.push(outlet.transport);
            }
        }
        transports
    }
}

impl Offer {
    fn new(transport: Transport, name: String) -> Offer {
        Offer { transport, name, records: Vec::new() }
    }
}

/// The lowest priority first; in one priority each next by chance, as its weight is to all that are left (RFC 2782).
fn in_order(mut records: Vec<Srv>, random: &mut Tokens) -> Vec<Srv> {
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::new();
    while let Some(first) = records.first()
        && ordered.len() < MAX_DESTINATIONS
    {
        let same = records.iter().take_while(|record| record.priority == first.priority);
        let weights: Vec<u64> = same.map(|record| u64::from(record.weight)).collect();
        let mut left = random.below(weights.iter().sum::<u64>() + 1);
        let at = weights.iter().position(|weight| {
            let reached = left <= *weight;
            left = left.saturating_sub(*weight);
            reached
        });
        ordered.push(records.remove(at.unwrap_or(0)));
    }
    ordered
}

/// A domain name as questions have it.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
