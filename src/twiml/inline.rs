//! A document that is given in place of a URL.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::twiml::document::Document;
use crate::twiml::parse::{MarkupError, parse};

/// A document's text, read once for all calls that it answers. Written down it is its text.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct InlineDocument(Arc<(String, Result<Document, MarkupError>)>);

impl InlineDocument {
    pub fn text(&self) -> &str {
        &self.0.0
    }

    /// Relative URLs in it have nothing to resolve against.
    pub fn read(&self) -> Result<Document, MarkupError> {
        self.0.1.clone()
    }
}

impl From<String> for InlineDocument {
    fn from(text: String) -> InlineDocument {
        let read = parse(text.as_bytes(), Some("text/xml"), None);
        InlineDocument(Arc::new((text, read)))
    }
}

impl From<&str> for InlineDocument {
    fn from(text: &str) -> InlineDocument {
        text.to_owned().into()
    }
}

impl From<InlineDocument> for String {
    fn from(document: InlineDocument) -> String {
        document.text().to_owned()
    }
}

impl PartialEq for InlineDocument {
    fn eq(&self, other: &InlineDocument) -> bool {
        self.text() == other.text()
    }
}

impl Eq for InlineDocument {}

impl fmt::Debug for InlineDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}
