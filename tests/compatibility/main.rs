//! COMPATIBILITY.md: what there is of Twilio's surface, as the code has it. The page is made of the parser's own remarks and of
//! the table of routes with what each reads, so that it cannot say more than is so.
//!
//! `cargo test -p dialtone --test compatibility -- --ignored` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use dialtone::api::Route;
use dialtone::twiml::parse::{parse, reply};

const TWIML: &str = include_str!("twiml.txt");
const MESSAGING: &str = include_str!("messaging.txt");
const REST: &str = include_str!("rest.txt");
const PAGE: &str = "COMPATIBILITY.md";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a parser remarks on a document.
type Reader = fn(&[u8]) -> Vec<String>;

fn remarks_of_call(document: &[u8]) -> Vec<String> {
    let parsed = parse(document, Some("text/xml"), Some("http://h/voice")).expect("well-formed");
    parsed.notices.iter().map(|notice| notice.text.to_string()).collect()
}

fn remarks_of_reply(document: &[u8]) -> Vec<String> {
    let parsed = reply(document, Some("text/xml"), Some("http://h/sms")).expect("well-formed");
    parsed.notices.iter().map(|notice| notice.text.to_string()).collect()
}

/// What the reader remarks on a document of this element alone.
fn remarks(reader: Reader, element: &str, attribute: Option<(&str, &str)>, text: &str) -> Vec<String> {
    let (verb, noun) = element.split_once('/').map_or((element, None), |(verb, noun)| (verb, Some(noun)));
    let verb = verb.split(':').next().unwrap();
    let attribute = attribute.map(|(name, value)| format!(" {name}=\"{value}\"")).unwrap_or_default();
    let inner = match noun {
        Some(noun) => format!("<{verb}><{noun}{attribute}>{text}</{noun}></{verb}>"),
        None => format!("<{verb}{attribute}>{text}</{verb}>"),
    };
    reader(format!("<Response>{inner}</Response>").as_bytes())
}

fn twiml_table(lines: &str, reader: Reader) -> String {
    let mut table = "| element | yes | no effect | no |\n|---|---|---|---|\n".to_owned();
    for line in lines.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ');
        let element = words.next().unwrap();
        let (mut attributes, mut text) = (Vec::new(), String::new());
        for word in words {
            let (name, value) = word.split_once('=').expect("NAME=VALUE");
            match name {
                "TEXT" => text = value.to_owned(),
                _ => attributes.push((name, value)),
            }
        }
        let bare = remarks(reader, element, None, &text);
        let is_there = !bare.iter().any(|remark| {
            remark.contains("not implemented") || remark.contains("unknown element") || remark.contains("not available")
        });
        // What is said of the element without it is not said of the attribute.
        let is_taken = |attribute| {
            is_there && remarks(reader, element, Some(attribute), &text).iter().all(|remark| bare.contains(remark))
        };
        let depends = element.contains(':').then(|| attributes[0]);
        let (mut yes, mut idle, mut no) = (Vec::new(), Vec::new(), Vec::new());
        for (name, value) in attributes {
            let bare = name.trim_start_matches('~');
            let list = match is_taken((bare, value)) && depends.is_none_or(is_taken) {
                true if bare == name => &mut yes,
                true => &mut idle,
                false => &mut no,
            };
            list.push(format!("`{bare}`"));
        }
        let shown = match element.split_once(':') {
            Some((verb, word)) => format!("{verb} {}={word}", depends.unwrap().0),
            None => element.replace('/', "` / `"),
        };
        let verdict = |list: &[String], is_so: bool| match (list.is_empty() && depends.is_none(), is_so) {
            (true, true) => "the element".to_owned(),
            _ => list.join(" "),
        };
        let (yes, no) = (verdict(&yes, is_there), verdict(&no, !is_there));
        writeln!(table, "| `{shown}` | {yes} | {} | {no} |", idle.join(" ")).unwrap();
    }
    table
}

/// A path of the reference as a route of ours has it: what is named is `{}`, and only lists end in `.json`.
fn pattern(path: &str) -> String {
    let part = |part: &str| {
        let bare = part.strip_suffix(".json").unwrap_or(part);
        if bare.starts_with('{') { "{}".to_owned() } else { bare.to_owned() }
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

fn rest_table() -> String {
    let routes: BTreeMap<(String, String), Route> = dialtone::api::rest_routes()
        .into_iter()
        .map(|route| ((route.method.to_string(), pattern(&route.path)), route))
        .collect();
    let mut table = String::new();
    for line in REST.lines() {
        if let Some(title) = line.strip_prefix("# ") {
            write!(table, "\n### {title}\n\n| operation | | parameters: yes | kept | no |\n|---|---|---|---|---|\n")
                .unwrap();
            continue;
        }
        let mut words = line.split_whitespace();
        let (method, operation, path) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let route = routes.get(&(method.to_owned(), pattern(path)));
        let (mut yes, mut kept, mut no) = (Vec::new(), Vec::new(), Vec::new());
        for name in words {
            let list = match route.and_then(|route| route.params.iter().find(|param| param.name == name)) {
                Some(param) if param.is_idle() => &mut kept,
                Some(_) => &mut yes,
                None => &mut no,
            };
            list.push(format!("`{name}`"));
        }
        let short = path.replace("/2010-04-01/Accounts/{account}", "").replace("/2010-04-01", "");
        let verdict = match (route, kept.is_empty() && no.is_empty()) {
            (None, _) => "no",
            (Some(_), true) => "yes",
            (Some(_), false) => "partly",
        };
        let (yes, kept, no) = (yes.join(" "), kept.join(" "), no.join(" "));
        writeln!(table, "| {operation} `{short}` | {verdict} | {yes} | {kept} | {no} |").unwrap();
    }
    table
}

fn page() -> String {
    format!(
        "# Compatibility\n\n\
         What there is of Twilio's voice surface, made by `tests/compatibility` of the parser's own remarks and of the table of routes\n\
         with what each reads. An element or attribute under *no* is skipped with a warning, which the call's notifications show, or\n\
         ends the call with its error. A parameter under *kept* is stored and shown, and has no effect; one under *no* is passed over,\n\
         as Twilio passes over what it does not know, unless a call or a text could not be what its program takes it for: `MachineDetection`,\n\
         `AsyncAmd`, `Byoc`, `MediaUrl`, `ContentSid`, `MessagingServiceSid`, `ScheduleType`, `SendAt`, `ContentRetention` and\n\
         `AddressRetention` are refused with 20001.\n\n\
         ## TwiML\n\n{}\n## TwiML that answers a text\n\n{}\n## REST API\n{}",
        twiml_table(TWIML, remarks_of_call),
        twiml_table(MESSAGING, remarks_of_reply),
        rest_table()
    )
}

#[test]
fn page_says_what_the_code_does() {
    let written = fs::read_to_string(root().join(PAGE)).unwrap_or_default();
    let made = page();
    let differs = made.lines().zip(written.lines()).find(|(made, written)| made != written);
    assert!(
        written == made,
        "{PAGE} is not what the code says, first in {differs:?}: write it anew by \
         `cargo test -p dialtone --test compatibility -- --ignored`"
    );
}

#[test]
fn page_tells_what_is_there_from_what_is_not() {
    let twiml = twiml_table(TWIML, remarks_of_call);
    let line = |start: &str| twiml.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}"));
    assert_eq!(line("| `Echo`"), "| `Echo` | the element |  |  |");
    assert_eq!(line("| `Pay`"), "| `Pay` |  |  | the element |");
    assert!(line("| `Gather input=speech` |").contains(" |  |  | `input` "), "{}", line("| `Gather input=speech` |"));
    let rest = rest_table();
    let line = |part: &str| rest.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}"));
    assert!(
        line("create `/Calls.json`").contains("| partly |")
            && line("create `/Calls.json`").contains("`MachineDetection`")
    );
    assert!(line("list `/Conferences.json`").contains("| yes | `DateCreated`"));
    assert!(line("create `/Calls/{call_sid}/Payments.json`").contains("| no |"));
}

#[test]
#[ignore = "writes into the source tree"]
fn write_the_page() {
    fs::write(root().join(PAGE), page()).unwrap();
}
