//! XML text to a tree of elements, within limits and without a DTD.
//!
//! Only what TwiML needs of XML: elements, attributes, text, CDATA, character references and the five predefined
//! entities. A DOCTYPE is refused, so that no entity can be declared and nothing outside the document is named.
//! Comments and processing instructions are passed over.

use quick_xml::XmlVersion;
use quick_xml::errors::{Error as XmlError, IllFormedError};
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::reader::Reader;

use crate::twiml::parse::MarkupError;

/// Deeper documents are refused: no recursion of ours goes deeper than this.
const MAX_DEPTH: usize = 50;

/// An element with its attributes in document order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Element {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Node>,
}

/// What an element holds.
#[derive(Debug, PartialEq)]
pub(super) enum Node {
    Element(Element),
    Text(String),
}

impl Element {
    /// An element that holds a text and nothing else.
    pub fn of_text(text: &str) -> Element {
        Element { children: vec![Node::Text(text.to_owned())], ..Element::default() }
    }

    /// The text directly inside, without that of inner elements, trimmed.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for node in &self.children {
            if let Node::Text(piece) = node {
                text.push_str(piece);
            }
        }
        text.trim().to_owned()
    }

    /// The elements directly inside.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    fn push_text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        match self.children.last_mut() {
            Some(Node::Text(last)) => last.push_str(text),
            _ => self.children.push(Node::Text(text.to_owned())),
        }
    }
}

/// Reads the one root element of `text`.
///
/// # Errors
/// Whatever makes the text no well-formed XML, a DOCTYPE, an entity that XML does not predefine, or too much depth.
pub(super) fn read(text: &str) -> Result<Element, MarkupError> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    // Open elements, outermost first, below an unnamed one that collects the root.
    let mut open = vec![Element::default()];
    let mut declaration_allowed = true;
    loop {
        let event = reader.read_event().map_err(|error| malformed(&error))?;
        match event {
            Event::Decl(_) if declaration_allowed => {}
            Event::Decl(_) => return Err(MarkupError::MisplacedDeclaration),
            Event::DocType(_) => return Err(MarkupError::DocType),
            Event::Start(start) => {
                if open.len() > MAX_DEPTH {
                    return Err(MarkupError::TooDeep);
                }
                open.push(element(&start)?);
            }
            Event::Empty(start) => {
                let element = element(&start)?;
                top(&mut open).children.push(Node::Element(element));
            }
            Event::End(_) => {
                let element = open.pop().unwrap_or_default();
                top(&mut open).children.push(Node::Element(element));
            }
            Event::Text(text) => top(&mut open).push_text(&text.xml10_content()),
            Event::CData(text) => top(&mut open).push_text(&text.xml10_content()),
            Event::GeneralRef(reference) => top(&mut open).push_text(&resolve(&reference)?),
            Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
        declaration_allowed = false;
    }
    root(open)
}

/// The innermost open element. There is always one: the reader refuses an end tag without its start tag.
fn top(open: &mut Vec<Element>) -> &mut Element {
    if open.is_empty() {
        open.push(Element::default());
    }
    open.last_mut().expect("an element was pushed if there was none")
}

fn root(mut open: Vec<Element>) -> Result<Element, MarkupError> {
    if open.len() != 1 {
        return Err(MarkupError::Unclosed);
    }
    let mut root = None;
    for node in open.pop().unwrap_or_default().children {
        match node {
            Node::Text(text) if text.trim().is_empty() => {}
            Node::Text(_) => return Err(MarkupError::TextOutsideRoot),
            Node::Element(_) if root.is_some() => return Err(MarkupError::SecondRoot),
            Node::Element(element) => root = Some(element),
        }
    }
    root.ok_or(MarkupError::NoResponse)
}

fn element(start: &BytesStart<'_>) -> Result<Element, MarkupError> {
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|_| MarkupError::Attribute)?;
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|_| MarkupError::Entity)?;
        if value.chars().any(is_forbidden) {
            return Err(MarkupError::Character);
        }
        attributes.push((attribute.key.as_ref().to_owned(), value.into_owned()));
    }
    Ok(Element { name: start.name().as_ref().to_owned(), attributes, children: Vec::new() })
}

fn resolve(reference: &BytesRef<'_>) -> Result<String, MarkupError> {
    match reference.resolve_char_ref() {
        Ok(Some(character)) if is_forbidden(character) => Err(MarkupError::Character),
        Ok(Some(character)) => Ok(character.to_string()),
        Ok(None) => resolve_predefined_entity(&reference.xml10_content()).map(str::to_owned).ok_or(MarkupError::Entity),
        Err(_) => Err(MarkupError::Entity),
    }
}

/// Characters that XML 1.0 does not have (s2.2).
fn is_forbidden(character: char) -> bool {
    matches!(character, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

fn malformed(error: &XmlError) -> MarkupError {
    match error {
        XmlError::IllFormed(IllFormedError::MismatchedEndTag { .. } | IllFormedError::UnmatchedEndTag(_)) => {
            MarkupError::Nesting
        }
        XmlError::IllFormed(IllFormedError::MissingEndTag(_)) => MarkupError::Unclosed,
        XmlError::IllFormed(IllFormedError::UnclosedReference) => MarkupError::Entity,
        _ => MarkupError::Syntax,
    }
}
