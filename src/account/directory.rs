//! Who somebody is, and what a number means: look-ups over everything that is configured.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::{
    Account, AccountStatus, Aor, ApiKey, Application, Domain, Limits, Number, QueueEntry, Source, Trunk, User,
};
use crate::ids::{AccountSid, NumberSid};
use crate::usage::{Budget, PriceBook};

/// All accounts with their numbers, users and trunks.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    accounts: HashMap<AccountSid, Arc<Account>>,
    numbers: HashMap<String, Vec<Arc<Number>>>,
    users: HashMap<Aor, Arc<User>>,
    /// Those that are called as `client:NAME`.
    clients: HashMap<(AccountSid, String), Arc<User>>,
    trunks: Vec<Arc<Trunk>>,
    /// Domains of the configuration that are ours, the default one first.
    domains: Vec<String>,
    /// Domains that the API has made, by their names in small letters.
    sip_domains: HashMap<String, Arc<Domain>>,
    /// By sid.
    keys: HashMap<String, Arc<ApiKey>>,
    /// Numbers of others that an account may show.
    caller_ids: HashSet<(AccountSid, String)>,
    queues: HashMap<(AccountSid, String), QueueEntry>,
    price_books: HashMap<AccountSid, Arc<PriceBook>>,
    has_budgets: bool,
    /// Accounts with usage triggers.
    watched: HashSet<AccountSid>,
    /// Sinks that somebody has subscribed, by sid.
    sinks: HashSet<String>,
    /// Since when and until when what happens in an account is logged, milliseconds since 1970.
    heard: HashMap<AccountSid, (u64, u64)>,
    /// By sid.
    applications: HashMap<String, (AccountSid, Arc<Application>)>,
}

/// Where a request without a dialog came from.
#[derive(Clone, Debug)]
pub enum Origin {
    Trunk(Arc<Trunk>),
    User(Arc<User>),
    /// An address that a domain lets in without a user's credentials.
    Domain(Arc<Domain>),
    /// A browser.
    Client(Arc<Client>),
}

/// Who has shown an access token, on the connection that it was shown on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub account: AccountSid,
    pub identity: String,
    /// Whether it may be called.
    pub incoming: bool,
    /// The application that answers what it calls.
    pub application: Option<String>,
    /// What the token gives along to that.
    pub parameters: Vec<(String, String)>,
}

impl Client {
    /// The application of a phone of the console: it reaches what a user of its name would.
    pub const OF_CONSOLE: &str = "console";

    /// By what its browsers are found: a name that no SIP domain has.
    pub fn aor(account: AccountSid, identity: &str) -> Aor {
        Aor { username: identity.to_owned(), domain: account.to_string() }
    }

    /// Whose browsers are found by that, if it is one of these.
    pub fn of_aor(aor: &Aor) -> Option<(AccountSid, &str)> {
        Some((aor.domain.parse().ok()?, aor.username.as_str()))
    }
}

impl Origin {
    pub fn account(&self) -> AccountSid {
        match self {
            Origin::Trunk(trunk) => trunk.account,
            Origin::User(user) => user.account,
            Origin::Domain(domain) => domain.account,
            Origin::Client(client) => client.account,
        }
    }
}

/// Why something cannot be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryError {
    AccountTwice,
    NumberTwice,
    UserTwice,
    TrunkTwice,
    DomainTwice,
    /// Another trunk has the same source, and nothing tells their calls apart.
    SameSource {
        other: String,
        source: String,
    },
    UnknownAccount,
}

impl Directory {
    /// `domains`: the default one first.
    pub fn new(domains: Vec<String>) -> Directory {
        Directory { domains, ..Directory::default() }
    }

    pub fn add_account(&mut self, account: Account) -> Result<(), DirectoryError> {
        match self.accounts.insert(account.sid, Arc::new(account)) {
            None => Ok(()),
            Some(_) => Err(DirectoryError::AccountTwice),
        }
    }

    /// Gives an account other limits.
    pub fn change_limits(&mut self, account: AccountSid, change: impl FnOnce(&mut Limits)) {
        if let Some(account) = self.accounts.get_mut(&account) {
            change(&mut Arc::make_mut(account).limits);
        }
    }

    pub fn add_number(&mut self, number: Number) -> Result<(), DirectoryError> {
        self.known(number.account)?;
        let same = self.numbers.entry(number.number.clone()).or_default();
        if same.iter().any(|other| other.account == number.account) {
            return Err(DirectoryError::NumberTwice);
        }
        same.push(Arc::new(number));
        Ok(())
    }

    pub fn number_of_sid(&self, account: AccountSid, sid: NumberSid) -> Option<&Arc<Number>> {
        self.numbers(account).find(|number| number.sid == sid)
    }

    /// Puts a number in the place of the one of the same sid; whether there was one.
    pub fn replace_number(&mut self, number: Number) -> bool {
        let same = self.numbers.get_mut(&number.number).into_iter().flatten();
        match same.into_iter().find(|known| known.sid == number.sid) {
            Some(known) => {
                *known = Arc::new(number);
                true
            }
            None => false,
        }
    }

    pub fn add_key(&mut self, sid: String, key: ApiKey) {
        self.keys.insert(sid, Arc::new(key));
    }

    pub fn add_caller_id(&mut self, account: AccountSid, number: String) {
        self.caller_ids.insert((account, number));
    }

    pub fn add_queue(&mut self, account: AccountSid, name: String, queue: QueueEntry) {
        self.queues.insert((account, name), queue);
    }

    /// An account pays by these prices, and so do those that it makes.
    pub fn set_price_book(&mut self, account: AccountSid, book: Arc<PriceBook>) {
        self.price_books.insert(account, book);
    }

    pub fn price_book(&self, account: AccountSid) -> Option<&Arc<PriceBook>> {
        self.price_books.get(&account).or_else(|| self.price_books.get(&self.account(account)?.owner?))
    }

    /// Gives an account another budget.
    pub fn set_budget(&mut self, account: AccountSid, budget: Option<Budget>) {
        if let Some(account) = self.accounts.get_mut(&account) {
            Arc::make_mut(account).budget = budget.filter(|budget| !budget.is_boundless());
        }
        self.has_budgets |= budget.is_some();
    }

    /// Whether any account has one.
    pub fn has_budgets(&self) -> bool {
        self.has_budgets
    }

    /// A usage trigger waits for what an account uses, and those that it has made.
    pub fn watch(&mut self, account: AccountSid) {
        self.watched.insert(account);
    }

    pub fn is_watched(&self, account: AccountSid) -> bool {
        !self.watched.is_empty()
            && (self.watched.contains(&account)
                || self
                    .account(account)
                    .and_then(|account| account.owner)
                    .is_some_and(|owner| self.watched.contains(&owner)))
    }

    /// Somebody listens to what happens in an account, from then and until then at least.
    pub fn hear(&mut self, account: AccountSid, since_ms: u64, until_ms: u64) {
        let (since, until) = self.heard.entry(account).or_insert((since_ms, until_ms));
        (*since, *until) = (since_ms.min(*since), until_ms.max(*until));
    }

    /// Whether somebody may want to know what happens in an account at that time.
    pub fn is_heard(&self, account: AccountSid, at_ms: u64) -> bool {
        !self.heard.is_empty()
            && self.heard.get(&account).is_some_and(|(since, until)| (*since..*until).contains(&at_ms))
    }

    /// What happens in an account goes to a sink.
    pub fn subscribe(&mut self, account: AccountSid, sink: String, since_ms: u64) {
        self.hear(account, since_ms, u64::MAX);
        self.sinks.insert(sink);
    }

    pub fn has_subscription(&self, sink: &str) -> bool {
        self.sinks.contains(sink)
    }

    /// Something has stopped an account.
    pub fn suspend(&mut self, account: AccountSid) {
        if let Some(account) = self.accounts.get_mut(&account) {
            Arc::make_mut(account).is_stopped = true;
        }
    }

    /// An account's queue of that name.
    pub fn queue(&self, account: AccountSid, name: &str) -> Option<QueueEntry> {
        self.queues.get(&(account, name.to_owned())).copied()
    }

    pub fn add_application(&mut self, account: AccountSid, sid: String, application: Application) {
        self.applications.insert(sid, (account, Arc::new(application)));
    }

    /// An account's application, if there is a document to ask it for.
    pub fn application(&self, account: AccountSid, sid: &str) -> Option<&Arc<Application>> {
        self.applications.get(sid).filter(|(owner, _)| *owner == account).map(|(_, application)| application)
    }

    pub fn add_sip_domain(&mut self, domain: Arc<Domain>) -> Result<(), DirectoryError> {
        self.known(domain.account)?;
        let name = domain.name.to_ascii_lowercase();
        if self.is_own_domain(&name) {
            return Err(DirectoryError::DomainTwice);
        }
        self.sip_domains.insert(name, domain);
        Ok(())
    }

    pub fn add_user(&mut self, user: User) -> Result<(), DirectoryError> {
        self.known(user.account)?;
        if user.sip_domain.is_none() && !self.domains.contains(&user.domain) {
            self.domains.push(user.domain.clone());
        }
        let aor = Aor { username: user.username.clone(), domain: user.domain.clone() };
        let user = Arc::new(user);
        if user.sip_domain.is_none() {
            let name = (user.account, user.username.clone());
            // Of several that of the default domain.
            let is_default = self.domains.first().is_some_and(|domain| *domain == user.domain);
            if is_default || !self.clients.contains_key(&name) {
                self.clients.insert(name, user.clone());
            }
        }
        match self.users.insert(aor, user) {
            None => Ok(()),
            Some(_) => Err(DirectoryError::UserTwice),
        }
    }

    pub fn add_trunk(&mut self, trunk: Trunk) -> Result<(), DirectoryError> {
        self.known(trunk.account)?;
        for other in &self.trunks {
            if other.account == trunk.account && other.name == trunk.name {
                return Err(DirectoryError::TrunkTwice);
            }
            let apart = !other.numbers.is_empty()
                && !trunk.numbers.is_empty()
                && other.numbers.iter().all(|number| !trunk.numbers.contains(number));
            if let Some(source) = other.from.iter().find(|source| trunk.from.contains(source)).filter(|_| !apart) {
                return Err(DirectoryError::SameSource { other: other.name.clone(), source: source_text(source) });
            }
        }
        self.trunks.push(Arc::new(trunk));
        Ok(())
    }

    fn known(&self, account: AccountSid) -> Result<(), DirectoryError> {
        if self.accounts.contains_key(&account) { Ok(()) } else { Err(DirectoryError::UnknownAccount) }
    }

    pub fn account(&self, sid: AccountSid) -> Option<&Arc<Account>> {
        self.accounts.get(&sid)
    }

    /// Whether the account is there and may do anything.
    pub fn is_active(&self, sid: AccountSid) -> bool {
        self.account(sid).is_some_and(|account| account.standing() == AccountStatus::Active)
    }

    pub fn key(&self, sid: &str) -> Option<&Arc<ApiKey>> {
        self.keys.get(sid)
    }

    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.values()
    }

    /// Those that an account has made, and that may do anything; in no order.
    pub fn made_by(&self, owner: AccountSid) -> impl Iterator<Item = AccountSid> {
        let is_one = move |made: &&Arc<Account>| made.owner == Some(owner) && made.standing() == AccountStatus::Active;
        self.accounts.values().filter(is_one).map(|made| made.sid)
    }

    /// Whether calls of that account may be those of a client of the other: it is the same, or has made it.
    pub fn may_call_for(&self, account: AccountSid, client: AccountSid) -> bool {
        account == client || self.account(client).is_some_and(|made| made.owner == Some(account))
    }

    /// The domain that a host names: itself if it is one of ours, else the default.
    pub fn domain_of(&self, host: &str) -> &str {
        if let Some(domain) = self.sip_domain(host) {
            return &domain.name;
        }
        let found = self.domains.iter().find(|domain| domain.eq_ignore_ascii_case(host));
        found.or(self.domains.first()).map_or("", String::as_str)
    }

    pub fn is_own_domain(&self, host: &str) -> bool {
        self.sip_domain(host).is_some() || self.domains.iter().any(|domain| domain.eq_ignore_ascii_case(host))
    }

    /// The domain of that name that the API has made.
    pub fn sip_domain(&self, host: &str) -> Option<&Arc<Domain>> {
        if self.sip_domains.is_empty() { None } else { self.sip_domains.get(&host.to_ascii_lowercase()) }
    }

    pub fn user(&self, username: &str, domain: &str) -> Option<&Arc<User>> {
        self.users.get(&Aor { username: username.to_owned(), domain: domain.to_owned() })
    }

    /// As which client a user is known: by its name, or with its domain where that name is another's.
    pub fn identity_of(&self, user: &User) -> String {
        match self.client(user.account, &user.username) {
            Some(client) if client.domain == user.domain => user.username.clone(),
            _ => format!("{}@{}", user.username, user.domain),
        }
    }

    /// The user that an account's client is, as [`Directory::identity_of`] says it.
    pub fn user_of(&self, account: AccountSid, identity: &str) -> Option<&Arc<User>> {
        let by_domain = || self.user(identity.rsplit_once('@')?.0, identity.rsplit_once('@')?.1);
        self.client(account, identity).or_else(by_domain).filter(|user| user.account == account)
    }

    /// Every user of an account, in no order.
    pub fn users_of(&self, account: AccountSid) -> impl Iterator<Item = &Arc<User>> {
        self.users.values().filter(move |user| user.account == account)
    }

    /// An account's user by name alone, as `client:NAME` says it.
    pub fn client(&self, account: AccountSid, identity: &str) -> Option<&Arc<User>> {
        self.clients.get(&(account, identity.to_owned()))
    }

    /// Every number of an account, in no order.
    pub fn numbers(&self, account: AccountSid) -> impl Iterator<Item = &Arc<Number>> {
        self.numbers.values().flatten().filter(move |number| number.account == account)
    }

    /// Whether any account has a number of that text.
    pub fn is_number(&self, number: &str) -> bool {
        self.numbers.get(number).is_some_and(|same| !same.is_empty())
    }

    /// The account's number of that text, with a `+` added if need be.
    pub fn number(&self, account: AccountSid, dialled: &str) -> Option<&Arc<Number>> {
        let find = |text: &str| self.numbers.get(text)?.iter().find(|number| number.account == account);
        find(dialled).or_else(|| find(&format!("+{dialled}")))
    }

    /// The trunk that a request from this source comes by. One that names the very address goes before one that names
    /// its network; `by_network` says whether networks count yet.
    ///
    /// Two trunks of one source are told apart by the number that is called.
    pub fn trunk_from(&self, source: SocketAddr, called: &str, by_network: bool) -> Option<&Arc<Trunk>> {
        let matches = |trunk: &Trunk| {
            trunk.from.iter().any(|from| if by_network { from.contains(source.ip()) } else { from.names(source) })
        };
        let candidates: Vec<&Arc<Trunk>> = self.trunks.iter().filter(|trunk| matches(trunk)).collect();
        let has_number = |trunk: &&&Arc<Trunk>| {
            trunk.numbers.iter().any(|number| number == called || number.strip_prefix('+') == Some(called))
        };
        candidates.iter().find(has_number).or(candidates.first()).copied()
    }

    /// The trunks that an account's call to a number may take, the best first: longest prefix, then priority.
    pub fn trunks_to(&self, account: AccountSid, number: &str) -> Vec<&Arc<Trunk>> {
        let reach = |trunk: &Trunk| {
            trunk.prefixes.iter().filter(|prefix| number.starts_with(prefix.as_str())).map(String::len).max()
        };
        let own = self.trunks.iter().filter(|trunk| trunk.account == account && trunk.uri.is_some());
        let mut found: Vec<_> = own.filter_map(|trunk| Some((reach(trunk)?, trunk))).collect();
        found.sort_by_key(|(length, trunk)| (std::cmp::Reverse(*length), trunk.priority));
        found.into_iter().map(|(_, trunk)| trunk).collect()
    }

    /// Whether the account may show this number to whom it calls.
    pub fn owns_caller_id(&self, account: AccountSid, number: &str) -> bool {
        let of_trunk = || {
            self.trunks.iter().any(|trunk| trunk.account == account && trunk.numbers.iter().any(|own| own == number))
        };
        self.number(account, number).is_some() || self.caller_ids.contains(&(account, number.to_owned())) || of_trunk()
    }

    /// An account's trunk by its name.
    pub fn trunk(&self, account: AccountSid, name: &str) -> Option<&Arc<Trunk>> {
        self.trunks.iter().find(|trunk| trunk.account == account && trunk.name == name)
    }

    /// The trunk whose URI has this host, for `<Dial><Sip>` to a configured peer.
    pub fn trunk_with_host(&self, account: AccountSid, host: &str) -> Option<&Arc<Trunk>> {
        let host_of = |uri: &str| dialtone_sip::msg::SipUri::parse(uri).ok().map(|uri| uri.host.host.to_owned());
        let matches = |trunk: &&Arc<Trunk>| {
            trunk.account == account
                && trunk.uri.as_deref().and_then(host_of).is_some_and(|own| own.eq_ignore_ascii_case(host))
        };
        self.trunks.iter().find(matches)
    }
}

fn source_text(source: &Source) -> String {
    match source {
        Source::Address(address) => address.to_string(),
        Source::Network(network) => network.to_string(),
    }
}
