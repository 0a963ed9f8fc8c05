//! SIP domains that the API has made: who may register and call there, and what answers.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicU32, Ordering};

use dialtone_sip::digest::{self, Credentials};
use dialtone_sip::msg::{HeaderName, Message};

use crate::client::{Client, mine, text};
use crate::peer::{House, PATIENCE};

const DOMAIN: &str = "office.sip.test";
const PASSWORD: &str = "Secret-Of-Alice-1";

/// A phone with an account at the domain.
struct Phone {
    socket: UdpSocket,
    server: std::net::SocketAddr,
    username: &'static str,
    password: String,
}

impl Phone {
    fn new(house: &House, username: &'static str, password: &str) -> Phone {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Phone { socket, server: house.udp, username, password: password.to_owned() }
    }

    /// The final status, after the challenge where there is one.
    fn ask(&self, method: &str, uri: &str, domain: &str) -> u16 {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let call_id = format!("d{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let first = self.send(method, uri, domain, &call_id, 1, "");
        if first.status() != 401 {
            return first.status();
        }
        let credentials = Credentials { username: self.username.into(), password: self.password.clone(), realm: None };
        let challenges = first.headers(HeaderName::WwwAuthenticate);
        let answer = digest::answer(challenges, &credentials, method, uri, "cnonce", 1).unwrap();
        self.send(method, uri, domain, &call_id, 2, &format!("Authorization: {answer}\r\n")).status()
    }

    fn send(&self, method: &str, uri: &str, domain: &str, call_id: &str, cseq: u32, more: &str) -> Message {
        let own = self.socket.local_addr().unwrap();
        let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";
        let body = if method == "INVITE" { sdp } else { "" };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let aor = format!("sip:{}@{domain}", self.username);
        let to = if method == "REGISTER" { &aor } else { uri };
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own};rport;branch=z9hG4bK{call_id}{cseq}\r\nMax-Forwards: 70\r\n\
             From: <{aor}>;tag=t\r\nTo: <{to}>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: <sip:a@{own}>\r\n{more}{kind}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.socket.send_to(text.as_bytes(), self.server).unwrap();
        let mut buffer = [0; 65_536];
        loop {
            let (length, _) = self.socket.recv_from(&mut buffer).expect("the server says something");
            let message = Message::parse(bytes::Bytes::copy_from_slice(&buffer[..length])).unwrap();
            let own_answer = !message.is_request() && message.call_id() == call_id;
            if own_answer && message.status() >= 200 && message.cseq().is_some_and(|(number, _)| number == cseq) {
                return message;
            }
        }
    }

    fn register(&self) -> u16 {
        self.ask("REGISTER", &format!("sip:{DOMAIN}"), DOMAIN)
    }

    fn call(&self, whom: &str) -> u16 {
        self.ask("INVITE", &format!("sip:{whom}@{DOMAIN}"), DOMAIN)
    }
}

/// Makes the domain and a list with alice; the paths of both.
fn office(client: &mut Client, registration: &str) -> (String, String) {
    let fields = [("DomainName", DOMAIN), ("SipRegistration", registration), ("VoiceUrl", "http://127.0.0.1:9/v")];
    let domain = client.create(&mine("/SIP/Domains.json"), &fields);
    let list = client.create(&mine("/SIP/CredentialLists.json"), &[("FriendlyName", "staff")]);
    let list = text(&list, "sid").to_owned();
    let path = mine(&format!("/SIP/CredentialLists/{list}/Credentials.json"));
    client.create(&path, &[("Username", "alice"), ("Password", PASSWORD)]);
    (mine(&format!("/SIP/Domains/{}", text(&domain, "sid"))), list)
}

/// The document cannot be fetched, which the caller is told by voice: the call was taken.
const TAKEN: u16 = 200;

#[test]
fn user_of_a_list_registers_and_calls_where_the_list_is_put_to_use() {
    let house = House::start().hurrying();
    let mut client = Client::of_house(&house);
    let (domain, list) = office(&mut client, "true");
    let alice = Phone::new(&house, "alice", PASSWORD);
    assert_eq!(alice.register(), 401, "the list is not put to use yet");
    assert_eq!(alice.call("bob"), 403, "nobody may call");
    client.create(&format!("{domain}/Auth/Registrations/CredentialListMappings.json"), &[("CredentialListSid", &list)]);
    assert_eq!(alice.register(), 200);
    assert_eq!(alice.call("bob"), 403, "only registration is allowed");
    client.create(&format!("{domain}/Auth/Calls/CredentialListMappings.json"), &[("CredentialListSid", &list)]);
    assert_eq!(text(&client.get(&format!("{domain}.json")), "auth_type"), "CREDENTIAL_LIST");
    assert_eq!(alice.call("bob"), TAKEN, "the domain's application is asked");
    assert_eq!(Phone::new(&house, "alice", "Wrong-Password-1").call("bob"), 401);
    assert_eq!(Phone::new(&house, "carol", PASSWORD).call("bob"), 401);

    // After a restart the hashes are all that there is of the password.
    let house = house.restart();
    let mut client = Client::of_house(&house);
    let alice = Phone::new(&house, "alice", PASSWORD);
    assert_eq!((alice.register(), alice.call("bob")), (200, TAKEN));
    let stored = std::fs::read(house.folder.join("d.db")).unwrap();
    assert!(!stored.windows(PASSWORD.len()).any(|text| text == PASSWORD.as_bytes()));

    let credentials = client.get(&mine(&format!("/SIP/CredentialLists/{list}/Credentials.json")));
    assert_eq!(credentials["credentials"][0].get("hashes"), None);
    let path = text(&credentials["credentials"][0], "uri").to_owned();
    client.update(&path, &[("Password", "Another-Password-1")]);
    assert_eq!(alice.register(), 401, "the old password");
    assert_eq!(Phone::new(&house, "alice", "Another-Password-1").register(), 200);
    client.update(&format!("{domain}.json"), &[("SipRegistration", "false")]);
    assert_eq!(Phone::new(&house, "alice", "Another-Password-1").register(), 403);
    client.delete(&mine(&format!("/SIP/CredentialLists/{list}.json")));
    assert_eq!(Phone::new(&house, "alice", "Another-Password-1").call("bob"), 403, "the list is gone, and its uses");
}

#[test]
fn addresses_of_a_list_call_without_a_password_and_others_not_at_all() {
    let house = House::start().hurrying();
    let mut client = Client::of_house(&house);
    let (domain, users) = office(&mut client, "false");
    let list = client.create(&mine("/SIP/IpAccessControlLists.json"), &[("FriendlyName", "door")]);
    let list = text(&list, "sid").to_owned();
    client.create(&format!("{domain}/IpAccessControlListMappings.json"), &[("IpAccessControlListSid", &list)]);
    let phone = Phone::new(&house, "door", "");
    assert_eq!(phone.call("bob"), 403, "an empty list lets nobody in");
    let addresses = mine(&format!("/SIP/IpAccessControlLists/{list}/IpAddresses.json"));
    client.create(&addresses, &[("FriendlyName", "far"), ("IpAddress", "192.0.2.0"), ("CidrPrefixLength", "24")]);
    assert_eq!(phone.call("bob"), 403);
    client.create(&addresses, &[("FriendlyName", "near"), ("IpAddress", "127.0.0.0"), ("CidrPrefixLength", "8")]);
    assert_eq!(phone.call("bob"), TAKEN);
    assert_eq!(text(&client.get(&format!("{domain}.json")), "auth_type"), "IP_ACL");
    // With users too both are wanted.
    client.create(&format!("{domain}/CredentialListMappings.json"), &[("CredentialListSid", &users)]);
    assert_eq!(text(&client.get(&format!("{domain}.json")), "auth_type"), "IP_ACL,CREDENTIAL_LIST");
    assert_eq!(phone.call("bob"), 401);
    assert_eq!(Phone::new(&house, "alice", PASSWORD).call("bob"), TAKEN);
    for (path, key) in [("Auth/Calls/", "contents"), ("", "ip_access_control_list_mappings")] {
        let listed = client.get(&format!("{domain}/{path}IpAccessControlListMappings.json"));
        assert_eq!(crate::client::sids(&listed, key), [list.as_str()], "one and the same, by both paths");
    }
}

#[test]
fn domains_and_credentials_that_cannot_be_are_refused() {
    let house = House::with("domains = [\"own.example\"]", "");
    let mut client = Client::of_house(&house);
    let (domain, list) = office(&mut client, "false");
    let domains = mine("/SIP/Domains.json");
    for (name, code) in [
        (DOMAIN, 21_232),
        ("OFFICE.sip.test", 21_232),
        ("own.example", 21_232),
        ("", 20_001),
        ("alone", 20_001),
        ("a b.test", 20_001),
        ("127.0.0.1", 20_001),
        ("-a.test", 20_001),
    ] {
        assert_eq!(client.refused(400, "POST", &domains, &[("DomainName", name)]), code, "{name}");
    }
    client.update(&format!("{domain}.json"), &[("DomainName", DOMAIN), ("FriendlyName", "its own name is free")]);
    let path = mine(&format!("/SIP/CredentialLists/{list}/Credentials.json"));
    for (name, password) in [
        ("alice", PASSWORD),
        ("bob", "Short-1"),
        ("bob", "no-capital-letter-1"),
        ("bob", "No-Digit-At-All"),
        ("bob", ""),
        ("", PASSWORD),
        ("a name", PASSWORD),
        ("a-name-of-more-than-thirty-two-letters", PASSWORD),
    ] {
        client.refused(400, "POST", &path, &[("Username", name), ("Password", password)]);
    }
    let other = client.create(&domains, &[("DomainName", "b.sip.test")]);
    let path = mine(&format!("/SIP/Domains/{}.json", text(&other, "sid")));
    assert_eq!(client.refused(400, "POST", &path, &[("DomainName", DOMAIN)]), 21_232, "by a change too");
    let mapping = format!("{domain}/Auth/Calls/CredentialListMappings.json");
    client.create(&mapping, &[("CredentialListSid", &list)]);
    assert_eq!(client.refused(400, "POST", &mapping, &[("CredentialListSid", &list)]), 20_001, "twice");
    assert_eq!(client.refused(400, "POST", &mapping, &[("CredentialListSid", "CL1")]), 20_001);
}

#[test]
fn users_of_a_suspended_account_neither_register_nor_call() {
    let house = House::start().hurrying();
    let mut client = Client::of_house(&house);
    let child = client.create("/2010-04-01/Accounts.json", &[]);
    let mut own = Client::new(&house, text(&child, "sid"), text(&child, "auth_token"));
    let of = |path: &str| crate::client::of(text(&child, "sid"), path);
    let fields = [("DomainName", DOMAIN), ("SipRegistration", "true"), ("VoiceUrl", "http://127.0.0.1:9/v")];
    let domain = own.create(&of("/SIP/Domains.json"), &fields);
    let list = own.create(&of("/SIP/CredentialLists.json"), &[("FriendlyName", "staff")]);
    let list = text(&list, "sid");
    own.create(
        &of(&format!("/SIP/CredentialLists/{list}/Credentials.json")),
        &[("Username", "alice"), ("Password", PASSWORD)],
    );
    for what in ["Calls", "Registrations"] {
        let path = of(&format!("/SIP/Domains/{}/Auth/{what}/CredentialListMappings.json", text(&domain, "sid")));
        own.create(&path, &[("CredentialListSid", list)]);
    }
    let alice = Phone::new(&house, "alice", PASSWORD);
    assert_eq!((alice.register(), alice.call("bob")), (200, TAKEN));
    client.update(&of(".json"), &[("Status", "suspended")]);
    assert_eq!((alice.register(), alice.call("bob")), (403, 403));
    client.update(&of(".json"), &[("Status", "active")]);
    assert_eq!((alice.register(), alice.call("bob")), (200, TAKEN));
}
