//! A client of the REST API, with nothing between it and the bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::peer::{ACCOUNT, House, PATIENCE};

/// A connection that is kept, as the SDKs keep theirs.
pub struct Client {
    stream: BufReader<TcpStream>,
    authorization: String,
    host: String,
}

impl Client {
    pub fn new(house: &House, sid: &str, token: &str) -> Client {
        let stream = TcpStream::connect(house.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let authorization = STANDARD.encode(format!("{sid}:{token}"));
        Client {
            stream: BufReader::new(stream),
            authorization: format!("Authorization: Basic {authorization}\r\n"),
            host: "api.test".into(),
        }
    }

    /// The account that every house has.
    pub fn of_house(house: &House) -> Client {
        Client::new(house, ACCOUNT, "token")
    }

    pub fn operator(house: &House) -> Client {
        let authorization = "Authorization: Bearer operator\r\n".to_owned();
        Client { authorization, ..Client::new(house, "", "") }
    }

    pub fn nobody(house: &House) -> Client {
        Client { authorization: String::new(), ..Client::new(house, "", "") }
    }

    /// Asks by another name of the server.
    pub fn by_name(mut self, host: &str) -> Client {
        self.host = host.to_owned();
        self
    }

    pub fn ask(&mut self, method: &str, path: &str, form: &str) -> (u16, String) {
        let Client { stream, authorization, host } = self;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
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

    /// The answer, which has this status.
    pub fn expect(&mut self, expected: u16, method: &str, path: &str, fields: &[(&str, &str)]) -> Value {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let (status, body) = self.ask(method, path, &form);
        assert_eq!(status, expected, "{method} {path} {form}: {body}");
        if body.is_empty() { Value::Null } else { serde_json::from_str(&body).unwrap() }
    }

    pub fn create(&mut self, path: &str, fields: &[(&str, &str)]) -> Value {
        self.expect(201, "POST", path, fields)
    }

    pub fn update(&mut self, path: &str, fields: &[(&str, &str)]) -> Value {
        self.expect(200, "POST", path, fields)
    }

    pub fn get(&mut self, path: &str) -> Value {
        self.expect(200, "GET", path, &[])
    }

    pub fn delete(&mut self, path: &str) {
        self.expect(204, "DELETE", path, &[]);
    }

    /// The error number of a refusal with this status.
    pub fn refused(&mut self, status: u16, method: &str, path: &str, fields: &[(&str, &str)]) -> u64 {
        let told = self.expect(status, method, path, fields);
        assert_eq!(told["status"], status, "{told}");
        told["code"].as_u64().unwrap()
    }
}

/// A path of an account.
pub fn of(account: &str, path: &str) -> String {
    format!("/2010-04-01/Accounts/{account}{path}")
}

/// A path of the account that every house has.
pub fn mine(path: &str) -> String {
    of(ACCOUNT, path)
}

/// A text of an answer.
pub fn text<'a>(told: &'a Value, key: &str) -> &'a str {
    told[key].as_str().unwrap_or_else(|| panic!("{key} is no text: {told}"))
}

/// The sids of a list, in its order.
pub fn sids(list: &Value, key: &str) -> Vec<String> {
    list[key].as_array().unwrap_or_else(|| panic!("{list}")).iter().map(|one| text(one, "sid").to_owned()).collect()
}
