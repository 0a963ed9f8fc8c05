//! The invariants on arbitrary bytes, on mutated torture messages, and on what is valid by construction.

use proptest::prelude::*;

use super::*;

/// The bytes of every torture message, and a few lines for the smaller targets.
fn seeds() -> Vec<Vec<u8>> {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = ["rfc4475", "rfc5118"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(corpus.join(folder)).expect("the corpus is there"))
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    let mut seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).expect("a readable file")).collect();
    // RFC 5118's archive has bare LFs: on the wire they are CRLFs.
    for seed in &mut seeds {
        if !seed.contains(&b'\r') {
            let text = String::from_utf8(seed.clone()).expect("text").replace('\n', "\r\n");
            *seed = if text.contains("\r\n\r\n") { text } else { text + "\r\n" }.into_bytes();
        }
    }
    seeds.extend(LINES.iter().map(|line| line.as_bytes().to_vec()));
    seeds
}

const LINES: [&str; 8] = [
    "sips:alice;day=tue:pw@[2001:db8::1]:5061;transport=tcp;lr?subject=x&to=y",
    "\"J \\\"Rock\\\" D\" <sip:j%40x@h;lr>;tag=9;+sip.instance=\"<urn:uuid:1;2>\", sip:b@h;q=0.1",
    "SIP / 2.0 / UDP [2001:db8::1] : 5060;rport;received=::1;branch=z9hG4bKx, SIP/2.0/TCP h",
    "Digest username=\"u\", realm=\"realm\", nonce=\"00000003e80123456789abcdef0123456789abcdef\", uri=\"sip:h\", \
     response=\"0\", algorithm=MD5, qop=auth, nc=00000001, cnonce=\"c\"",
    "Digest realm=\"realm\", nonce=\"n\", qop=\"auth,auth-int\", algorithm=SHA-256, opaque=\"o\"\nBasic realm=\"x\"",
    "\x07\r\n\r\nOPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nContent-Length: 2\r\n\r\nhi\r\nOPTIONS sip:b SIP/2.0\r\nl: 0\r\n\r\n",
    "INVITE sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1;rport\r\nFrom: <sip:b@h>;tag=1\r\nTo: <sip:a@h>\r\n\
     Call-ID: c\r\nCSeq: 1 INVITE\r\nContact: <sip:b@203.0.113.9>\r\nRecord-Route: <sip:1.2.3.4;lr>, <sip:h>\r\nl: 0\r\n\r\n",
    "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK0010123456789abcdef\r\nFrom: <sip:b@h>;tag=1\r\nTo: <sip:a@h>;tag=2\r\n\
     Call-ID: c\r\nCSeq: 1 INVITE\r\nContact: <sip:b@h>\r\nl: 0\r\n\r\n",
];

/// Bytes that mean something to a parser of SIP.
const TOKENS: [&[u8]; 24] = [
    b"\r\n",
    b"\r\n ",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\"",
    b"\\",
    b"<",
    b">",
    b",",
    b";",
    b":",
    b"@",
    b"%",
    b"[",
    b"]",
    b"=",
    b" ",
    b"\t",
    b"\xc3\xa9",
    b"\xff",
    b";tag=",
    b"4294967296",
];

/// Numbers from a seed (xorshift), for mutations that can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

/// One to six changes: a byte, a token, a part taken out, doubled, or of another seed.
fn mutate(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.below(6) {
        let at = dice.below(bytes.len() + 1);
        let end = (at + dice.below(40)).min(bytes.len());
        match dice.below(6) {
            0 if at < bytes.len() => bytes[at] = dice.below(256) as u8,
            1 => drop(bytes.splice(at..at, TOKENS[dice.below(TOKENS.len())].iter().copied())),
            2 => drop(bytes.splice(at..end, TOKENS[dice.below(TOKENS.len())].iter().copied())),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let part = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, part));
            }
            _ => {
                let other = &seeds[dice.below(seeds.len())];
                let from = dice.below(other.len() + 1);
                let to = (from + dice.below(60)).min(other.len());
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
        }
    }
    bytes
}

/// Prints what failed while a panic passes by.
struct Told<'a>(u64, &'a [u8]);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {:#x}: {:?}", self.0, String::from_utf8_lossy(self.1));
        }
    }
}

fn every_target(bytes: &[u8]) {
    message(bytes);
    addresses(bytes);
    framer(bytes);
    digest(bytes);
}

#[test]
fn fuzz_harness_seeded() {
    let seeds = seeds();
    for seed in 1..=40_000u64 {
        // Spread out, so that near seeds do not give near numbers.
        let bytes = mutate(&seeds, &mut Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let _told = Told(seed, &bytes);
        every_target(&bytes);
    }
}

#[test]
fn every_seed_holds_as_it_is() {
    for (at, seed) in seeds().iter().enumerate() {
        let _told = Told(at as u64, seed);
        every_target(seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_break_nothing(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        every_target(&bytes);
    }

    #[test]
    fn arbitrary_text_breaks_nothing(text in "[ -~\r\n\té]{0,200}") {
        every_target(text.as_bytes());
    }

    #[test]
    fn arbitrary_header_lines_break_nothing(name in "[!-~]{1,20}", value in "[ -~\r\n\té\"\\\\<>;,=]{0,80}") {
        every_target(format!("OPTIONS sip:a@h SIP/2.0\r\n{name}: {value}\r\nl: 0\r\n\r\n").as_bytes());
        every_target(value.as_bytes());
    }

    #[test]
    fn uri_of_known_parts_is_taken_apart_into_them(
        secure in any::<bool>(),
        user in "[a-z0-9_.!~*'()&=+$,;?/-]{1,12}(%[0-9A-F]{2})?",
        password in prop::option::of("[a-z0-9&=+$,-]{0,6}"),
        host in prop_oneof!["[a-z][a-z0-9.-]{0,12}", Just("192.0.2.1".to_owned()), Just("2001:db8::1".to_owned())],
        port in prop::option::of(any::<u16>()),
        params in "(;[a-z]{1,5}(=[a-z0-9.-]{1,5})?){0,3}",
        headers in prop::option::of("[a-z]{1,5}=[a-z0-9%]{0,0}[a-z0-9]{0,5}"),
    ) {
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let text = format!(
            "{}:{user}{}@{bracketed}{}{params}{}",
            if secure { "sips" } else { "sip" },
            password.as_ref().map_or(String::new(), |password| format!(":{password}")),
            port.map_or(String::new(), |port| format!(":{port}")),
            headers.as_ref().map_or(String::new(), |headers| format!("?{headers}")),
        );
        let uri = SipUri::parse(&text).unwrap();
        prop_assert_eq!((uri.secure, uri.user, uri.password), (secure, Some(user.as_str()), password.as_deref()));
        prop_assert_eq!((uri.host.host, uri.host.port), (host.as_str(), port));
        prop_assert_eq!((uri.params.0, uri.headers), (params.as_str(), headers.as_deref()));
    }

    #[test]
    fn address_of_known_parts_is_taken_apart_into_them(name in "[ -~é]{0,20}", user in "[a-z0-9]{1,8}", tag in "[a-z0-9]{1,8}") {
        let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
        let text = format!("\"{quoted}\" <sip:{user}@h;p=1>;x=\"a;tag=no\";tag={tag}");
        let address = Address::parse(&text).unwrap();
        prop_assert_eq!(address.display_name(), name);
        let uri = format!("sip:{user}@h;p=1");
        prop_assert_eq!((address.uri, address.tag()), (uri.as_str(), Some(tag.as_str())));
    }

    #[test]
    fn message_of_known_parts_is_taken_apart_into_them(
        method in "[A-Z]{3,9}",
        uri in "sip:[a-z]{1,8}@[a-z]{1,8}",
        headers in prop::collection::vec(("X-[A-Za-z]{1,8}", "[!-~]([ -~é]{0,30}[!-~])?"), 0..20),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut writer = Writer::request(&method, &uri);
        for (name, value) in &headers {
            writer.named(name, value);
        }
        let message = Message::parse(writer.finish("application/octet-stream", &body)).unwrap();
        prop_assert_eq!(message.malformed(), None);
        prop_assert_eq!((message.method_text(), message.request_uri()), (method.as_str(), uri.as_str()));
        prop_assert_eq!(message.body(), Bytes::from(body));
        let found: Vec<_> = message.all_headers().filter(|(name, _)| name.starts_with("X-")).collect();
        let given: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        prop_assert_eq!(found, given);
    }

    #[test]
    fn answer_to_a_challenge_passes_its_check_and_no_other_does(
        username in "[ !#-\\[\\]-~é]{1,20}",
        password in "[ -~é]{1,20}",
        guess in "[ -~é]{1,20}",
        realm in "[a-z0-9. -]{1,20}",
        uri in "sip:[a-z0-9.]{1,20}",
        cnonce in "[0-9a-f]{1,16}",
        count in 1u32..,
        algorithm in 0usize..2,
    ) {
        let mut guard = Guard::new(realm, [5; 32], vec![Algorithm::Sha256, Algorithm::Md5]);
        let challenge = guard.challenges(1_000, 7, false).remove(algorithm);
        let answer = |password: &str| {
            let ours = Credentials { username: username.clone(), password: password.to_owned(), realm: None };
            digest::answer([challenge.as_str()].into_iter(), &ours, "REGISTER", &uri, &cnonce, count).unwrap()
        };
        let mut check = |value: &str, method: &str| {
            guard.check(&AuthParams::parse(value).unwrap(), method, &uri, Some(&password), 1_010)
        };
        let right = answer(&password);
        prop_assert_eq!(AuthParams::parse(&right).and_then(|auth| auth.get("username").map(str::to_owned)), Some(username.clone()));
        if guess != password {
            prop_assert_eq!(check(&answer(&guess), "REGISTER"), Err(digest::Denied::Wrong));
        }
        prop_assert_eq!(check(&right, "INVITE"), Err(digest::Denied::Wrong));
        prop_assert_eq!(check(&right, "REGISTER"), Ok(()));
        prop_assert_eq!(check(&right, "REGISTER"), Err(digest::Denied::Stale), "a replay");
    }
}
