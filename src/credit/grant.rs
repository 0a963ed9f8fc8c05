//! What an edge is granted of a budget, and what it says of itself: the rule that the store follows.
//!
//! An edge says how much it has set aside, not how much came or went, so that what is told twice, late or never is right again with
//! the next claim.

use super::Fund;

/// What an edge has set aside, and what more it wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// All that it has set aside of these budgets.
    pub have: Vec<(Fund, i64)>,
    /// More than that: each of all its budgets or of none, in this order.
    pub raises: Vec<Raise>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raise {
    pub wants: Vec<Wanted>,
}

/// More of one budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The budget's place in [`Claim::have`].
    pub place: usize,
    /// The budget as a whole.
    pub limit: i64,
    pub at_least: i64,
    pub at_most: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raised {
    /// So much more of each budget.
    By(Vec<i64>),
    /// The first budget that has too little left, by its place.
    Short(usize),
}

/// What comes of a claim; `None`: the store did not answer.
pub type Answer = Option<Vec<Raised>>;

/// `used` is what the ledger has of each budget and what others have set aside, by place. Returns what came of each raise, and what
/// the edge has set aside then.
pub fn grant(claim: &Claim, used: &[i64]) -> (Vec<Raised>, Vec<i64>) {
    let mut have: Vec<i64> = claim.have.iter().map(|(_, amount)| *amount).collect();
    let mut raised = Vec::with_capacity(claim.raises.len());
    for raise in &claim.raises {
        let left = |wanted: &Wanted| wanted.limit.saturating_sub(used[wanted.place]).saturating_sub(have[wanted.place]);
        if let Some(short) = raise.wants.iter().find(|wanted| wanted.at_least > left(wanted).max(0)) {
            raised.push(Raised::Short(short.place));
            continue;
        }
        let by: Vec<i64> = raise.wants.iter().map(|wanted| left(wanted).min(wanted.at_most).max(0)).collect();
        for (wanted, more) in raise.wants.iter().zip(&by) {
            have[wanted.place] += more;
        }
        raised.push(Raised::By(by));
    }
    (raised, have)
}
