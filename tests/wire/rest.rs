//! The REST API against what no SDK would send, and against whoever may not ask.

use std::collections::BTreeMap;

use dialtone::api::Route;
use dialtone_sip::tokens::Tokens;
use serde_json::Value;

use crate::client::{Client, mine, of, text};
use crate::peer::{ACCOUNT, House, PATIENCE, Peer};

const OTHER: &str = "AC00000000000000000000000000000002";
const TENANTS: &str = r#"
[[account]]
sid = "AC00000000000000000000000000000002"
auth_token = "of-the-other"

[[user]]
account = "AC00000000000000000000000000000001"
username = "reader"
password = "of-the-reader"
"#;

/// Some routes with an account and an instance in them.
fn routes(account: &str, call: &str) -> [(&'static str, String); 10] {
    let call = format!("/Calls/{call}.json");
    [
        ("GET", of(account, ".json")),
        ("GET", of(account, "/Calls.json")),
        ("POST", of(account, "/Calls.json")),
        ("GET", of(account, &call)),
        ("POST", of(account, &call)),
        ("DELETE", of(account, &call)),
        ("GET", of(account, "/Nothing.json")),
        ("POST", of(account, "/IncomingPhoneNumbers.json")),
        ("POST", of(account, "/SIP/Domains.json")),
        ("GET", of(account, "/Applications.json")),
    ]
}

/// One instance of everything that an account can have: its sid, by the last part of its list's path.
fn one_of_each(client: &mut Client, account: &str, number: u32) -> BTreeMap<&'static str, String> {
    let mut made = BTreeMap::new();
    let mut make = |name: &'static str, path: &str, fields: &[(&str, &str)]| {
        let path = if path.starts_with("/v1") { path.to_owned() } else { of(account, path) };
        let sid = text(&client.create(&path, fields), "sid").to_owned();
        made.insert(name, sid.clone());
        sid
    };
    make("Applications", "/Applications.json", &[("VoiceUrl", "http://app.test/")]);
    make("Keys", "/Keys.json", &[]);
    let fields = [("CallbackUrl", "http://app.test/"), ("TriggerValue", "9"), ("UsageCategory", "calls")];
    make("Triggers", "/Usage/Triggers.json", &fields);
    let own =
        make("IncomingPhoneNumbers", "/IncomingPhoneNumbers.json", &[("PhoneNumber", &format!("+1555{number:07}"))]);
    let list = make("CredentialLists", "/SIP/CredentialLists.json", &[("FriendlyName", "users")]);
    let path = format!("/SIP/CredentialLists/{list}/Credentials.json");
    make("Credentials", &path, &[("Username", "bob"), ("Password", "Secret-Of-Bob-1")]);
    let addresses = make("IpAccessControlLists", "/SIP/IpAccessControlLists.json", &[("FriendlyName", "office")]);
    let path = format!("/SIP/IpAccessControlLists/{addresses}/IpAddresses.json");
    make("IpAddresses", &path, &[("FriendlyName", "door"), ("IpAddress", "192.0.2.1")]);
    let name = format!("d{number}.sip.test");
    let domain = make("Domains", "/SIP/Domains.json", &[("DomainName", &name)]);
    for (path, param, sid) in [
        ("Auth/Calls/CredentialListMappings", "CredentialListSid", &list),
        ("Auth/Registrations/CredentialListMappings", "CredentialListSid", &list),
        ("Auth/Calls/IpAccessControlListMappings", "IpAccessControlListSid", &addresses),
    ] {
        let name = path.rsplit('/').next().unwrap();
        make(name, &format!("/SIP/Domains/{domain}/{path}.json"), &[(param, sid)]);
    }
    let trunk = make("Trunks", "/v1/Trunks", &[("DomainName", &format!("t{number}.sip.test"))]);
    let below = |path: &str| format!("/v1/Trunks/{trunk}/{path}");
    make("OriginationUrls", &below("OriginationUrls"), &[("FriendlyName", "pbx"), ("SipUrl", "sip:192.0.2.9")]);
    make("CredentialLists", &below("CredentialLists"), &[("CredentialListSid", &list)]);
    make("IpAccessControlLists", &below("IpAccessControlLists"), &[("IpAccessControlListSid", &addresses)]);
    make("PhoneNumbers", &below("PhoneNumbers"), &[("PhoneNumberSid", &own)]);
    let configuration = r#"{"destination":"http://127.0.0.1:9/events"}"#;
    let sink = [("SinkType", "webhook"), ("SinkConfiguration", configuration)];
    let sink = make("Sinks", "/v1/Sinks", &sink);
    let types = r#"{"type":"com.twilio.voice.status-callback.call.completed","schema_version":1}"#;
    make("Subscriptions", "/v1/Subscriptions", &[("SinkSid", &sink), ("Types", types)]);
    let kind = "com.twilio.voice.status-callback.call.completed".to_owned();
    made.extend([("SubscribedEvents", kind.clone()), ("Types", kind)]);
    made.extend([("Clients", "jenny".to_owned()), ("Devices", format!("DV{number:032}"))]);
    made.insert("SigningKeys", made["Keys"].clone());
    client.update(&of(account, "/OutgoingCallerIds.json"), &[("PhoneNumber", &format!("+1777{number:07}"))]);
    let ids = client.get(&of(account, "/OutgoingCallerIds.json"));
    made.insert("OutgoingCallerIds", text(&ids["outgoing_caller_ids"][0], "sid").to_owned());
    made
}

/// Asks until there is an answer.
fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let began = std::time::Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "nothing comes");
    }
}

/// A call in a conference that is recorded, whose document gives a notification; and one that waits in a queue.
fn calls_in_rooms(house: &House, client: &mut Client, made: &mut BTreeMap<&'static str, String>) {
    let peer = Peer::new(house);
    for name in ["first", "second", "third"] {
        peer.send(&peer.invite(name, "echo"));
        let answer = peer.expect(200);
        let tag = answer.to().unwrap().tag().unwrap().to_owned();
        peer.send(&peer.inside("ACK", name, "echo", &tag, 1));
    }
    let calls = until(|| {
        let list = client.get(&mine("/Calls.json?From=sip%3Apeer%40127.0.0.1&Status=in-progress"));
        list["calls"].as_array().filter(|calls| calls.len() == 3).cloned()
    });
    let room =
        "<Response><Dial><Conference colour=\"red\" record=\"record-from-start\">room</Conference></Dial></Response>";
    // The list has the newest first: the older call is the conference's first.
    let line = "<Response><Enqueue>line</Enqueue></Response>";
    for (call, document) in calls.iter().rev().zip([room, room, line]) {
        client.update(&mine(&format!("/Calls/{}.json", text(call, "sid"))), &[("Twiml", document)]);
    }
    let (call, waiting) = (text(&calls[2], "sid").to_owned(), text(&calls[0], "sid").to_owned());
    let mut first =
        |list: &str, key: &str| until(|| client.get(&mine(list))[key][0]["sid"].as_str().map(str::to_owned));
    made.insert("Notifications", first(&format!("/Calls/{call}/Notifications.json"), "notifications"));
    made.insert("Conferences", first("/Conferences.json?Status=in-progress", "conferences"));
    made.insert("Recordings", first(&format!("/Conferences/{}/Recordings.json", made["Conferences"]), "recordings"));
    made.insert("Queues", first("/Queues.json", "queues"));
    made.insert("Participants", call.clone());
    let message = [("To", "client:reader"), ("From", "client:reader"), ("Body", "hello")];
    made.insert("Messages", text(&client.create(&mine("/Messages.json"), &message), "sid").to_owned());
    made.insert("Members", waiting);
    made.insert("Alerts", made["Notifications"].clone());
    let said = mine(&format!("/Calls/{call}/UserDefinedMessageSubscriptions.json"));
    let subscription = client.create(&said, &[("Callback", "http://127.0.0.1:9/said")]);
    made.insert("UserDefinedMessageSubscriptions", text(&subscription, "sid").to_owned());
    let heard = client.create(&mine(&format!("/Calls/{call}/Streams.json")), &[("Url", "ws://127.0.0.1:9/")]);
    made.insert("Streams", text(&heard, "sid").to_owned());
    made.insert("Calls", call);
    made.insert("Concurrency", "Calls".to_owned());
}

/// A route of the table as a path: the account, and the instances of somebody.
fn path_of(pattern: &str, account: &str, instances: &BTreeMap<&'static str, String>) -> String {
    let mut path = String::new();
    let mut list = "";
    for part in pattern.split('/').skip(1) {
        let filled = match part {
            "{account}" => account,
            "{sid}" | "{name}" => {
                instances.get(list).unwrap_or_else(|| panic!("{pattern}: the test makes none of {list}"))
            }
            _ => part,
        };
        path += &format!("/{filled}");
        list = part;
    }
    let whole = path.ends_with(".json") || pattern.starts_with("/v1") || pattern.ends_with("/metrics");
    if whole { path } else { path + ".json" }
}

#[test]
fn threat_40_nobody_reaches_what_is_another_accounts() {
    let house = House::with("", TENANTS).hurrying();
    let mut my = Client::of_house(&house);
    let mut own = one_of_each(&mut my, ACCOUNT, 1);
    calls_in_rooms(&house, &mut my, &mut own);
    let mut other = Client::new(&house, OTHER, "of-the-other");
    one_of_each(&mut other, OTHER, 2);
    let children: Vec<Value> = (0..2).map(|_| my.create("/2010-04-01/Accounts.json", &[])).collect();
    let mut child = Client::new(&house, text(&children[0], "sid"), text(&children[0], "auth_token"));
    let (child_sid, sibling) = (text(&children[0], "sid").to_owned(), text(&children[1], "sid").to_owned());

    let routes = dialtone::api::rest_routes();
    assert!(routes.len() > 80, "{}", routes.len());
    for Route { method, path: pattern, .. } in &routes {
        // What is counted has a name that every account knows; so may a client.
        let is_common = pattern.contains("/Concurrency/") || (pattern.contains("/Clients/") && method == "GET");
        let (method, named) = (method.as_str(), pattern.contains("{sid}") && !is_common);
        for (client, account) in [(&mut other, OTHER), (&mut child, &child_sid)] {
            if pattern.contains("{account}") {
                let path = path_of(pattern, ACCOUNT, &own);
                let (status, body) = client.ask(method, &path, "Status=completed&FriendlyName=stolen");
                assert_eq!(status, 404, "{method} {path} by {account}: {body}");
            }
            // What is another's is not found by one's own path either.
            if named {
                let path = path_of(pattern, account, &own);
                let (status, body) = client.ask(method, &path, "Status=completed&FriendlyName=stolen");
                assert_eq!(status, 404, "{method} {path} by {account}: {body}");
            }
        }
        if pattern.contains("{account}") {
            let path = path_of(pattern, &sibling, &own);
            assert_eq!(child.ask(method, &path, "").0, 404, "{method} {path} by its sibling");
        }
        // Whoever made an account may look at everything of it.
        if method == "GET" && !named {
            let path = path_of(pattern, &child_sid, &own);
            assert_eq!(my.ask("GET", &path, "").0, 200, "{path} by who made it");
        }
    }
    for (sid, token) in
        [(ACCOUNT, "of-the-other"), (ACCOUNT, ""), ("", ""), (OTHER, "token"), ("AC", "token"), (&own["Keys"], "token")]
    {
        let mut wrong = Client::new(&house, sid, token);
        for Route { method, path: pattern, .. } in &routes {
            let path = path_of(pattern, ACCOUNT, &own);
            let (status, body) = wrong.ask(method.as_str(), &path, "");
            assert_eq!(status, 401, "{method} {path} by {sid:?}: {body}");
            assert!(!body.contains("token"), "{body}");
        }
        // A path that there is not is not found by anybody.
        assert_eq!(wrong.ask("GET", &mine("/Nothing.json"), "").0, 404);
    }
    assert_eq!(Client::nobody(&house).ask("GET", "/2010-04-01/Accounts.json", "").0, 401);
    for Route { path: pattern, .. } in routes.iter().filter(|route| route.method == "GET") {
        let (status, body) = my.ask("GET", &path_of(pattern, ACCOUNT, &own), "");
        assert_eq!(status, 200, "{pattern}: {body}");
        assert!(!body.contains("stolen"), "{pattern}: {body}");
    }
}

#[test]
fn threat_10_ten_thousand_senseless_requests_get_an_answer_and_break_nothing() {
    senseless_requests(&House::start());
}

#[test]
fn threat_10_postgres_takes_senseless_requests_as_sqlite_does() {
    senseless_requests(&House::on_postgres());
}

fn senseless_requests(house: &House) {
    let mut client = Client::of_house(house);
    let mut random = Tokens::new([40; 32]);
    let call = format!("CA{:032x}", 7);
    let values = [
        "",
        "0",
        "-1",
        "4294967296",
        "9999999999999999999999",
        "true",
        "x",
        "2026-11-25",
        "2026-11-25T00:00:00Z",
        "2026-99-99",
        "%00",
        "%0d%0aX-Injected%3A1",
        "%FF%FE",
        "sip%3A%40",
        "sip%3Aa%40127.0.0.1%3A9",
        "client%3A",
        "client%3Ax%3F%3D%26",
        "%2B15550001",
        "http%3A%2F%2F",
        "http%3A%2F%2F127.0.0.1%3A9%2F",
        "%3CResponse%2F%3E",
        "%3C%21DOCTYPE+x%3E",
        "PACA",
        "PA%00",
        "completed",
        "canceled",
        "%F0%9F%93%9E",
        "%25n%25s",
        "%27%3B+DROP+TABLE+calls%3B--",
    ];
    let names = [
        "To",
        "From",
        "Url",
        "Twiml",
        "Method",
        "FallbackUrl",
        "StatusCallback",
        "StatusCallbackEvent",
        "Timeout",
        "TimeLimit",
        "SendDigits",
        "Status",
        "StartTime",
        "StartTime%3C",
        "EndTime%3E",
        "PageSize",
        "Page",
        "PageToken",
        "ParentCallSid",
        "Foo",
        "Record",
        "PhoneNumber",
        "FriendlyName",
        "DomainName",
        "VoiceUrl",
        "ApplicationSid",
        "SipRegistration",
    ];
    let mut seen = std::collections::BTreeMap::<u16, u32>::new();
    for number in 0..10_000 {
        let mut pick = |of: usize| random.below(of as u64) as usize;
        let fields: Vec<String> =
            (0..pick(6)).map(|_| format!("{}={}", names[pick(names.len())], values[pick(values.len())])).collect();
        let fields = fields.join("&");
        let all = routes(ACCOUNT, if pick(2) == 0 { &call } else { "%2e%2e" });
        let (method, path) = &all[pick(all.len())];
        let method = if pick(10) == 0 { ["PUT", "PATCH", "HEAD", "OPTIONS"][pick(4)] } else { method };
        // A HEAD has no body to read.
        let method = if method == "HEAD" { "PUT" } else { method };
        let (path, form) =
            if method == "POST" { (path.clone(), fields) } else { (format!("{path}?{fields}"), String::new()) };
        let (status, body) = client.ask(method, &path, &form);
        assert!(status < 500, "request {number}: {method} {path} {form}: {status} {body}");
        let answer: serde_json::Value =
            serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
        assert!(status < 400 || (answer["code"].is_u64() && answer["status"] == status), "{path}: {body}");
        *seen.entry(status).or_default() += 1;
    }
    // It was not one and the same refusal all the time.
    for status in [200, 400, 404, 405] {
        assert!(seen.get(&status).is_some_and(|count| *count > 100), "{seen:?}");
    }
}
