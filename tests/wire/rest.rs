//! The REST API against what no SDK would send, and against whoever may not ask.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dialtone_sip::tokens::Tokens;

use crate::peer::{ACCOUNT, House, PATIENCE};

const OTHER: &str = "AC00000000000000000000000000000002";
const TENANTS: &str = r#"
[[account]]
sid = "AC00000000000000000000000000000002"
auth_token = "of-the-other"
"#;

/// A connection that is kept, as the SDKs keep theirs.
struct Client {
    stream: BufReader<TcpStream>,
    authorization: String,
}

impl Client {
    fn new(house: &House, sid: &str, token: &str) -> Client {
        let stream = TcpStream::connect(house.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let authorization = STANDARD.encode(format!("{sid}:{token}"));
        Client { stream: BufReader::new(stream), authorization: format!("Authorization: Basic {authorization}\r\n") }
    }

    fn ask(&mut self, method: &str, path: &str, form: &str) -> (u16, String) {
        let Client { stream, authorization } = self;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\n{authorization}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            match line.trim_end().split_once(' ') {
                None => break,
                Some(("HTTP/1.1", rest)) => status = rest[..3].parse().unwrap(),
                Some((name, value)) if name.eq_ignore_ascii_case("content-length:") => length = value.parse().unwrap(),
                Some(_) => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        (status, String::from_utf8(body).unwrap())
    }
}

/// Every route with an account and an instance in it.
fn routes(account: &str, call: &str) -> [(&'static str, String); 7] {
    let of = |path: &str| format!("/2010-04-01/Accounts/{account}{path}");
    [
        ("GET", of(".json")),
        ("GET", of("/Calls.json")),
        ("POST", of("/Calls.json")),
        ("GET", of(&format!("/Calls/{call}.json"))),
        ("POST", of(&format!("/Calls/{call}.json"))),
        ("DELETE", of(&format!("/Calls/{call}.json"))),
        ("GET", of("/Nothing.json")),
    ]
}

#[test]
fn threat_10_nobody_reaches_what_is_another_accounts() {
    let house = House::with("", TENANTS);
    let mut mine = Client::new(&house, ACCOUNT, "token");
    let order = "To=sip%3Anobody%40127.0.0.1%3A9&From=me&Twiml=%3CResponse%2F%3E";
    let (status, body) = mine.ask("POST", &format!("/2010-04-01/Accounts/{ACCOUNT}/Calls.json"), order);
    assert_eq!(status, 201, "{body}");
    let created: serde_json::Value = serde_json::from_str(&body).unwrap();
    let call = created["sid"].as_str().unwrap();

    let mut other = Client::new(&house, OTHER, "of-the-other");
    for (method, path) in routes(ACCOUNT, call) {
        assert_eq!(other.ask(method, &path, "Status=completed").0, 404, "{method} {path} by another account");
    }
    // Another account's call by one's own path is not found either.
    for (method, path) in &routes(OTHER, call)[3..6] {
        assert_eq!(other.ask(method, path, "Status=completed").0, 404, "{method} {path}");
    }
    for (sid, token) in [(ACCOUNT, "of-the-other"), (ACCOUNT, ""), ("", ""), (OTHER, "token"), ("AC", "token")] {
        let mut wrong = Client::new(&house, sid, token);
        for (method, path) in routes(ACCOUNT, call) {
            let (status, body) = wrong.ask(method, &path, "");
            // A path that there is not is not found by anybody.
            let expected = if path.ends_with("/Nothing.json") { 404 } else { 401 };
            assert_eq!(status, expected, "{method} {path} by {sid:?}: {body}");
            assert!(!body.contains("token"), "{body}");
        }
    }
    let mut nobody = Client { authorization: String::new(), ..Client::new(&house, "", "") };
    assert_eq!(nobody.ask("GET", "/2010-04-01/Accounts.json", "").0, 401);
    let (status, body) = mine.ask("GET", &format!("/2010-04-01/Accounts/{ACCOUNT}/Calls/{call}.json"), "");
    assert_eq!(status, 200, "{body}");
}

#[test]
fn threat_40_ten_thousand_senseless_requests_get_an_answer_and_break_nothing() {
    let house = House::start();
    let mut client = Client::new(&house, ACCOUNT, "token");
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
