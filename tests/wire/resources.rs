//! What customers make by the REST API: kept, shown, and at work at once.

use serde_json::{Value, json};

use crate::client::{Client, mine, of, sids, text};
use crate::peer::{ACCOUNT, House, Peer};

/// Calls a number by the trunk that every house has; the final status.
fn call(house: &House, number: &str) -> u16 {
    let peer = Peer::new(house);
    peer.send(&peer.invite(&format!("call-{}", number.trim_start_matches('+')), number));
    loop {
        let answer = peer.receive();
        if !answer.is_request() && answer.status() >= 200 {
            return answer.status();
        }
    }
}

/// Keeps the document of a URL that nobody has to serve: `<Reject>` is what a number does that was told nothing.
const REJECTED: u16 = 603;
const NOBODY: u16 = 404;

#[test]
fn application_is_made_shown_changed_listed_and_deleted() {
    let house = House::start();
    let mut client = Client::of_house(&house);
    let made =
        client.create(&mine("/Applications.json"), &[("FriendlyName", "one"), ("VoiceUrl", "http://app.test/v")]);
    let path = mine(&format!("/Applications/{}.json", text(&made, "sid")));
    assert_eq!((text(&made, "uri"), text(&made, "voice_method")), (path.as_str(), "POST"));
    assert!(text(&made, "date_created").ends_with("+0000"), "{made}");
    let changed = client.update(&path, &[("FriendlyName", "two"), ("VoiceMethod", "GET")]);
    assert_eq!((text(&changed, "friendly_name"), text(&changed, "voice_method")), ("two", "GET"));
    assert_eq!(text(&changed, "voice_url"), "http://app.test/v", "what is not named stays");
    assert_eq!(client.get(&path), changed);
    for number in 0..4 {
        client.create(&mine("/Applications.json"), &[("FriendlyName", &format!("more {number}"))]);
    }
    let first = client.get(&mine("/Applications.json?PageSize=3"));
    let second = client.get(text(&first, "next_page_uri"));
    assert_eq!(
        (first["applications"].as_array().unwrap().len(), second["applications"].as_array().unwrap().len()),
        (3, 2)
    );
    assert_eq!(second["next_page_uri"], Value::Null);
    let named = client.get(&mine("/Applications.json?FriendlyName=two"));
    assert_eq!(sids(&named, "applications"), [text(&made, "sid")]);
    client.delete(&path);
    assert_eq!(client.refused(404, "GET", &path, &[]), 20_404);
    assert_eq!(client.refused(404, "DELETE", &path, &[]), 20_404);
    for (field, value) in [("VoiceUrl", "ftp://app.test"), ("VoiceMethod", "PUT"), ("VoiceCallerIdLookup", "maybe")] {
        assert_eq!(client.refused(400, "POST", &mine("/Applications.json"), &[(field, value)]), 20_001, "{field}");
    }
}

#[test]
fn call_runs_an_application_and_refuses_one_that_there_is_not() {
    let house = House::start();
    let mut client = Client::of_house(&house);
    let made = client.create(&mine("/Applications.json"), &[("VoiceUrl", "http://app.test/v")]);
    let order = |sid| [("To", "sip:nobody@127.0.0.1:9"), ("From", "me"), ("ApplicationSid", sid)];
    let called = client.create(&mine("/Calls.json"), &order(text(&made, "sid")));
    assert_eq!(text(&called, "status"), "queued");
    let empty = client.create(&mine("/Applications.json"), &[]);
    for sid in ["AP00000000000000000000000000000009", "x", text(&empty, "sid")] {
        assert_eq!(client.refused(400, "POST", &mine("/Calls.json"), &order(sid)), 21_218, "{sid}");
    }
}

#[test]
fn number_is_called_from_the_moment_that_it_is_made_until_it_is_deleted() {
    let house = House::start();
    let mut client = Client::of_house(&house);
    assert_eq!(call(&house, "+15550100"), NOBODY);
    let made = client.create(&mine("/IncomingPhoneNumbers.json"), &[("PhoneNumber", "+15550100")]);
    assert_eq!(call(&house, "+15550100"), REJECTED, "nobody has said what it does");
    assert_eq!((text(&made, "friendly_name"), text(&made, "phone_number")), ("+15550100", "+15550100"));
    let path = mine(&format!("/IncomingPhoneNumbers/{}.json", text(&made, "sid")));
    let again = [("PhoneNumber", "+15550100")];
    assert_eq!(client.refused(400, "POST", &mine("/IncomingPhoneNumbers.json"), &again), 21_422);
    assert_eq!(client.refused(400, "POST", &mine("/IncomingPhoneNumbers.json"), &[("AreaCode", "555")]), 20_001);

    // The server restarted knows it still; the numbers of the file stand beside it.
    let house = house.restart();
    let mut client = Client::of_house(&house);
    assert_eq!(client.get(&path), made);
    let listed = client.get(&mine("/IncomingPhoneNumbers.json"));
    assert_eq!(listed["incoming_phone_numbers"].as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(
        sids(&client.get(&mine("/IncomingPhoneNumbers.json?PhoneNumber=0100")), "incoming_phone_numbers"),
        [text(&made, "sid")]
    );
    let first = client.get(&mine("/IncomingPhoneNumbers.json?PageSize=1"));
    let second = client.get(text(&first, "next_page_uri"));
    assert_ne!(first["incoming_phone_numbers"], second["incoming_phone_numbers"]);
    assert_eq!(second["next_page_uri"], Value::Null);
    client.delete(&path);
    assert_eq!(call(&house, "+15550100"), NOBODY);
}

#[test]
fn number_of_the_file_may_be_changed_until_the_file_says_something_else() {
    let number = "[[number]]\naccount = \"AC00000000000000000000000000000001\"\nnumber = \"+15550101\"\n";
    let mut house = House::start().hurrying();
    house.reload(&format!("{number}twiml = \"<Response><Echo/></Response>\"\n"));
    let mut client = Client::of_house(&house);
    let listed = client.get(&mine("/IncomingPhoneNumbers.json?PhoneNumber=0101"));
    let path = text(&listed["incoming_phone_numbers"][0], "uri").to_owned();
    let renamed = client.update(&path, &[("FriendlyName", "desk")]);
    assert_eq!(text(&renamed, "friendly_name"), "desk");
    assert_eq!(call(&house, "+15550101"), 200, "its document is that of the file");
    let application = client.create(&mine("/Applications.json"), &[]);
    let changed = client.update(&path, &[("VoiceApplicationSid", text(&application, "sid"))]);
    assert_eq!(changed["voice_application_sid"], application["sid"]);
    assert_eq!(client.refused(400, "DELETE", &path, &[]), 20_001, "it would come back");
    house.reload(&format!("{number}twiml = \"<Response><Echo/></Response>\"\n"));
    assert_eq!(client.get(&path), changed, "the file says the same as before");
    house.reload(&format!("{number}twiml = \"<Response><Hangup/></Response>\"\n"));
    assert_eq!(text(&client.get(&path), "friendly_name"), "+15550101", "the file has the last word");
    assert_eq!(text(&client.update(&path, &[("FriendlyName", "again")]), "friendly_name"), "again");
}

#[test]
fn number_goes_between_an_account_and_those_that_it_made() {
    let house = House::with("", "[[account]]\nsid = \"AC00000000000000000000000000000002\"\nauth_token = \"t2\"\n");
    let mut client = Client::of_house(&house);
    let child = client.create("/2010-04-01/Accounts.json", &[("FriendlyName", "child")]);
    let child = text(&child, "sid");
    let made = client.create(&mine("/IncomingPhoneNumbers.json"), &[("PhoneNumber", "+15550102")]);
    let (here, there) = (
        mine(&format!("/IncomingPhoneNumbers/{}.json", text(&made, "sid"))),
        of(child, &format!("/IncomingPhoneNumbers/{}.json", text(&made, "sid"))),
    );
    assert_eq!(client.refused(400, "POST", &here, &[("AccountSid", "AC00000000000000000000000000000002")]), 20_001);
    let moved = client.update(&here, &[("AccountSid", child)]);
    assert_eq!((text(&moved, "account_sid"), text(&moved, "uri")), (child, there.as_str()));
    assert_eq!(client.refused(404, "GET", &here, &[]), 20_404);
    assert_eq!(call(&house, "+15550102"), NOBODY, "the trunk is the other account's");
    assert_eq!(text(&client.update(&there, &[("AccountSid", ACCOUNT)]), "account_sid"), ACCOUNT);
    assert_eq!(call(&house, "+15550102"), REJECTED);
    let of_file = client.get(&mine("/IncomingPhoneNumbers.json?PhoneNumber=echo"));
    let path = text(&of_file["incoming_phone_numbers"][0], "uri").to_owned();
    assert_eq!(client.refused(400, "POST", &path, &[("AccountSid", child)]), 20_001, "it stands in the file");
}

#[test]
fn caller_id_may_be_shown_once_it_is_vouched_for() {
    let trunk =
        "[[trunk]]\naccount = \"AC00000000000000000000000000000001\"\nname = \"out\"\nuri = \"sip:127.0.0.1:9\"\n";
    let house = House::with("", trunk).hurrying();
    let mut client = Client::of_house(&house);
    let order = [("To", "+15559999"), ("From", "+15550103"), ("Twiml", "<Response/>")];
    assert_eq!(client.refused(400, "POST", &mine("/Calls.json"), &order), 21_210);
    let told =
        client.update(&mine("/OutgoingCallerIds.json"), &[("PhoneNumber", "+15550103"), ("FriendlyName", "office")]);
    assert_eq!((text(&told, "phone_number"), text(&told, "validation_code").len()), ("+15550103", 6));
    client.create(&mine("/Calls.json"), &order);
    let again = [("PhoneNumber", "+15550103")];
    assert_eq!(client.refused(400, "POST", &mine("/OutgoingCallerIds.json"), &again), 21_450);
    let listed = client.get(&mine("/OutgoingCallerIds.json?PhoneNumber=%2B15550103"));
    let path = text(&listed["outgoing_caller_ids"][0], "uri").to_owned();
    assert_eq!(text(&client.update(&path, &[("FriendlyName", "door")]), "friendly_name"), "door");
    client.delete(&path);
    assert_eq!(client.refused(400, "POST", &mine("/Calls.json"), &order), 21_210);

    let child = client.create("/2010-04-01/Accounts.json", &[]);
    let mut own = Client::new(&house, text(&child, "sid"), text(&child, "auth_token"));
    let path = of(text(&child, "sid"), "/OutgoingCallerIds.json");
    assert_eq!(own.refused(403, "POST", &path, &again), 20_006, "nobody vouches for oneself");
    client.update(&path, &again);
    assert_eq!(own.get(&path)["outgoing_caller_ids"].as_array().unwrap().len(), 1);
}

#[test]
fn account_makes_others_suspends_and_closes_them() {
    let house = House::start();
    let mut client = Client::of_house(&house);
    let made = client.create("/2010-04-01/Accounts.json", &[("FriendlyName", "child")]);
    let (sid, token) = (text(&made, "sid").to_owned(), text(&made, "auth_token").to_owned());
    assert_eq!((text(&made, "status"), text(&made, "owner_account_sid")), ("active", ACCOUNT));
    let mut child = Client::new(&house, &sid, &token);
    let own = of(&sid, ".json");
    assert_eq!(child.get(&own)["auth_token"], Value::Null, "whoever asks has it");
    assert_eq!(text(&client.get(&own), "auth_token"), token);
    assert_eq!(sids(&child.get("/2010-04-01/Accounts.json"), "accounts"), [sid.as_str()]);
    assert_eq!(sids(&client.get("/2010-04-01/Accounts.json"), "accounts").len(), 2);
    assert_eq!(sids(&client.get("/2010-04-01/Accounts.json?FriendlyName=child"), "accounts"), [sid.as_str()]);
    assert_eq!(child.refused(403, "POST", "/2010-04-01/Accounts.json", &[]), 20_006);
    assert_eq!(child.refused(403, "POST", &own, &[("Status", "closed")]), 20_006, "its owner does that");
    assert_eq!(text(&child.update(&own, &[("FriendlyName", "grown")]), "friendly_name"), "grown");
    assert_eq!(client.refused(400, "POST", &mine(".json"), &[("FriendlyName", "x")]), 20_001, "it stands in the file");

    // The owner calls for the account, and the account for itself.
    let order = [("To", "sip:nobody@127.0.0.1:9"), ("From", "me"), ("Twiml", "<Response/>")];
    for who in [&mut client, &mut child] {
        assert_eq!(text(&who.create(&of(&sid, "/Calls.json"), &order), "account_sid"), sid);
    }
    client.update(&own, &[("Status", "suspended")]);
    for path in [own.clone(), of(&sid, "/Calls.json"), "/v1/Trunks".into(), "/2010-04-01/Accounts.json".into()] {
        assert_eq!(child.refused(403, "GET", &path, &[]), 20_005, "{path}");
    }
    assert_eq!(client.refused(403, "POST", &of(&sid, "/Calls.json"), &order), 20_005);
    client.get(&of(&sid, "/Calls.json"));

    let house = house.restart();
    let mut client = Client::of_house(&house);
    let mut child = Client::new(&house, &sid, &token);
    assert_eq!(child.refused(403, "GET", &own, &[]), 20_005, "still");
    assert_eq!(sids(&client.get("/2010-04-01/Accounts.json?Status=suspended"), "accounts"), [sid.as_str()]);
    client.update(&own, &[("Status", "active")]);
    child.get(&own);
    client.update(&own, &[("Status", "closed")]);
    assert_eq!(client.refused(400, "POST", &own, &[("Status", "active")]), 20_001, "for ever");
}

#[test]
fn key_opens_its_account_but_makes_no_keys_and_no_accounts() {
    let house = House::start();
    let mut client = Client::of_house(&house);
    let made = client.create(&mine("/Keys.json"), &[("FriendlyName", "deploy")]);
    let (sid, secret) = (text(&made, "sid").to_owned(), text(&made, "secret").to_owned());
    let path = mine(&format!("/Keys/{sid}.json"));
    let shown = client.get(&path);
    let keys: Vec<&String> = shown.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["date_created", "date_updated", "friendly_name", "sid"], "and no secret");
    let listed = client.get(&mine("/SigningKeys.json"));
    assert!(!listed.to_string().contains("secret"), "{listed}");
    assert_eq!(sids(&listed, "signing_keys"), [sid.as_str()]);

    let house = house.restart();
    let mut by_key = Client::new(&house, &sid, &secret);
    by_key.get(&mine("/Calls.json"));
    by_key.get(&mine(".json"));
    by_key.create("/v1/Trunks", &[]);
    for (method, path) in [
        ("GET", mine("/Keys.json")),
        ("POST", mine("/Keys.json")),
        ("DELETE", path.clone()),
        ("POST", mine("/SigningKeys.json")),
        ("POST", "/2010-04-01/Accounts.json".into()),
    ] {
        assert_eq!(by_key.refused(403, method, &path, &[]), 20_006, "{method} {path}");
    }
    assert_eq!(Client::new(&house, &sid, "wrong").refused(401, "GET", &mine("/Calls.json"), &[]), 20_003);
    let stored = std::fs::read(house.folder.join("d.db")).unwrap();
    let wal = std::fs::read(house.folder.join("d.db-wal")).unwrap_or_default();
    assert!(![stored, wal].iter().any(|bytes| bytes.windows(32).any(|text| text == secret.as_bytes())));
    let mut client = Client::of_house(&house);
    client.delete(&path);
    assert_eq!(by_key.refused(401, "GET", &mine("/Calls.json"), &[]), 20_003);
    assert_eq!(text(&client.get(&mine("/Balance.json")), "balance"), "0.00");
    assert_eq!(client.create(&mine("/Tokens.json"), &[("Ttl", "60")])["ice_servers"], json!([]));
}

#[test]
fn trunk_has_urls_numbers_lists_and_absolute_links() {
    let house = House::start();
    let mut client = Client::of_house(&house).by_name("trunking.dublin.ie1.twilio.com");
    let made = client.create("/v1/Trunks", &[("FriendlyName", "pbx"), ("DomainName", "pbx.sip.test")]);
    let sid = text(&made, "sid").to_owned();
    let url = format!("http://trunking.dublin.ie1.twilio.com/v1/Trunks/{sid}");
    assert_eq!((text(&made, "url"), text(&made, "transfer_mode")), (url.as_str(), "disable-all"));
    assert!(text(&made, "date_created").ends_with('Z') && text(&made, "date_created").len() == 20, "{made}");
    assert_eq!(text(&made["links"], "phone_numbers"), format!("{url}/PhoneNumbers"));
    assert_eq!(client.refused(400, "POST", "/v1/Trunks", &[("DomainName", "pbx.sip.test")]), 21_232);
    let path = |below: &str| format!("/v1/Trunks/{sid}{below}");
    for number in 0..3 {
        let url = format!("sip:pbx{number}.example.com");
        client.create(&path("/OriginationUrls"), &[("FriendlyName", "x"), ("SipUrl", &url), ("Priority", "5")]);
    }
    assert_eq!(
        client.refused(400, "POST", &path("/OriginationUrls"), &[("FriendlyName", "x"), ("SipUrl", "http://h")]),
        20_001
    );
    let page = client.get(&path("/OriginationUrls?PageSize=2"));
    assert_eq!(
        (text(&page["meta"], "key"), page["origination_urls"].as_array().unwrap().len()),
        ("origination_urls", 2)
    );
    let next = text(&page["meta"], "next_page_url");
    let next = client.get(next.strip_prefix("http://trunking.dublin.ie1.twilio.com").unwrap());
    assert_eq!((next["origination_urls"].as_array().unwrap().len(), &next["meta"]["next_page_url"]), (1, &Value::Null));
    assert_eq!(client.get(&path("/Recording")), json!({"mode": "do-not-record", "trim": "do-not-trim"}));
    let recording = client.update(&path("/Recording"), &[("Mode", "record-from-answer-dual")]);
    assert_eq!((&client.get(&path("/Recording")), text(&recording, "mode")), (&recording, "record-from-answer-dual"));

    let mut api = Client::of_house(&house);
    let number = api.create(&mine("/IncomingPhoneNumbers.json"), &[("PhoneNumber", "+15550104")]);
    let number = text(&number, "sid");
    let put = client.create(&path("/PhoneNumbers"), &[("PhoneNumberSid", number)]);
    assert_eq!(
        (text(&put, "trunk_sid"), text(&put, "url")),
        (sid.as_str(), format!("{url}/PhoneNumbers/{number}").as_str())
    );
    assert_eq!(sids(&client.get(&path("/PhoneNumbers")), "phone_numbers"), [number]);
    client.delete(&path(&format!("/PhoneNumbers/{number}")));
    assert_eq!(sids(&client.get(&path("/PhoneNumbers")), "phone_numbers"), [""; 0]);

    // Another product's name does not lead here, and this one's not to another.
    let mut monitor = Client::of_house(&house).by_name("monitor.twilio.com");
    assert_eq!(monitor.refused(404, "GET", "/v1/Trunks", &[]), 20_404);
    assert_eq!(client.refused(404, "GET", &mine("/Calls.json"), &[]), 20_404);
    client.delete(&path(""));
    assert_eq!(client.refused(404, "GET", &path("/OriginationUrls"), &[]), 20_404);
}

#[test]
fn what_is_the_operators_is_refused_to_all_others_before_anything_is_looked_at() {
    let house = House::start();
    let call = format!("CA{:032}", 1);
    for (method, path, form) in [
        ("GET", "/dialtone/v1/calls?limit=none".to_owned(), ""),
        ("GET", format!("/dialtone/v1/calls/{call}"), ""),
        ("POST", format!("/dialtone/v1/Accounts/{ACCOUNT}"), "Status=closed"),
        ("POST", format!("/dialtone/v1/Accounts/{ACCOUNT}/Corrections"), "Price=much"),
        ("GET", "/dialtone/v1/Workers".to_owned(), ""),
        ("POST", "/dialtone/v1/Workers/1".to_owned(), "Drain=no"),
    ] {
        for (who, mut client) in [("nobody", Client::nobody(&house)), ("an account", Client::of_house(&house))] {
            let (status, body) = client.ask(method, &path, form);
            assert_eq!(status, 401, "{method} {path} by {who}: {body}");
            assert!(body.contains("operator token"), "{method} {path} by {who}: {body}");
        }
        assert_ne!(Client::operator(&house).ask(method, &path, form).0, 401, "{method} {path} by the operator");
    }
}
