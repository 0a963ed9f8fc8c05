//! What edges hold of scopes that have a limit: the rule that memory, Redis and PostgreSQL follow.
//!
//! An edge says how much it holds, not how much came or went: whatever is told twice, late or never, the sum of what living
//! edges hold is right again with the next claim. What a dead edge holds is free when nobody is left to take its calls up; with
//! its calls it goes to whoever takes them, until that one holds them itself.

use std::collections::BTreeMap;

use super::EdgeId;

/// What an edge holds, and what more it wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// All that it holds of these scopes.
    pub have: Vec<(String, u32)>,
    /// More than that: each as a whole or not at all, in this order.
    pub raises: Vec<Raise>,
    /// Edges whose calls it has taken up, and holds itself by now.
    pub settled: Vec<EdgeId>,
}

/// As much more of several scopes at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raise {
    /// By their place in [`Claim::have`], each with its limit.
    pub scopes: Vec<(usize, u32)>,
    pub at_least: u32,
    pub at_most: u32,
}

/// What comes of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// By raise.
    Done(Vec<Raised>),
    /// The edge's own lease is over, or has not begun: nothing was written.
    Fenced,
    /// The store has forgotten everything, and waits for every edge to say what it has: nothing more is held until then.
    Barrier { wait_ms: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    By(u32),
    /// The first scope that has too little room, by its place.
    Full(usize),
}

/// Who holds something: an edge, perhaps in the place of one whose calls it is taking up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holder {
    pub edge: EdgeId,
    pub of: Option<EdgeId>,
}

/// The numbers, by scope and holder; none of them is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holds(BTreeMap<String, BTreeMap<Holder, u32>>);

impl Holds {
    /// A claim of an edge that lives. `keeps` says whether what somebody holds counts: of the living, and of the dead whose calls
    /// are yet to be taken up.
    pub fn claim(&mut self, edge: &EdgeId, claim: &Claim, keeps: impl Fn(&EdgeId) -> bool) -> Vec<Raised> {
        self.announce(edge, claim);
        for (scope, _) in &claim.have {
            if let Some(holders) = self.0.get_mut(scope) {
                holders.retain(|holder, _| keeps(&holder.edge));
            }
        }
        let raised = claim.raises.iter().map(|raise| self.raise(edge, claim, raise)).collect();
        self.0.retain(|_, holders| !holders.is_empty());
        raised
    }

    /// What an edge says of itself, without wanting more.
    pub fn announce(&mut self, edge: &EdgeId, claim: &Claim) {
        let own = Holder { edge: edge.clone(), of: None };
        for (scope, count) in &claim.have {
            self.set(scope, own.clone(), *count);
        }
        let is_settled = |of: &EdgeId| claim.settled.contains(of);
        for holders in self.0.values_mut() {
            holders.retain(|holder, _| holder.edge != *edge || !holder.of.as_ref().is_some_and(is_settled));
        }
        self.0.retain(|_, holders| !holders.is_empty());
    }

    fn raise(&mut self, edge: &EdgeId, claim: &Claim, raise: &Raise) -> Raised {
        let mut by = raise.at_most;
        for (place, limit) in &raise.scopes {
            let room = limit.saturating_sub(self.in_use(&claim.have[*place].0));
            if room < raise.at_least {
                return Raised::Full(*place);
            }
            by = by.min(room);
        }
        let own = Holder { edge: edge.clone(), of: None };
        for (place, _) in &raise.scopes {
            let scope = &claim.have[*place].0;
            let before = self.0.get(scope).and_then(|holders| holders.get(&own)).copied().unwrap_or(0);
            self.set(scope, own.clone(), before + by);
        }
        Raised::By(by)
    }

    /// What a dead edge held is `to`'s, which takes its calls up.
    pub fn hand_over(&mut self, from: &EdgeId, to: &EdgeId) {
        for holders in self.0.values_mut() {
            let theirs: Vec<Holder> = holders.keys().filter(|holder| holder.edge == *from).cloned().collect();
            for holder in theirs {
                let count = holders.remove(&holder).unwrap_or(0);
                let of = Some(holder.of.unwrap_or_else(|| from.clone()));
                *holders.entry(Holder { edge: to.clone(), of }).or_default() += count;
            }
        }
    }

    /// How much of a scope is held.
    pub fn in_use(&self, scope: &str) -> u32 {
        self.0.get(scope).into_iter().flat_map(BTreeMap::values).sum()
    }

    /// Who holds how much of a scope.
    pub fn of(&self, scope: &str) -> impl Iterator<Item = (&Holder, u32)> {
        self.0.get(scope).into_iter().flatten().map(|(holder, count)| (holder, *count))
    }

    pub fn set(&mut self, scope: &str, holder: Holder, count: u32) {
        match count {
            0 => self.0.get_mut(scope).and_then(|holders| holders.remove(&holder)).map_or((), drop),
            _ => drop(self.0.entry(scope.to_owned()).or_default().insert(holder, count)),
        }
    }
}
