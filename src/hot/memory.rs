//! The facts in memory: what Redis must do too.

use std::collections::BTreeMap;

use super::{Alive, Answer, Claim, Command, EdgeId, Held, Holds, KeptCall, SLOTS, Written, versioned};
use crate::ids::CallSid;

/// The facts of one process, or of a simulated world.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    edges: BTreeMap<EdgeId, Life>,
    slots: BTreeMap<u16, Slot>,
    maps: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    claims: BTreeMap<String, (EdgeId, String)>,
    holds: Holds,
    /// Until when edges say what they hold; `None`: nobody has come yet.
    barrier_ms: Option<u64>,
}

#[derive(Clone, Debug)]
struct Life {
    until_ms: u64,
    about: String,
}

#[derive(Clone, Debug)]
struct Slot {
    owner: EdgeId,
    calls: BTreeMap<CallSid, KeptCall>,
}

impl Memory {
    pub fn handle(&mut self, command: Command, now_ms: u64) -> Answer {
        match command {
            Command::Beat { edge, lease_ms, about, slots, barrier_ms } => {
                self.barrier_ms.get_or_insert(now_ms + barrier_ms);
                let is_known = self.edges.insert(edge.clone(), Life { until_ms: now_ms + lease_ms, about }).is_some();
                let (mut lost, mut forgotten) = (Vec::new(), Vec::new());
                for slot in slots {
                    match self.slots.get(&slot) {
                        Some(taken) if taken.owner == edge => {}
                        // Another has taken it, and perhaps given it back.
                        Some(_) => lost.push(slot),
                        None if is_known => lost.push(slot),
                        None => {
                            self.owns_or_takes(&edge, slot);
                            forgotten.push(slot);
                        }
                    }
                }
                Answer::Alive(Alive { lost, forgotten, ..self.alive(now_ms) })
            }
            Command::Leave { edge } => {
                self.edges.remove(&edge);
                Answer::Done
            }
            Command::TakeFree { edge } => {
                let free = (0..SLOTS).find(|slot| !self.slots.contains_key(slot));
                if let Some(slot) = free {
                    self.owns_or_takes(&edge, slot);
                }
                Answer::Slot(free)
            }
            Command::Adopt { edge, slot, from } => Answer::Adopted(self.adopt(edge, slot, &from, now_ms)),
            Command::Free { edge, slot } => {
                if self.slot_of(&edge, slot).is_some() {
                    self.slots.remove(&slot);
                }
                Answer::Done
            }
            Command::Write { edge, slot, call, events, state } => {
                let slot = match self.owned(&edge, slot) {
                    Ok(slot) => slot,
                    Err(why) => return Answer::Written(why),
                };
                let empty = KeptCall { call, events: Vec::new(), state: None };
                let kept = slot.calls.entry(call).or_insert(empty);
                kept.events.extend(events);
                kept.state = state.or(kept.state.take());
                Answer::Written(Written::Done)
            }
            Command::Drop { edge, slot, call } => {
                let dropped = self.owned(&edge, slot).map(|slot| slot.calls.remove(&call));
                Answer::Written(dropped.map_or_else(|why| why, |_| Written::Done))
            }
            Command::Put { map, field, value } => {
                self.maps.entry(map).or_default().insert(field, value);
                Answer::Done
            }
            Command::Remove { map, field, value } => {
                let fields = self.maps.entry(map).or_default();
                if fields.get(&field) == Some(&value) {
                    fields.remove(&field);
                }
                Answer::Done
            }
            Command::Swap { map, field, seen, version, value } => {
                let fields = self.maps.entry(map).or_default();
                let (current, kept) = versioned(fields.get(&field).map_or(&[], Vec::as_slice));
                if current != seen {
                    return Answer::Swapped(Some((current, kept.to_vec())));
                }
                match value.is_empty() {
                    true => fields.remove(&field),
                    false => fields.insert(field, [format!("{version} ").as_bytes(), &value].concat()),
                };
                Answer::Swapped(None)
            }
            Command::All { map } => {
                let values = self.maps.get(&map).into_iter().flatten();
                Answer::Values(values.map(|(field, value)| (field.clone(), value.clone())).collect())
            }
            Command::Claim { edge, name, value } => {
                let kept = self.claims.get(&name).filter(|(owner, _)| self.lives(owner, now_ms)).cloned();
                let (edge, value) = kept.unwrap_or((edge, value));
                self.claims.insert(name, (edge.clone(), value.clone()));
                Answer::Claimed { edge, value }
            }
            Command::Hold { edge, claim } => Answer::Held(self.hold(&edge, &claim, now_ms)),
            Command::Holders { scope } => {
                let mut holders = BTreeMap::new();
                for (holder, count) in self.holds.of(&scope) {
                    *holders.entry(holder.edge.clone()).or_default() += count;
                }
                Answer::Holders(holders.into_iter().collect())
            }
            Command::Unclaim { edge, name, value } => {
                if self.claims.get(&name) == Some(&(edge, value)) {
                    self.claims.remove(&name);
                }
                Answer::Done
            }
        }
    }

    pub(crate) fn lives(&self, edge: &EdgeId, now_ms: u64) -> bool {
        self.edges.get(edge).is_some_and(|life| life.until_ms > now_ms)
    }

    fn alive(&self, now_ms: u64) -> Alive {
        let edges = self.edges.iter().filter(|(_, life)| life.until_ms > now_ms);
        Alive {
            edges: edges.map(|(edge, life)| (edge.clone(), life.about.clone())).collect(),
            slots: self.slots.iter().map(|(number, slot)| (*number, slot.owner.clone())).collect(),
            ..Alive::default()
        }
    }

    fn owns_or_takes(&mut self, edge: &EdgeId, slot: u16) -> bool {
        let fresh = || Slot { owner: edge.clone(), calls: BTreeMap::new() };
        self.slots.entry(slot).or_insert_with(fresh).owner == *edge
    }

    fn owned(&mut self, edge: &EdgeId, slot: u16) -> Result<&mut Slot, Written> {
        match self.slots.get_mut(&slot) {
            Some(slot) if slot.owner == *edge => Ok(slot),
            Some(_) => Err(Written::Fenced),
            None => Err(Written::Forgotten),
        }
    }

    fn hold(&mut self, edge: &EdgeId, claim: &Claim, now_ms: u64) -> Held {
        if !self.lives(edge, now_ms) {
            return Held::Fenced;
        }
        let until_ms = self.barrier_ms.unwrap_or(now_ms + 1);
        if until_ms > now_ms {
            self.holds.announce(edge, claim);
            return Held::Barrier { wait_ms: until_ms - now_ms };
        }
        let (edges, slots) = (&self.edges, &self.slots);
        let keeps = |edge: &EdgeId| {
            edges.get(edge).is_some_and(|life| life.until_ms > now_ms) || slots.values().any(|slot| slot.owner == *edge)
        };
        Held::Done(self.holds.claim(edge, claim, keeps))
    }

    fn slot_of(&mut self, edge: &EdgeId, slot: u16) -> Option<&mut Slot> {
        self.slots.get_mut(&slot).filter(|slot| slot.owner == *edge)
    }

    fn adopt(&mut self, edge: EdgeId, slot: u16, from: &EdgeId, now_ms: u64) -> Option<Vec<KeptCall>> {
        if self.lives(from, now_ms) {
            return None;
        }
        let slot = self.slot_of(from, slot)?;
        slot.owner = edge.clone();
        let calls = slot.calls.values().cloned().collect();
        self.holds.hand_over(from, &edge);
        Some(calls)
    }
}
