//! What calls leave behind for whoever asks later: usage, notifications, alerts, events.

use std::time::Instant;

use serde_json::{Value, json};

use crate::client::{Client, mine, of, text};
use crate::peer::{ACCOUNT, House, PATIENCE, Peer};

/// A call that is answered, asks for a document that nobody serves, and is over; its sid.
fn failing_call(house: &House, client: &mut Client) -> String {
    let peer = Peer::new(house);
    peer.send(&peer.invite("used", "echo"));
    let answer = peer.expect(200);
    let tag = answer.to().unwrap().tag().unwrap().to_owned();
    peer.send(&peer.inside("ACK", "used", "echo", &tag, 1));
    let began = Instant::now();
    let mut find = |wanted: &str| loop {
        let listed = client.get(&mine(&format!("/Calls.json?Status={wanted}")));
        if let Some(sid) = listed["calls"][0]["sid"].as_str() {
            break sid.to_owned();
        }
        assert!(began.elapsed() < PATIENCE, "no call is {wanted}");
    };
    let call = find("in-progress");
    client.update(&mine(&format!("/Calls/{call}.json")), &[("Url", "http://127.0.0.1:9/")]);
    loop {
        if text(&client.get(&mine(&format!("/Calls/{call}.json"))), "status") == "completed" {
            return call;
        }
        assert!(began.elapsed() < PATIENCE, "the call does not end");
    }
}

#[test]
fn notification_is_found_by_its_call_by_its_account_and_as_an_alert() {
    let house = House::start();
    let mut client = Client::of_house(&house);
    let call = failing_call(&house, &mut client);
    let of_call = client.get(&mine(&format!("/Calls/{call}/Notifications.json")));
    let told = &of_call["notifications"][0];
    assert_eq!((text(told, "log"), text(told, "call_sid")), ("0", call.as_str()), "{told}");
    let sid = text(told, "sid").to_owned();
    // From memory at first, and then from the database.
    let house = {
        check(&mut client, &call, &sid);
        house.restart()
    };
    let mut client = Client::of_house(&house);
    check(&mut client, &call, &sid);
    client.delete(&mine(&format!("/Calls/{call}.json")));
    // The journal has the call still.
    let house = house.restart();
    let mut client = Client::of_house(&house);
    assert_eq!(crate::client::sids(&client.get(&mine("/Calls.json")), "calls"), [""; 0]);
    assert_eq!(client.refused(404, "GET", &mine(&format!("/Calls/{call}.json")), &[]), 20_404);
    for path in [mine(&format!("/Notifications/{sid}.json")), format!("/v1/Alerts/{sid}")] {
        assert_eq!(client.refused(404, "GET", &path, &[]), 20_404, "{path}");
    }
}

#[test]
fn trigger_is_made_shown_changed_and_deleted() {
    let house = House::start();
    let mut client = Client::of_house(&house);
    failing_call(&house, &mut client);
    let house = house.restart();
    let mut client = Client::of_house(&house);
    let path = mine("/Usage/Triggers.json");
    let fields = |value, category| {
        [
            ("CallbackUrl", "http://app.test/t"),
            ("TriggerValue", value),
            ("UsageCategory", category),
            ("TriggerBy", "count"),
        ]
    };
    let made = client.create(&path, &fields("+30", "calls"));
    assert_eq!((text(&made, "current_value"), text(&made, "trigger_value")), ("1", "31"), "so much more than now");
    assert_eq!(
        (text(&made, "trigger_by"), &made["recurring"], &made["date_fired"]),
        ("count", &Value::Null, &Value::Null)
    );
    let own = text(&made, "uri").to_owned();
    let changed = client.update(&own, &[("FriendlyName", "budget"), ("TriggerValue", "1")]);
    assert_eq!(
        (text(&changed, "friendly_name"), text(&changed, "trigger_value")),
        ("budget", "31"),
        "its value is fixed"
    );
    let daily = client.create(&path, &[fields("5", "sms").as_slice(), &[("Recurring", "daily")]].concat());
    let listed = |client: &mut Client, query: &str| {
        crate::client::sids(&client.get(&format!("{path}{query}")), "usage_triggers")
    };
    assert_eq!(listed(&mut client, "?Recurring=daily"), [text(&daily, "sid")]);
    assert_eq!(listed(&mut client, "?UsageCategory=calls"), [text(&made, "sid")]);
    assert_eq!(listed(&mut client, "").len(), 2);
    for (value, category) in [("much", "calls"), ("-1", "calls"), ("NaN", "calls"), ("5", "moonshine"), ("", "calls")] {
        assert_eq!(client.refused(400, "POST", &path, &fields(value, category)), 20_001, "{value} {category}");
    }
    client.delete(&own);
    assert_eq!(client.refused(404, "GET", &own, &[]), 20_404);
}

#[test]
fn server_on_postgres_keeps_what_one_on_sqlite_keeps() {
    let house = House::on_postgres();
    let mut client = Client::of_house(&house);
    let call = failing_call(&house, &mut client);
    let told = client.get(&mine(&format!("/Calls/{call}/Notifications.json")));
    let notification = text(&told["notifications"][0], "sid").to_owned();
    let number = client.create(&mine("/IncomingPhoneNumbers.json"), &[("PhoneNumber", "+15550105")]);
    let again = [("PhoneNumber", "+15550105")];
    assert_eq!(client.refused(400, "POST", &mine("/IncomingPhoneNumbers.json"), &again), 21_422);
    let house = house.restart();
    assert!(!house.folder.join("d.db").exists(), "the database is elsewhere");
    let mut client = Client::of_house(&house);
    check(&mut client, &call, &notification);
    let path = mine(&format!("/IncomingPhoneNumbers/{}.json", text(&number, "sid")));
    assert_eq!(client.get(&path), number);
    let used = client.get(&mine("/Usage/Records.json?Category=calls"));
    assert_eq!(text(&used["usage_records"][0], "count"), "1");
    for query in ["?To=%00", "?From=a%00b", "?To=%FF", "?FriendlyName=%00"] {
        let (status, body) = client.ask("GET", &mine(&format!("/Calls.json{query}")), "");
        assert_eq!(status, 200, "{query}: {body}");
    }
    for field in ["FriendlyName", "PhoneNumber", "VoiceUrl", "VoiceApplicationSid"] {
        let (status, body) =
            client.ask("POST", &mine("/IncomingPhoneNumbers.json"), &format!("PhoneNumber=%2B1555&{field}=a%00b"));
        assert!(status < 500, "{field}: {status} {body}");
    }
    client.delete(&mine(&format!("/Calls/{call}.json")));
    client.delete(&path);
    assert_eq!(client.refused(404, "GET", &path, &[]), 20_404);
}

fn check(client: &mut Client, call: &str, sid: &str) {
    let own = client.get(&mine(&format!("/Notifications/{sid}.json")));
    assert_eq!(
        (text(&own, "call_sid"), text(&own, "uri")),
        (call, mine(&format!("/Notifications/{sid}.json")).as_str())
    );
    let code = text(&own, "error_code").to_owned();
    let list = |client: &mut Client, query: &str| {
        let listed = client.get(&mine(&format!("/Notifications.json{query}")));
        crate::client::sids(&listed, "notifications").contains(&sid.to_owned())
    };
    assert!(list(client, "") && list(client, "?Log=0") && !list(client, "?Log=1"));
    assert!(list(client, "?MessageDate%3E=2026-01-01") && !list(client, "?MessageDate%3C=2026-01-01"));
    let alert = client.get(&format!("/v1/Alerts/{sid}"));
    assert_eq!((text(&alert, "resource_sid"), text(&alert, "log_level")), (call, "error"));
    assert_eq!(
        (text(&alert, "error_code"), text(&alert, "url")),
        (code.as_str(), format!("http://api.test/v1/Alerts/{sid}").as_str())
    );
    let alerts = |client: &mut Client, query: &str| {
        let listed = client.get(&format!("/v1/Alerts{query}"));
        crate::client::sids(&listed, "alerts").contains(&sid.to_owned())
    };
    assert!(alerts(client, "") && alerts(client, "?LogLevel=error") && !alerts(client, "?LogLevel=warning"));
    assert!(!alerts(client, "?LogLevel=debug") && !alerts(client, "?StartDate=2100-01-01"));
    assert_eq!(client.refused(400, "GET", "/v1/Alerts?LogLevel=loud", &[]), 20_001);
    let events = client.get(&mine(&format!("/Calls/{call}/Events.json")));
    let asked = &events["events"][0];
    assert_eq!(asked["request"]["url"], "http://127.0.0.1:9/", "{events}");
    assert_eq!(asked["response"]["error_code"].to_string(), code);
}

#[test]
fn usage_is_that_of_the_ledger_in_every_list() {
    let house = House::start();
    let mut client = Client::of_house(&house);
    let call = failing_call(&house, &mut client);
    let seconds: u64 = text(&client.get(&mine(&format!("/Calls/{call}.json"))), "duration").parse().unwrap();
    // What is over is written when the server stops, at the latest.
    let house = house.restart();
    let mut client = Client::of_house(&house);
    let minutes = seconds.div_ceil(60).to_string();
    let find = |client: &mut Client, list: &str, query: &str| -> Vec<Value> {
        let told = client.get(&mine(&format!("/Usage/Records{list}.json?Category=calls-inbound{query}")));
        told["usage_records"].as_array().unwrap().clone()
    };
    for list in ["", "/AllTime", "/Daily", "/Monthly", "/Yearly", "/Today", "/ThisMonth"] {
        let found = find(&mut client, list, "");
        // A test that runs over midnight sees two days.
        let sum: u64 = found.iter().map(|one| text(one, "count").parse::<u64>().unwrap()).sum();
        assert!(sum == 1 || list == "/Today", "{list}: {found:?}");
        assert!(found.iter().any(|one| text(one, "usage") == minutes) || list == "/Today", "{list}: {found:?}");
        assert_eq!((text(&found[0], "usage_unit"), text(&found[0], "count_unit")), ("minutes", "calls"));
    }
    for list in ["/Yesterday", "/LastMonth"] {
        assert_eq!(find(&mut client, list, "").len(), 1, "{list}");
    }
    assert_eq!(find(&mut client, "/Daily", "&StartDate=-9days").len(), 10);
    assert_eq!(text(&find(&mut client, "", "&EndDate=2020-01-01&StartDate=2019-01-01")[0], "count"), "0");
    let all = client.get(&mine("/Usage/Records.json?PageSize=1000"));
    let all = all["usage_records"].as_array().unwrap();
    assert!(all.iter().any(|one| one["category"] == "totalprice" && one["usage"] == "0"), "{all:?}");
    assert_eq!(client.refused(400, "GET", &mine("/Usage/Records.json?StartDate=soon"), &[]), 20_001);
    // Pages of a list that is made up go on where the last one ended.
    let first = client.get(&mine("/Usage/Records/Daily.json?StartDate=-1days&PageSize=20"));
    let second = client.get(text(&first, "next_page_uri"));
    assert_eq!(first["usage_records"].as_array().unwrap().len(), 20);
    assert_ne!(first["usage_records"][0], second["usage_records"][0]);

    // What an account has made is added to its own, unless that is not wanted.
    let child = client.create("/2010-04-01/Accounts.json", &[]);
    let mut own = Client::new(&house, text(&child, "sid"), text(&child, "auth_token"));
    let of_child = own.get(&of(text(&child, "sid"), "/Usage/Records.json?Category=calls"));
    assert_eq!(text(&of_child["usage_records"][0], "count"), "0");
    let without = find(&mut client, "", "&IncludeSubaccounts=false");
    assert_eq!((text(&without[0], "count"), text(&without[0], "account_sid")), ("1", ACCOUNT));
    assert_eq!(client.get(&mine("/Usage/Records.json?Category=unheard-of"))["usage_records"], json!([]));
}

const PAYER: &str = "AC00000000000000000000000000000005";
const LIMITED: &str = r#"
[[account]]
sid = "AC00000000000000000000000000000005"
auth_token = "of-the-fifth"
limits = { calls = 1, api = 2 }
price_book = "retail"
[[price_book]]
name = "retail"
prices = [{ category = "calls-sip-inbound", per_minute = "0.0130" }, { category = "calls-inbound", per_minute = "0.0130" }]
"#;

/// A URL that keeps what it is told, and takes nothing as long as it is not well.
struct Told {
    address: std::net::SocketAddr,
    heard: std::sync::mpsc::Receiver<String>,
    is_well: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Told {
    fn start() -> Told {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, (tell, heard)) = (listener.local_addr().unwrap(), std::sync::mpsc::channel());
        let is_well = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let well = is_well.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, tell, well) = (stream.unwrap(), tell.clone(), well.clone());
                std::thread::spawn(move || {
                    let (mut text, mut bytes) = (String::new(), [0; 8192]);
                    while let Ok(count @ 1..) = stream.read(&mut bytes) {
                        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
                        if !text.contains("IdempotencyToken=") {
                            continue;
                        }
                        let status =
                            if well.load(std::sync::atomic::Ordering::Relaxed) { "204 No Content" } else { "503 No" };
                        let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                        let _ = tell.send(text);
                        return;
                    }
                });
            }
        });
        Told { address, heard, is_well }
    }
}

#[test]
fn ut_02_and_08_trigger_is_told_at_once_and_again_until_it_is_known_by_the_same_token() {
    let told = Told::start();
    told.is_well.store(false, std::sync::atomic::Ordering::Relaxed);
    let house = House::with_http("allow_private_targets = true");
    let mut client = Client::of_house(&house);
    let url = format!("http://{}/told", told.address);
    let fields = [
        ("CallbackUrl", url.as_str()),
        ("TriggerValue", "1"),
        ("UsageCategory", "calls"),
        ("TriggerBy", "count"),
        ("Action", "limit:calls=0"),
    ];
    let made = client.create(&mine("/Usage/Triggers.json"), &fields);
    failing_call(&house, &mut client);
    let first = told.heard.recv_timeout(PATIENCE).unwrap();
    let token = |request: &str| request.split("IdempotencyToken=").nth(1).map(str::to_owned).unwrap();
    assert!(first.to_lowercase().contains("x-twilio-signature:"), "{first}");
    assert!(
        first.contains("CurrentValue=1") && first.contains(&format!("UsageTriggerSid={}", text(&made, "sid"))),
        "{first}"
    );
    told.is_well.store(true, std::sync::atomic::Ordering::Relaxed);
    let second = told.heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!(token(&first), token(&second));
    // What it has done holds.
    let began = Instant::now();
    loop {
        let calls = client.get(&mine("/Concurrency/Calls.json"));
        if calls["limit"] == 0 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{calls}");
    }
    let house = house.restart();
    let mut client = Client::of_house(&house);
    let own = client.get(text(&made, "uri"));
    assert_ne!(own["date_fired"], Value::Null);
    assert_eq!(text(&own, "current_value"), "1");
    assert!(told.heard.recv_timeout(std::time::Duration::from_secs(1)).is_err(), "nobody is told of it once more");
}

#[test]
fn bill_explains_a_call_and_limits_are_set_by_whom_they_do_not_concern() {
    let house = House::with("", LIMITED);
    let fifth = "AC00000000000000000000000000000005";
    let mut client = Client::new(&house, fifth, "of-the-fifth");
    let path = |rest: &str| of(fifth, rest);
    let all = client.get(&path("/Concurrency.json"));
    let limits: Vec<(&str, &Value)> =
        all["concurrency"].as_array().unwrap().iter().map(|one| (text(one, "resource"), &one["limit"])).collect();
    assert_eq!(limits[..2], [("calls", &json!(1)), ("api", &json!(2))]);
    assert_eq!(client.get(&path("/Concurrency/Api.json"))["current_value"], 1, "with itself");
    assert_eq!(client.refused(404, "GET", &path("/Concurrency/Bananas.json"), &[]), 20_404);
    assert_eq!(
        client.refused(403, "POST", &path("/Concurrency/Calls.json"), &[("Limit", "9")]),
        20_006,
        "nobody its own"
    );
    let mut operator = Client::operator(&house);
    for (limit, expected) in [("7", json!(7)), ("", json!(1)), ("0", json!(0))] {
        let changed = operator
            .update(&path("/Concurrency/Calls.json"), &[("Limit", limit), ("WhenFull", "delay"), ("Wait", "900")]);
        assert_eq!(changed["limit"], expected, "{limit:?}");
    }
    assert_eq!(operator.refused(400, "POST", &path("/Concurrency/Calls.json"), &[("Limit", "many")]), 20_001);
    let shown = client.get(&path("/Concurrency/Calls.json"));
    assert_eq!((&shown["when_full"], &shown["wait"]), (&json!("delay"), &json!(900)));

    let mut own = Client::of_house(&house);
    let call = failing_call(&house, &mut own);
    let began = Instant::now();
    let bill = loop {
        let bill = own.get(&mine(&format!("/Calls/{call}/Bill.json")));
        if text(&bill, "status") == "final" {
            break bill;
        }
        assert!(began.elapsed() < PATIENCE, "{bill}");
    };
    assert_eq!(
        (text(&bill, "price"), bill["lines"].as_array().map(Vec::len)),
        ("0", Some(1)),
        "without prices: {bill}"
    );
    assert_eq!(text(&bill["lines"][0], "category"), "calls-inbound", "by a trunk");

    let path = format!("/dialtone/v1/Accounts/{ACCOUNT}/Corrections");
    let form = format!("Category=calls-inbound&Price=-0.05&Reason=silence&CallSid={call}&IdempotencyKey=1");
    assert_eq!(own.ask("POST", &path, &form).0, 401, "nobody gives back to itself");
    for (wrong, status) in [
        (form.replace("calls-inbound", "calls"), 400),
        (form.replace("-0.05", "much"), 400),
        (form.replace("silence", ""), 400),
        (form.replace(&call, "CA00000000000000000000000000000000"), 404),
    ] {
        assert_eq!(operator.ask("POST", &path, &wrong).0, status, "{wrong}");
    }
    for status in [201, 200] {
        assert_eq!(operator.ask("POST", &path, &form).0, status);
    }
    let bill = own.get(&mine(&format!("/Calls/{call}/Bill.json")));
    assert_eq!((text(&bill, "price"), bill["lines"].as_array().map(Vec::len)), ("-0.05", Some(2)), "{bill}");
}

#[test]
fn budget_is_set_by_whom_it_does_not_concern_and_shown_to_its_account() {
    let house = House::with("", LIMITED);
    let mut client = Client::new(&house, PAYER, "of-the-fifth");
    let path = of(PAYER, "/Budget.json");
    let before = client.get(&path);
    assert_eq!((&before["price"]["limit"], &before["minutes"]["limit"]), (&json!(null), &json!(null)), "{before}");
    assert_eq!(text(&client.get(&of(PAYER, "/Balance.json")), "balance"), "0.00", "nobody pays");
    assert_eq!(client.refused(403, "POST", &path, &[("Price", "9")]), 20_006, "nobody its own");
    let mut operator = Client::operator(&house);
    for (name, wrong) in [("Price", "much"), ("Price", "-1"), ("Minutes", "1.5"), ("Recurring", "weekly")] {
        assert_eq!(operator.refused(400, "POST", &path, &[(name, wrong)]), 20_001, "{name}={wrong}");
    }
    let unpriced = of(ACCOUNT, "/Budget.json");
    assert_eq!(operator.refused(400, "POST", &unpriced, &[("Price", "5")]), 20_001, "it pays by no book");
    operator.update(&path, &[("Price", "12.50"), ("Recurring", "daily")]);
    let set = operator.update(&path, &[("Minutes", "7")]);
    assert_eq!(
        (&set["price"]["limit"], &set["minutes"]["limit"]),
        (&json!("12.5"), &json!(7)),
        "what is not given stays"
    );
    assert_eq!((&set["price"]["left"], &set["minutes"]["left"]), (&json!("12.5"), &json!(7)));
    assert_eq!((text(&set, "recurring"), &set["start_date"]), ("daily", &set["end_date"]));
    assert_eq!(text(&client.get(&of(PAYER, "/Balance.json")), "balance"), "12.5");
    // It is kept.
    let house = house.restart();
    let mut client = Client::new(&house, PAYER, "of-the-fifth");
    assert_eq!(client.get(&path)["minutes"]["limit"], 7);
    Client::operator(&house).update(&path, &[("Price", ""), ("Minutes", "")]);
    let none = client.get(&path);
    assert_eq!((&none["price"]["limit"], &none["minutes"]["limit"]), (&json!(null), &json!(null)));
}
