//! What is said of a client in XML: to those who watch it, and by its own devices.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::Event;

use super::record::{Record, Status};

/// What can be subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Package {
    /// Whether somebody can be reached (RFC 3856), in PIDF (RFC 3863).
    Presence,
    /// Which calls somebody is in (RFC 4235): the lamps of a phone.
    Dialog,
}

impl Package {
    pub fn named(name: &str) -> Option<Package> {
        [Package::Presence, Package::Dialog].into_iter().find(|package| package.as_str() == name)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Package::Presence => "presence",
            Package::Dialog => "dialog",
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Package::Presence => "application/pidf+xml",
            Package::Dialog => "application/dialog-info+xml",
        }
    }

    /// How a client is. `version` counts the documents of one subscription, from 0.
    pub fn document(self, entity: &str, version: u32, record: &Record, now_ms: u64) -> String {
        match self {
            Package::Presence => pidf(entity, record, now_ms),
            Package::Dialog => dialog_info(entity, version, record),
        }
    }
}

/// One tuple: by how many devices somebody can be reached, and where those are, is nobody's business.
fn pidf(entity: &str, record: &Record, now_ms: u64) -> String {
    let status = record.status(now_ms);
    let basic = if record.is_available(now_ms) { "open" } else { "closed" };
    let activity = match status {
        Status::Busy => "<rpid:on-the-phone/>",
        Status::Away => "<rpid:away/>",
        Status::Available | Status::Offline => "",
    };
    let note = record.published(now_ms).map(|published| published.note.as_str()).filter(|note| !note.is_empty());
    let note = note.map_or_else(String::new, |note| format!("<note>{}</note>", escape(note)));
    let person = match activity {
        "" => String::new(),
        activity => format!("<dm:person id=\"person\"><rpid:activities>{activity}</rpid:activities></dm:person>"),
    };
    let entity = escape(entity);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" \
         xmlns:rpid=\"urn:ietf:params:xml:ns:pidf:rpid\" entity=\"{entity}\">\
         <tuple id=\"client\"><status><basic>{basic}</basic></status><contact>{entity}</contact>{note}</tuple>{person}\
         </presence>\n"
    )
}

fn dialog_info(entity: &str, version: u32, record: &Record) -> String {
    let dialogs = record.calls().map(|call| {
        let direction = if call.is_initiator { "initiator" } else { "recipient" };
        let state = if call.is_answered { "confirmed" } else { "early" };
        format!(
            "<dialog id=\"{}\" direction=\"{direction}\"><state>{state}</state>\
             <remote><identity>{}</identity></remote></dialog>",
            escape(&call.id),
            escape(as_uri(&call.remote).as_ref()),
        )
    });
    let dialogs: String = dialogs.collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"{version}\" state=\"full\" entity=\"{}\">\
         {dialogs}</dialog-info>\n",
        escape(entity)
    )
}

/// A number is a tel: URI (RFC 3966), and a client is no URI that phones know.
fn as_uri(address: &str) -> Cow<'_, str> {
    match address {
        _ if address.starts_with("sip:") || address.starts_with("sips:") => address.into(),
        _ if address.starts_with('+') => format!("tel:{address}").into(),
        _ => format!("sip:{}@anonymous.invalid", address.trim_start_matches("client:")).into(),
    }
}

/// What was published is no PIDF that says whether its user takes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreadableState;

/// A document of more pieces is none that a phone writes.
const MOST_PIECES: usize = 1_000;

/// Reads a published document: whether its user takes calls, and what it says beside.
pub fn read_state(document: &[u8]) -> Result<(bool, String), UnreadableState> {
    let document = std::str::from_utf8(document).map_err(|_| UnreadableState)?;
    let mut reader = Reader::from_str(document);
    let (mut inside, mut basic, mut note) = (String::new(), None, String::new());
    let (mut is_presence, mut wants_none) = (false, false);
    for _ in 0..MOST_PIECES {
        match reader.read_event().map_err(|_| UnreadableState)? {
            Event::Start(element) => {
                inside = element.local_name().as_ref().to_owned();
                is_presence |= inside == "presence";
                wants_none |= is_no_call(&inside);
            }
            Event::Empty(element) => wants_none |= is_no_call(element.local_name().as_ref()),
            Event::End(_) => inside.clear(),
            Event::Text(text) => match (inside.as_str(), text.trim()) {
                ("basic", "open") => basic = Some(true),
                ("basic", "closed") => basic = basic.or(Some(false)),
                ("note", _) => note.push_str(&text),
                _ => {}
            },
            Event::GeneralRef(reference) if inside == "note" => {
                note.push_str(resolve_predefined_entity(&reference).unwrap_or_default());
            }
            // What says nothing of it says nothing against it.
            Event::Eof if is_presence => return Ok((basic.unwrap_or(true) && !wants_none, note.trim().to_owned())),
            Event::Eof => return Err(UnreadableState),
            _ => {}
        }
    }
    Err(UnreadableState)
}

/// Activities of somebody who does not want to be called (RFC 4480 s3.2), and what phones write for it.
fn is_no_call(name: &str) -> bool {
    matches!(name, "busy" | "away" | "dnd" | "do-not-disturb" | "meeting" | "sleeping" | "permanent-absence")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::{Device, DeviceKind, InCall, Part};

    fn record(devices: usize, calls: &[bool]) -> Record {
        let device = |number: usize| Device {
            sid: format!("DV{number}"),
            kind: DeviceKind::Sip,
            user_agent: String::new(),
            contact: format!("sip:a@192.0.2.{number}"),
            since_ms: 0,
            expires_ms: 100,
            is_closed: false,
            call_waiting: false,
        };
        let call = |(number, is_answered): (usize, &bool)| InCall {
            id: format!("CA{number}"),
            is_initiator: number == 0,
            is_answered: *is_answered,
            remote: "+1555<\"&".into(),
            contact: format!("sip:a@192.0.2.{number}"),
        };
        let devices = (0..devices).map(device).collect();
        let calls = calls.iter().enumerate().map(call).collect();
        let parts = [("a@1".into(), Part { devices, calls, published: Vec::new() }.into())].into_iter().collect();
        Record { version: 1, author: "a@1".into(), parts }
    }

    #[test]
    fn pr_12_documents_say_what_the_record_says() {
        for (devices, calls, basic, activity) in [
            (0, &[][..], "closed", false),
            (1, &[], "open", false),
            (1, &[false], "open", false),
            (1, &[true], "closed", true),
            (2, &[true], "open", false),
            (2, &[true, true], "closed", true),
        ] {
            let text = Package::Presence.document("sip:jenny@here", 3, &record(devices, calls), 50);
            assert!(text.contains(&format!("<basic>{basic}</basic>")), "{text}");
            assert_eq!(text.contains("on-the-phone"), activity, "{text}");
            assert_eq!(read_state(text.as_bytes()).map(|(is_open, _)| is_open), Ok(basic == "open"));
            assert!(!text.contains("192.0.2"), "{text}");
        }
        let text = Package::Dialog.document("sip:jenny@here", 7, &record(1, &[true, false]), 50);
        assert!(text.contains("version=\"7\"") && text.contains("entity=\"sip:jenny@here\""), "{text}");
        assert!(text.contains("<dialog id=\"CA0\" direction=\"initiator\"><state>confirmed</state>"), "{text}");
        assert!(text.contains("<dialog id=\"CA1\" direction=\"recipient\"><state>early</state>"), "{text}");
        assert!(text.contains("tel:+1555&lt;&quot;&amp;"), "{text}");
    }

    #[test]
    fn pr_13_published_states_are_read() {
        let pidf = |inside: &str| {
            format!("<?xml version='1.0'?><p:presence xmlns:p='urn:ietf:params:xml:ns:pidf'>{inside}</p:presence>")
        };
        for (inside, wanted) in [
            ("<tuple id='a'><status><basic>open</basic></status></tuple>", Ok((true, ""))),
            (
                "<p:tuple id='a'><p:status><p:basic> closed </p:basic></p:status><p:note>at &lt;lunch&gt;</p:note></p:tuple>",
                Ok((false, "at <lunch>")),
            ),
            (
                "<tuple id='a'><status><basic>closed</basic></status></tuple><tuple id='b'><status><basic>open</basic></status></tuple>",
                Ok((true, "")),
            ),
            (
                "<tuple id='a'><status><basic>open</basic></status></tuple><rpid:activities><rpid:busy/></rpid:activities>",
                Ok((false, "")),
            ),
            ("<tuple id='a'/>", Ok((true, ""))),
            ("<tuple><status><basic>unknown</basic></status></tuple>", Ok((true, ""))),
            ("<tuple><basic>open</tuple>", Err(UnreadableState)),
        ] {
            let read = read_state(pidf(inside).as_bytes());
            assert_eq!(read, wanted.map(|(is_open, note)| (is_open, note.to_owned())), "{inside}");
        }
        assert_eq!(read_state("<a>".repeat(1_000).as_bytes()), Err(UnreadableState));
        assert_eq!(read_state(b"v=0"), Err(UnreadableState));
    }
}
