//! The registrar (RFC 3261 s10.3): which contacts stand for an address of record, until when, and how to reach them.
//!
//! Plain data with wall-clock deadlines in milliseconds, so that it can be shared between edges. It knows nothing of
//! accounts or passwords: the caller has authenticated the request and says whose address of record it is about.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::dialog::next_hop;
use crate::flow::Flow;
use crate::msg::{Address, HeaderName, Message, unfold};

/// What a contact may ask for, in seconds.
pub const DEFAULT_EXPIRES_S: u32 = 3600;
pub const MIN_EXPIRES_S: u32 = 60;
pub const MAX_EXPIRES_S: u32 = 7200;
/// Bindings of one address of record; one more is refused with 403.
pub const BINDINGS: usize = 10;

/// One registered contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The contact's URI, as it was written.
    pub contact: String,
    /// The flow that it registered by: how a phone behind NAT is reached.
    pub flow: Flow,
    /// Route headers to reach it by (RFC 3327).
    pub path: Vec<String>,
    /// 0 to 1000.
    pub q_thousandths: u16,
    pub expires_at_ms: u64,
    pub user_agent: String,
    call_id: String,
    cseq: u32,
    /// `+sip.instance`: the same phone with another contact replaces its binding (RFC 5626 s6).
    pub instance: Option<String>,
}

impl Binding {
    /// Where a request to this contact goes.
    pub fn next_hop(&self) -> Flow {
        next_hop(self.path.first().unwrap_or(&self.contact), self.flow)
    }
}

/// Why a registration is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400: `*` with other contacts or without `Expires: 0`, or a contact that is no SIP URI.
    Malformed,
    /// 423: shorter than [`MIN_EXPIRES_S`].
    TooBrief,
    /// 500: older than what is registered (RFC 3261 s10.3 step 7).
    OutOfOrder,
    /// 403: more than [`BINDINGS`].
    TooMany,
}

/// What changed, for presence and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub before: usize,
    pub after: usize,
}

/// Bindings by address of record. `K` names one: whatever the caller keys its users by.
#[derive(Debug)]
pub struct Registrar<K> {
    bindings: HashMap<K, Vec<Binding>>,
}

impl<K> Default for Registrar<K> {
    fn default() -> Self {
        Self { bindings: HashMap::new() }
    }
}

/// One contact of a request, read.
struct Wanted {
    contact: String,
    expires_s: u32,
    q_thousandths: u16,
    instance: Option<String>,
}

impl<K: std::hash::Hash + Eq> Registrar<K> {
    /// Takes an authenticated REGISTER; all of its contacts, or none.
    pub fn register(&mut self, aor: K, request: &Message, flow: Flow, wall_ms: u64) -> Result<Change, Refusal> {
        let wanted = read_contacts(request)?;
        let call_id = request.call_id();
        let cseq = request.cseq().map_or(0, |(number, _)| number);
        let mut bindings = self.bindings.remove(&aor).unwrap_or_default();
        bindings.retain(|binding| binding.expires_at_ms > wall_ms);
        let before = bindings.len();
        let old = bindings.clone();
        let outcome = match wanted {
            Contacts::All => remove_all(&mut bindings, call_id, cseq),
            Contacts::Some(wanted) => wanted.into_iter().try_for_each(|wanted| {
                let path = request.values(HeaderName::Path).map(|path| unfold(path).into_owned()).collect();
                let user_agent = request.header(HeaderName::UserAgent).unwrap_or("").chars().take(128).collect();
                apply(&mut bindings, wanted, Origin { call_id, cseq, flow, path, user_agent, wall_ms })
            }),
        };
        let bindings = if outcome.is_ok() { bindings } else { old };
        let after = bindings.len();
        self.keep(aor, bindings);
        outcome.map(|()| Change { before, after })
    }

    /// A user has these, and no more room than they take: there are many users, and few of them have a second.
    fn keep(&mut self, aor: K, mut bindings: Vec<Binding>) {
        if bindings.is_empty() {
            self.bindings.remove(&aor);
            return;
        }
        bindings.shrink_to_fit();
        self.bindings.insert(aor, bindings);
    }

    /// Live bindings, the preferred first.
    pub fn bindings(&self, aor: &K, wall_ms: u64) -> Vec<Binding> {
        let mut live: Vec<Binding> = self
            .bindings
            .get(aor)
            .into_iter()
            .flatten()
            .filter(|binding| binding.expires_at_ms > wall_ms)
            .cloned()
            .collect();
        live.sort_by_key(|binding| std::cmp::Reverse(binding.q_thousandths));
        live
    }

    /// Changes each binding, and keeps those that are wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(&mut Binding) -> bool) {
        self.bindings.retain(|_, bindings| {
            bindings.retain_mut(&mut wanted);
            !bindings.is_empty()
        });
    }

    /// All live bindings, to be written down.
    pub fn all(&self, wall_ms: u64) -> Vec<(K, Vec<Binding>)>
    where
        K: Clone,
    {
        let live = |bindings: &[Binding]| -> Vec<Binding> {
            bindings.iter().filter(|binding| binding.expires_at_ms > wall_ms).cloned().collect()
        };
        self.bindings.iter().map(|(aor, bindings)| (aor.clone(), live(bindings))).collect()
    }

    /// Takes up what was written down of a user, in the place of what is known. Of bindings that came by a connection nothing is left but the phone's next
    /// REGISTER.
    pub fn restore(&mut self, aor: K, written: Vec<Binding>, wall_ms: u64)
    where
        K: Eq + std::hash::Hash,
    {
        let mut bindings = written;
        bindings.retain(|binding| binding.expires_at_ms > wall_ms && binding.flow.connection.is_none());
        self.keep(aor, bindings);
    }

    /// All who have any.
    pub fn users(&self) -> impl Iterator<Item = &K> {
        self.bindings.keys()
    }

    /// Every address of record with its number of live bindings.
    pub fn counts(&self, wall_ms: u64) -> impl Iterator<Item = (&K, usize)> {
        self.bindings.iter().map(move |(aor, bindings)| {
            (aor, bindings.iter().filter(|binding| binding.expires_at_ms > wall_ms).count())
        })
    }

    /// Forgets what has expired; call now and then.
    pub fn sweep(&mut self, wall_ms: u64) {
        self.bindings.retain(|_, bindings| {
            bindings.retain(|binding| binding.expires_at_ms > wall_ms);
            !bindings.is_empty()
        });
    }

    /// A connection closed: contacts that only it could reach are gone. `flow` is one of it; whose they were, and which.
    pub fn connection_closed(&mut self, flow: Flow) -> Vec<(K, Vec<Binding>)>
    where
        K: Clone,
    {
        let by_it = |binding: &Binding| {
            let hop = binding.next_hop();
            hop.connection.is_some() && (hop.local, hop.connection) == (flow.local, flow.connection)
        };
        let of_it = |bindings: &[Binding]| -> Vec<Binding> {
            bindings.iter().filter(|binding| by_it(binding)).cloned().collect()
        };
        let gone = self.bindings.iter().map(|(aor, bindings)| (aor, of_it(bindings)));
        let gone: Vec<(K, Vec<Binding>)> =
            gone.filter(|(_, gone)| !gone.is_empty()).map(|(aor, gone)| (aor.clone(), gone)).collect();
        self.retain(|binding| !by_it(binding));
        gone
    }

    /// Takes up what another registrar of the same addresses has taken: these contacts in the place of those that they are the
    /// newer form of, and none of those that are gone.
    pub fn merge(&mut self, aor: K, put: Vec<Binding>, gone: &[String]) {
        let mut bindings = self.bindings.remove(&aor).unwrap_or_default();
        bindings.retain(|binding| !gone.contains(&binding.contact));
        for new in put {
            let is_outdated =
                |old: &Binding| old.contact == new.contact && old.call_id == new.call_id && old.cseq > new.cseq;
            if bindings.iter().any(is_outdated) {
                continue;
            }
            bindings
                .retain(|old| old.contact != new.contact && (old.instance.is_none() || old.instance != new.instance));
            bindings.push(new);
        }
        self.keep(aor, bindings);
    }
}

enum Contacts {
    All,
    Some(Vec<Wanted>),
}

struct Origin<'a> {
    call_id: &'a str,
    cseq: u32,
    flow: Flow,
    path: Vec<String>,
    user_agent: String,
    wall_ms: u64,
}

fn read_contacts(request: &Message) -> Result<Contacts, Refusal> {
    let default = request.expires().unwrap_or(DEFAULT_EXPIRES_S);
    let mut wanted = Vec::new();
    let mut all = false;
    for value in request.values(HeaderName::Contact) {
        if value == "*" {
            all = true;
            continue;
        }
        wanted.push(read_contact(value, default)?);
    }
    match (all, wanted.is_empty(), request.expires()) {
        (true, true, Some(0)) => Ok(Contacts::All),
        (true, _, _) => Err(Refusal::Malformed),
        (false, _, _) => Ok(Contacts::Some(wanted)),
    }
}

fn read_contact(value: &str, default_expires_s: u32) -> Result<Wanted, Refusal> {
    let address = Address::parse(value).map_err(|_| Refusal::Malformed)?;
    address.parsed_uri().ok().and_then(crate::msg::Uri::sip).ok_or(Refusal::Malformed)?;
    let expires_s = address
        .params
        .get("expires")
        .map_or(Some(default_expires_s), |expires| expires.parse().ok())
        .ok_or(Refusal::Malformed)?;
    if (1..MIN_EXPIRES_S).contains(&expires_s) {
        return Err(Refusal::TooBrief);
    }
    let q = address
        .params
        .get("q")
        .map_or(Some(1.0), |q| q.parse::<f32>().ok())
        .filter(|q| (0.0..=1.0).contains(q))
        .ok_or(Refusal::Malformed)?;
    let instance = address.params.get("+sip.instance").map(str::to_owned);
    Ok(Wanted {
        contact: address.uri.to_owned(),
        expires_s: expires_s.min(MAX_EXPIRES_S),
        q_thousandths: (q * 1000.0) as u16,
        instance,
    })
}

fn remove_all(bindings: &mut Vec<Binding>, call_id: &str, cseq: u32) -> Result<(), Refusal> {
    if bindings.iter().any(|binding| binding.call_id == call_id && binding.cseq >= cseq) {
        return Err(Refusal::OutOfOrder);
    }
    bindings.clear();
    Ok(())
}

fn apply(bindings: &mut Vec<Binding>, wanted: Wanted, origin: Origin<'_>) -> Result<(), Refusal> {
    let same = |binding: &Binding| {
        binding.contact == wanted.contact || (binding.instance.is_some() && binding.instance == wanted.instance)
    };
    let found = bindings.iter().position(same);
    if found.is_some_and(|at| bindings[at].call_id == origin.call_id && bindings[at].cseq >= origin.cseq) {
        return Err(Refusal::OutOfOrder);
    }
    if let Some(at) = found {
        bindings.remove(at);
    }
    if wanted.expires_s == 0 {
        return Ok(());
    }
    if bindings.len() >= BINDINGS {
        return Err(Refusal::TooMany);
    }
    bindings.push(Binding {
        contact: wanted.contact,
        flow: origin.flow,
        path: origin.path,
        q_thousandths: wanted.q_thousandths,
        expires_at_ms: origin.wall_ms + u64::from(wanted.expires_s) * 1000,
        user_agent: origin.user_agent,
        call_id: origin.call_id.to_owned(),
        cseq: origin.cseq,
        instance: wanted.instance,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::flow::Transport;

    fn register(registrar: &mut Registrar<u8>, headers: &str, cseq: u32, wall_s: u64) -> Result<Change, Refusal> {
        let flow = Flow {
            transport: Transport::Udp,
            local: "127.0.0.1:5060".parse().unwrap(),
            remote: "203.0.113.9:61000".parse().unwrap(),
            connection: None,
        };
        let text = format!("REGISTER sip:h SIP/2.0\r\nCall-ID: c\r\nCSeq: {cseq} REGISTER\r\n{headers}\r\n");
        registrar.register(1, &Message::parse(Bytes::from(text)).unwrap(), flow, wall_s * 1000)
    }

    fn contacts(registrar: &Registrar<u8>, wall_s: u64) -> Vec<String> {
        registrar.bindings(&1, wall_s * 1000).into_iter().map(|binding| binding.contact).collect()
    }

    #[test]
    fn binding_lives_until_it_expires() {
        let mut registrar = Registrar::default();
        register(&mut registrar, "Contact: <sip:a@h>;expires=60\r\n", 1, 100).unwrap();
        assert_eq!(contacts(&registrar, 159), ["sip:a@h"]);
        assert!(contacts(&registrar, 160).is_empty());
        registrar.sweep(160_000);
        assert_eq!(registrar.counts(0).count(), 0);
    }

    #[test]
    fn several_contacts_are_ordered_by_q_and_removed_one_by_one_or_all() {
        let mut registrar = Registrar::default();
        register(&mut registrar, "Contact: <sip:a@h>;q=0.2, <sip:b@h>;q=0.9\r\nExpires: 600\r\n", 1, 0).unwrap();
        assert_eq!(contacts(&registrar, 1), ["sip:b@h", "sip:a@h"]);
        assert_eq!(
            register(&mut registrar, "Contact: <sip:b@h>;expires=0\r\n", 2, 1),
            Ok(Change { before: 2, after: 1 })
        );
        assert_eq!(contacts(&registrar, 1), ["sip:a@h"]);
        assert_eq!(register(&mut registrar, "Contact: *\r\nExpires: 0\r\n", 3, 1), Ok(Change { before: 1, after: 0 }));
    }

    #[test]
    fn bad_registrations_change_nothing() {
        let mut registrar = Registrar::default();
        register(&mut registrar, "Contact: <sip:a@h>\r\n", 5, 0).unwrap();
        for (headers, cseq, refusal) in [
            ("Contact: *\r\n", 6, Refusal::Malformed),
            ("Contact: *, <sip:b@h>\r\nExpires: 0\r\n", 6, Refusal::Malformed),
            ("Contact: <sip:b@h>, <tel:+1>\r\n", 6, Refusal::Malformed),
            ("Contact: <sip:b@h>;q=7\r\n", 6, Refusal::Malformed),
            ("Contact: <sip:b@h>;expires=10\r\n", 6, Refusal::TooBrief),
            ("Contact: <sip:b@h>, <sip:a@h>\r\n", 5, Refusal::OutOfOrder),
            ("Contact: *\r\nExpires: 0\r\n", 4, Refusal::OutOfOrder),
        ] {
            assert_eq!(register(&mut registrar, headers, cseq, 1), Err(refusal), "{headers}");
            assert_eq!(contacts(&registrar, 1), ["sip:a@h"], "{headers}");
        }
    }

    #[test]
    fn same_instance_replaces_its_contact_and_the_eleventh_is_refused() {
        let mut registrar = Registrar::default();
        register(&mut registrar, "Contact: <sip:a@h:1>;+sip.instance=\"<urn:uuid:1>\"\r\n", 1, 0).unwrap();
        register(&mut registrar, "Contact: <sip:a@h:2>;+sip.instance=\"<urn:uuid:1>\"\r\n", 2, 0).unwrap();
        assert_eq!(contacts(&registrar, 1), ["sip:a@h:2"]);
        for n in 0..9 {
            register(&mut registrar, &format!("Contact: <sip:n{n}@h>\r\n"), 3 + n, 0).unwrap();
        }
        assert_eq!(register(&mut registrar, "Contact: <sip:one-more@h>\r\n", 90, 0), Err(Refusal::TooMany));
    }

    #[test]
    fn phone_behind_nat_is_reached_by_the_flow_it_registered_on() {
        let mut registrar = Registrar::default();
        register(&mut registrar, "Contact: <sip:a@192.168.1.4:5060>\r\n", 1, 0).unwrap();
        assert_eq!(registrar.bindings(&1, 1)[0].next_hop().remote, "203.0.113.9:61000".parse().unwrap());
    }
}
