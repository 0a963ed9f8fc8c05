//! What each edge knows of one client.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::record::Part;

/// Parts by the name of their edge, in its order. As a rule there is one, and of clients there are many: it takes the room of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<Arc<str>, Arc<Part>>", into = "BTreeMap<Arc<str>, Arc<Part>>")]
pub struct Parts(Vec<(Arc<str>, Arc<Part>)>);

impl Parts {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, edge: &str) -> Option<&Arc<Part>> {
        self.iter().find(|(name, _)| &***name == edge).map(|(_, part)| part)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Part>)> {
        self.0.iter().map(|(edge, part)| (edge, part))
    }

    pub fn edges(&self) -> impl Iterator<Item = &Arc<str>> {
        self.iter().map(|(edge, _)| edge)
    }

    pub fn values(&self) -> impl Iterator<Item = &Part> {
        self.0.iter().map(|(_, part)| &**part)
    }

    pub(super) fn retain(&mut self, mut wanted: impl FnMut(&str) -> bool) {
        self.0.retain(|(edge, _)| wanted(edge));
    }

    /// Puts an edge's part in the place of the one that it had.
    pub(super) fn insert(&mut self, edge: Arc<str>, part: Arc<Part>) {
        match self.0.binary_search_by(|(known, _)| known.cmp(&edge)) {
            Ok(at) => self.0[at].1 = part,
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (edge, part));
            }
        }
    }
}

impl FromIterator<(Arc<str>, Arc<Part>)> for Parts {
    fn from_iter<T: IntoIterator<Item = (Arc<str>, Arc<Part>)>>(parts: T) -> Parts {
        let mut all = Parts::default();
        parts.into_iter().for_each(|(edge, part)| all.insert(edge, part));
        all
    }
}

impl From<BTreeMap<Arc<str>, Arc<Part>>> for Parts {
    fn from(parts: BTreeMap<Arc<str>, Arc<Part>>) -> Parts {
        parts.into_iter().collect()
    }
}

impl From<Parts> for BTreeMap<Arc<str>, Arc<Part>> {
    fn from(parts: Parts) -> Self {
        parts.0.into_iter().collect()
    }
}
