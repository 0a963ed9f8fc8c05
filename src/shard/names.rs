//! Asks the name service what a search for servers wants to know (RFC 3263).
//!
//! As the system does: `/etc/hosts` goes before name servers, these and the search domains are those of
//! `/etc/resolv.conf`, and a change of either file counts from the next look-up on. A configuration may name its own
//! name servers. Answers are kept as long as they say themselves.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use dialtone_sip::resolve::{Answer, Destination, Naptr, Question, Resolution, Srv};
use dialtone_sip::tokens::Tokens;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

/// A caller waits no longer for all questions together.
const PATIENCE: Duration = Duration::from_secs(5);
/// One question may take this long: some name servers never answer to NAPTR, and the address is still to be asked for.
const QUESTION: Duration = Duration::from_secs(2);
/// A name server that says nothing is asked again after this, and twice in all.
const TRY: Duration = Duration::from_secs(1);
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// What the system asks where nothing is configured (resolv.conf(5)).
const LOCAL_SERVER: ([u8; 4], u16) = ([127, 0, 0, 1], 53);

/// The name service. Clones share one cache.
#[derive(Clone)]
pub struct Names {
    /// Empty: those of the system.
    servers: Arc<[SocketAddr]>,
    current: Arc<Mutex<Option<Current>>>,
}

/// A resolver, and the state of the file that it was made from.
struct Current {
    resolver: TokioResolver,
    modified: Option<SystemTime>,
}

impl Names {
    /// Asks these name servers, or those of the system if there is none.
    pub fn new(servers: Vec<SocketAddr>) -> Names {
        Names { servers: servers.into(), current: Arc::default() }
    }

    /// Asks until all is answered, for 5 s at most; what is found by then.
    pub async fn find(&self, mut resolution: Resolution, seed: [u8; 32]) -> Vec<Destination> {
        let (until, mut random) = (Instant::now() + PATIENCE, Tokens::new(seed));
        let hosts = Arc::new(Hosts::from_system().unwrap_or_default());
        let resolver = self.resolver();
        let mut open = JoinSet::new();
        loop {
            while let Some(question) = resolution.poll_question() {
                let (resolver, hosts) = (resolver.clone(), hosts.clone());
                open.spawn(async move {
                    let answer = answer(&resolver, &hosts, &question).await;
                    (question, answer)
                });
            }
            match timeout_at(until, open.join_next()).await {
                Ok(Some(Ok((question, answer)))) => resolution.handle_answer(&question, answer, &mut random),
                Ok(Some(Err(error))) => tracing::error!(%error, "a look-up ended by a bug of this program"),
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!(host = resolution.host(), "looking up the servers of a host took more than 5 s");
                    break;
                }
            }
        }
        let found = resolution.destinations();
        if found.is_empty() {
            tracing::warn!(host = resolution.host(), "no server of a called host was found; log level debug tells why");
        }
        found
    }

    /// The resolver, made anew where resolv.conf has changed.
    fn resolver(&self) -> TokioResolver {
        let modified = if self.servers.is_empty() { modified(RESOLV_CONF) } else { None };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(current) if current.modified == modified => current.resolver.clone(),
            _ => {
                let resolver = make_resolver(&self.servers);
                *current = Some(Current { resolver: resolver.clone(), modified });
                resolver
            }
        }
    }
}

fn modified(path: &str) -> Option<SystemTime> {
    std::fs::metadata(Path::new(path)).and_then(|file| file.modified()).ok()
}

fn make_resolver(servers: &[SocketAddr]) -> TokioResolver {
    let of = |servers: &[SocketAddr]| {
        let servers = servers.iter().map(|server| name_server(*server)).collect();
        (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
    };
    let (config, mut options) = if servers.is_empty() {
        read_system_conf().unwrap_or_else(|error| {
            tracing::warn!(%error, "/etc/resolv.conf names no name server: 127.0.0.1 is asked");
            of(&[LOCAL_SERVER.into()])
        })
    } else {
        of(servers)
    };
    options.timeout = options.timeout.min(TRY);
    // It looks there for a name with a search domain only, and reads the file once.
    options.use_hosts_file = ResolveHosts::Never;
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build().expect("only TLS has something to fail with, and it is not built in")
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

async fn answer(resolver: &TokioResolver, hosts: &Hosts, question: &Question) -> Answer {
    if let Some(answer) = from_hosts(hosts, question) {
        return answer;
    }
    let (name, kind) = match question {
        // Only addresses are looked for in search domains: elsewhere a wildcard would speak for a domain not its own.
        Question::Naptr(name) => (format!("{name}."), RecordType::NAPTR),
        Question::Srv(name) => (format!("{name}."), RecordType::SRV),
        Question::A(name) => (name.clone(), RecordType::A),
        Question::Aaaa(name) => (name.clone(), RecordType::AAAA),
    };
    let Ok(asked) = Name::from_ascii(&name) else { return Answer::Nothing };
    match timeout(QUESTION, resolver.lookup(asked, kind)).await {
        Ok(Ok(lookup)) => read(question, lookup.answers().iter().map(|record| &record.data)),
        Ok(Err(error)) => {
            tracing::debug!(name, %kind, %error, "no answer of the name service");
            Answer::Nothing
        }
        Err(_) => {
            tracing::debug!(name, %kind, "no answer of the name service in 2 s");
            Answer::Nothing
        }
    }
}

/// What `/etc/hosts` says of a name. No name server is asked about one that stands there, not for its services either.
fn from_hosts(hosts: &Hosts, question: &Question) -> Option<Answer> {
    let host = match question {
        Question::Srv(name) => name.splitn(3, '.').nth(2).filter(|_| name.starts_with('_'))?,
        Question::Naptr(host) | Question::A(host) | Question::Aaaa(host) => host,
    };
    let name = Name::from_ascii(format!("{host}.")).ok()?;
    let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let (v4, v6) = (of(RecordType::A), of(RecordType::AAAA));
    if v4.is_none() && v6.is_none() {
        return None;
    }
    let found = match question {
        Question::A(_) => v4,
        Question::Aaaa(_) => v6,
        Question::Naptr(_) | Question::Srv(_) => None,
    };
    Some(found.map_or(Answer::Nothing, |found| read(question, found.answers().iter().map(|record| &record.data))))
}

/// The records that were asked for; others, as an alias on the way, are left out.
fn read<'a>(question: &Question, records: impl Iterator<Item = &'a RData>) -> Answer {
    match question {
        Question::Naptr(_) => Answer::Naptr(records.filter_map(naptr).collect()),
        Question::Srv(_) => Answer::Srv(records.filter_map(srv).collect()),
        Question::A(_) | Question::Aaaa(_) => Answer::Addresses(records.filter_map(RData::ip_addr).collect()),
    }
}

fn naptr(record: &RData) -> Option<Naptr> {
    let RData::NAPTR(record) = record else { return None };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(Naptr {
        order: record.order,
        preference: record.preference,
        flags: text(&record.flags),
        services: text(&record.services),
        replacement: record.replacement.to_ascii(),
    })
}

fn srv(record: &RData) -> Option<Srv> {
    let RData::SRV(record) = record else { return None };
    Some(Srv { priority: record.priority, weight: record.weight, port: record.port, target: record.target.to_ascii() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_hosts_file_says_is_all_that_is_asked() {
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf("192.0.2.1 pbx.example pbx\n2001:db8::1 six.example\n".as_bytes()).unwrap();
        let addresses = |ip: &str| Some(Answer::Addresses(vec![ip.parse().unwrap()]));
        let nothing = Some(Answer::Nothing);
        for (question, answer) in [
            (Question::A("pbx.example".into()), addresses("192.0.2.1")),
            (Question::A("pbx".into()), addresses("192.0.2.1")),
            (Question::Aaaa("six.example".into()), addresses("2001:db8::1")),
            (Question::Aaaa("pbx".into()), nothing.clone()),
            (Question::A("six.example".into()), nothing.clone()),
            (Question::Naptr("pbx.example".into()), nothing.clone()),
            (Question::Srv("_sip._udp.pbx".into()), nothing),
            (Question::A("example".into()), None),
            (Question::Naptr("sub.pbx.example".into()), None),
            (Question::Srv("_sip._udp.example".into()), None),
            (Question::Srv("sip.udp.pbx".into()), None),
            (Question::A("no name".into()), None),
        ] {
            assert_eq!(from_hosts(&hosts, &question), answer, "{question:?}");
        }
    }
}
