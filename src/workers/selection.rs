//! Selection: which of the calls that programs have ordered is made next.
//!
//! Orders wait by account and trunk. They leave in the order of start-time fair queuing over the accounts (Goyal, Vin and
//! Cheng 1996), so that nobody waits for what another has ordered; one account's at its calls per second, and by each trunk
//! at the trunk's. It is plain data: whoever owns it says what time it is and whether there is room.

use std::collections::{BTreeMap, HashMap, VecDeque};

use dialtone_sip::time::Mono;

use crate::ids::{AccountSid, CallSid};

/// Calls per second; `None` is as many as there is room for.
pub trait Limits {
    fn of_account(&self, account: AccountSid) -> Option<u32>;
    fn of_trunk(&self, account: AccountSid, trunk: &str) -> Option<u32>;
}

/// Orders that wait.
#[derive(Debug)]
pub struct Selection<T> {
    accounts: BTreeMap<AccountSid, Backlog<T>>,
    /// The start tag of what left last.
    virtual_time: u64,
    /// Tells which of two came first.
    arrivals: u64,
    len: usize,
    /// When the next may leave, or sooner: until then nobody is looked at.
    due: Option<Mono>,
}

/// Orders of all accounts; each takes some 2 kB.
pub const MOST: usize = 400_000;
/// One account leaves room for others.
pub const MOST_OF_ACCOUNT: usize = 100_000;
const DAY_S: u64 = 86_400;
const SECOND_US: u64 = 1_000_000;

#[derive(Debug)]
struct Backlog<T> {
    /// When it may have its turn, in the time of fair queuing: turns that others have had.
    start: u64,
    pace: Pace,
    /// By trunk; none of them is empty.
    lanes: HashMap<String, VecDeque<Entry<T>>>,
    paces: HashMap<String, Pace>,
    len: usize,
}

#[derive(Debug)]
struct Entry<T> {
    sid: CallSid,
    arrival: u64,
    order: T,
}

/// When the next may follow.
#[derive(Clone, Copy, Debug, Default)]
struct Pace(Mono);

impl Pace {
    fn took(&mut self, rate: Option<u32>, now: Mono) {
        if let Some(rate) = rate {
            self.0 = Mono(self.0.0.max(now.0) + SECOND_US / u64::from(rate.max(1)));
        }
    }

    fn is_ready(self, now: Mono) -> bool {
        self.0 <= now
    }

    /// How long the last of so many waits.
    fn wait_us(self, ahead: usize, rate: Option<u32>, now: Mono) -> u64 {
        let Some(rate) = rate else { return 0 };
        self.0.0.saturating_sub(now.0) + ahead as u64 * (SECOND_US / u64::from(rate.max(1)))
    }
}

impl<T> Default for Selection<T> {
    fn default() -> Self {
        Selection { accounts: BTreeMap::new(), virtual_time: 0, arrivals: 0, len: 0, due: None }
    }
}

impl<T> Selection<T> {
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// How many wait for each trunk, of all accounts; those that go by none have the empty name.
    pub fn waiting(&self) -> BTreeMap<&str, usize> {
        let mut waiting = BTreeMap::new();
        for (trunk, lane) in self.accounts.values().flat_map(|backlog| &backlog.lanes) {
            *waiting.entry(trunk.as_str()).or_default() += lane.len();
        }
        waiting
    }

    /// Whether another order of the account may be taken in: not where there are as many as it could make in a day.
    pub fn has_place(&self, account: AccountSid, limits: &impl Limits) -> bool {
        let of_account = self.accounts.get(&account).map_or(0, |backlog| backlog.len);
        let day = limits.of_account(account).map_or(u64::MAX, |rate| DAY_S * u64::from(rate));
        self.len < MOST && of_account < MOST_OF_ACCOUNT && (of_account as u64) < day
    }

    /// Takes an order in; `trunk` is empty of one that goes by none.
    pub fn offer(&mut self, account: AccountSid, trunk: &str, sid: CallSid, order: T) {
        let virtual_time = self.virtual_time;
        let backlog = self.accounts.entry(account).or_insert_with(Backlog::new);
        if backlog.len == 0 {
            // Whoever had nothing to do has saved up no turns.
            backlog.start = backlog.start.max(virtual_time);
        }
        self.arrivals += 1;
        let entry = Entry { sid, arrival: self.arrivals, order };
        backlog.lanes.entry(trunk.to_owned()).or_default().push_back(entry);
        backlog.len += 1;
        self.len += 1;
        let ready_at = backlog.pace.0.max(backlog.pace_of(trunk).0);
        self.due = Some(self.due.map_or(ready_at, |due| due.min(ready_at)));
    }

    /// The next order that may leave now.
    pub fn next(&mut self, now: Mono, limits: &impl Limits) -> Option<T> {
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        let next = self.take_next(now, limits);
        if next.is_none() {
            self.due = self.accounts.values().filter_map(Backlog::ready_at).min();
        }
        next
    }

    fn take_next(&mut self, now: Mono, limits: &impl Limits) -> Option<T> {
        let ready = self.accounts.iter().filter_map(|(account, backlog)| {
            let (trunk, arrival) = backlog.ready(now)?;
            Some((backlog.start, arrival, *account, trunk))
        });
        let (start, _, account, trunk) = ready.min()?;
        let trunk = trunk.to_owned();
        let backlog = self.accounts.get_mut(&account)?;
        let entry = backlog.take(&trunk)?;
        self.virtual_time = start;
        backlog.start = start + 1;
        backlog.pace.took(limits.of_account(account), now);
        let of_trunk = limits.of_trunk(account, &trunk);
        if of_trunk.is_some() {
            backlog.paces.entry(trunk).or_default().took(of_trunk, now);
        }
        self.len -= 1;
        self.forget_idle(now);
        Some(entry.order)
    }

    /// When the next may leave, or sooner, if there is room then: [`Selection::next`] tells.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.due.filter(|_| !self.is_empty())
    }

    /// How long an order that came last has to wait, in milliseconds, as far as the rates say.
    pub fn wait_ms(&self, account: AccountSid, trunk: &str, now: Mono, limits: &impl Limits) -> u64 {
        let Some(backlog) = self.accounts.get(&account) else { return 0 };
        let ahead = backlog.lanes.get(trunk).map_or(0, VecDeque::len).saturating_sub(1);
        let pace = backlog.paces.get(trunk).copied().unwrap_or_default();
        let by_account = backlog.pace.wait_us(backlog.len.saturating_sub(1), limits.of_account(account), now);
        let by_trunk = pace.wait_us(ahead, limits.of_trunk(account, trunk), now);
        by_account.max(by_trunk).div_ceil(1_000)
    }

    /// Takes an order back.
    pub fn withdraw(&mut self, account: AccountSid, sid: CallSid) -> Option<T> {
        let backlog = self.accounts.get_mut(&account)?;
        let (trunk, at) = backlog.lanes.iter().find_map(|(trunk, lane)| {
            let at = lane.iter().position(|entry| entry.sid == sid)?;
            Some((trunk.clone(), at))
        })?;
        let lane = backlog.lanes.get_mut(&trunk)?;
        let entry = lane.remove(at)?;
        if lane.is_empty() {
            backlog.lanes.remove(&trunk);
        }
        backlog.len -= 1;
        self.len -= 1;
        Some(entry.order)
    }

    /// Takes the orders out that are to wait no longer: each trunk's come in the order of their age.
    pub fn remove_while(&mut self, is_too_old: impl Fn(&T) -> bool) -> Vec<T> {
        let mut removed = Vec::new();
        for backlog in self.accounts.values_mut() {
            for lane in backlog.lanes.values_mut() {
                while lane.front().is_some_and(|entry| is_too_old(&entry.order)) {
                    removed.extend(lane.pop_front().map(|entry| entry.order));
                    backlog.len -= 1;
                }
            }
            backlog.lanes.retain(|_, lane| !lane.is_empty());
        }
        self.len -= removed.len();
        removed
    }

    /// The order that came last, if it waits still.
    pub fn newest_mut(&mut self, account: AccountSid) -> Option<&mut T> {
        let newest = self.arrivals;
        let lanes = self.accounts.get_mut(&account)?.lanes.values_mut();
        let last = lanes.filter_map(VecDeque::back_mut).find(|entry| entry.arrival == newest)?;
        Some(&mut last.order)
    }

    /// With many accounts in memory, those that have nothing to do and owe no pause are forgotten.
    fn forget_idle(&mut self, now: Mono) {
        if self.accounts.len() > MANY_ACCOUNTS {
            let owes_no_pause = |backlog: &Backlog<T>| {
                backlog.pace.is_ready(now) && backlog.paces.values().all(|pace| pace.is_ready(now))
            };
            self.accounts.retain(|_, backlog| backlog.len > 0 || !owes_no_pause(backlog));
        }
    }
}

const MANY_ACCOUNTS: usize = 1_000;

impl<T> Backlog<T> {
    fn new() -> Self {
        Backlog { start: 0, pace: Pace::default(), lanes: HashMap::new(), paces: HashMap::new(), len: 0 }
    }

    fn pace_of(&self, trunk: &str) -> Pace {
        self.paces.get(trunk).copied().unwrap_or_default()
    }

    /// The trunk of the order that may leave now, and when that came: the oldest of those whose trunk allows it.
    fn ready(&self, now: Mono) -> Option<(&str, u64)> {
        if !self.pace.is_ready(now) {
            return None;
        }
        let ready = self.lanes.iter().filter(|(trunk, _)| self.pace_of(trunk).is_ready(now));
        ready.filter_map(|(trunk, lane)| Some((trunk.as_str(), lane.front()?.arrival))).min_by_key(|(_, came)| *came)
    }

    fn ready_at(&self) -> Option<Mono> {
        let trunk = self.lanes.keys().map(|trunk| self.pace_of(trunk).0).min()?;
        Some(trunk.max(self.pace.0))
    }

    fn take(&mut self, trunk: &str) -> Option<Entry<T>> {
        let lane = self.lanes.get_mut(trunk)?;
        let entry = lane.pop_front();
        if lane.is_empty() {
            self.lanes.remove(trunk);
        }
        self.len -= usize::from(entry.is_some());
        entry
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const A: AccountSid = AccountSid::new(1);
    const B: AccountSid = AccountSid::new(2);

    /// The account's calls per second, and those of each trunk.
    struct Rates(Option<u32>, Option<u32>);

    impl Limits for Rates {
        fn of_account(&self, _: AccountSid) -> Option<u32> {
            self.0
        }

        fn of_trunk(&self, _: AccountSid, trunk: &str) -> Option<u32> {
            self.1.filter(|_| !trunk.is_empty())
        }
    }

    const FREE: Rates = Rates(None, None);

    fn seconds(seconds: u64) -> Mono {
        Mono(seconds * SECOND_US)
    }

    fn offer(selection: &mut Selection<u64>, account: AccountSid, trunk: &str, number: u64, rates: &Rates) {
        assert!(selection.has_place(account, rates));
        selection.offer(account, trunk, CallSid::new(number.into()), number);
    }

    #[test]
    fn mt_01_one_order_of_another_account_does_not_wait_for_a_hundred() {
        let mut selection = Selection::default();
        (0..100).for_each(|number| offer(&mut selection, A, "", number, &FREE));
        // Ten of them have left when the other comes.
        let left: Vec<u64> = (0..10).filter_map(|_| selection.next(Mono(0), &FREE)).collect();
        assert_eq!(left, (0..10).collect::<Vec<_>>());
        offer(&mut selection, B, "", 1_000, &FREE);
        let next: Vec<u64> = (0..2).filter_map(|_| selection.next(Mono(0), &FREE)).collect();
        assert!(next.contains(&1_000), "{next:?}");
    }

    #[test]
    fn flood_of_one_account_leaves_the_other_its_half() {
        let mut selection = Selection::default();
        let mut left = [0, 0];
        for round in 0..200 {
            // One offers twenty times what the other does, and there is room for two.
            (0..20).for_each(|one| offer(&mut selection, A, "", round * 100 + one, &FREE));
            offer(&mut selection, B, "", round * 100 + 99, &FREE);
            for _ in 0..2 {
                let number = selection.next(Mono(round), &FREE).unwrap();
                left[usize::from(number % 100 == 99)] += 1;
            }
        }
        assert_eq!(left, [200, 200]);
    }

    #[test]
    fn account_that_comes_late_has_saved_up_nothing() {
        let mut selection = Selection::default();
        (0..50).for_each(|number| offer(&mut selection, A, "", number, &FREE));
        (0..30).for_each(|_| assert!(selection.next(Mono(0), &FREE).is_some()));
        (100..150).for_each(|number| offer(&mut selection, B, "", number, &FREE));
        let next: Vec<u64> = (0..20).filter_map(|_| selection.next(Mono(0), &FREE)).collect();
        assert_eq!(next.iter().filter(|number| **number >= 100).count(), 10, "{next:?}");
    }

    #[test]
    fn mt_02_orders_leave_at_the_rate_of_the_account_and_in_order() {
        let rates = Rates(Some(5), None);
        let mut selection = Selection::default();
        let mut waits = Vec::new();
        for number in 0..30 {
            offer(&mut selection, A, "", number, &rates);
            waits.push(selection.wait_ms(A, "", Mono(0), &rates));
        }
        assert_eq!(waits, (0..30).map(|ahead| ahead * 200).collect::<Vec<_>>());
        let mut left = Vec::new();
        while let Some(at) = selection.next_deadline() {
            let number = selection.next(at, &rates).unwrap();
            assert_eq!(selection.next(at, &rates), None, "one at a time");
            left.push((at.0 / 1_000, number));
        }
        assert_eq!(left, (0..30).map(|number| (number * 200, number)).collect::<Vec<_>>());
    }

    #[test]
    fn slow_trunk_holds_up_its_own_orders_only() {
        let rates = Rates(None, Some(1));
        let mut selection = Selection::default();
        (0..3).for_each(|number| offer(&mut selection, A, "slow", number, &rates));
        (10..13).for_each(|number| offer(&mut selection, A, "", number, &rates));
        let at_once: Vec<u64> = std::iter::from_fn(|| selection.next(Mono(0), &rates)).collect();
        assert_eq!(at_once, [0, 10, 11, 12]);
        assert_eq!(selection.wait_ms(A, "slow", Mono(0), &rates), 2_000);
        assert_eq!(selection.next_deadline(), Some(seconds(1)));
        assert_eq!(selection.next(seconds(1), &rates), Some(1));
    }

    #[test]
    fn rate_holds_when_nothing_had_to_wait() {
        let rates = Rates(Some(1), None);
        let mut selection = Selection::default();
        offer(&mut selection, A, "", 1, &rates);
        assert_eq!(selection.next(Mono(0), &rates), Some(1));
        offer(&mut selection, A, "", 2, &rates);
        assert_eq!((selection.next(Mono(0), &rates), selection.next_deadline()), (None, Some(seconds(1))));
    }

    #[test]
    fn mt_03_more_than_a_day_of_orders_is_refused_and_the_rest_drains() {
        let rates = Rates(Some(1), None);
        let mut selection = Selection::default();
        (0..DAY_S).for_each(|number| offer(&mut selection, A, "", number, &rates));
        assert!(!selection.has_place(A, &rates));
        offer(&mut selection, B, "", 7, &rates);
        assert!(selection.next(Mono(0), &rates).is_some());
        assert!(selection.has_place(A, &rates), "there is a place again");
        while selection.has_place(A, &FREE) {
            offer(&mut selection, A, "", 1 << 40, &FREE);
        }
        assert_eq!(selection.len(), MOST_OF_ACCOUNT + 1, "without a rate there is an end too");
        offer(&mut selection, B, "", 8, &FREE);
    }

    #[test]
    fn mt_05_order_that_is_taken_back_leaves_no_gap() {
        let rates = Rates(Some(1), None);
        let mut selection = Selection::default();
        (0..3).for_each(|number| offer(&mut selection, A, "", number, &rates));
        assert_eq!(selection.withdraw(B, CallSid::new(1)), None, "another's");
        assert_eq!(selection.withdraw(A, CallSid::new(1)), Some(1));
        assert_eq!(selection.withdraw(A, CallSid::new(1)), None);
        let left: Vec<_> = (0..3).filter_map(|at| selection.next(seconds(at), &rates)).collect();
        assert_eq!((left, selection.len()), (vec![0, 2], 0));
    }

    #[test]
    fn old_orders_are_taken_out() {
        let mut selection = Selection::default();
        (0..6).for_each(|number| offer(&mut selection, A, if number % 2 == 0 { "t" } else { "" }, number, &FREE));
        let removed: BTreeSet<u64> = selection.remove_while(|number| *number < 3).into_iter().collect();
        assert_eq!((removed, selection.len()), (BTreeSet::from([0, 1, 2]), 3));
        assert_eq!(std::iter::from_fn(|| selection.next(Mono(0), &FREE)).collect::<Vec<_>>(), [3, 4, 5]);
    }

    proptest! {
        /// Whatever comes and goes: each order leaves once or is taken back, an account's by one trunk in their order, and
        /// in no ten seconds do more leave than the rates allow.
        #[test]
        fn every_order_leaves_once_and_no_rate_is_exceeded(
            steps in proptest::collection::vec((0_u8..4, 1_u64..4, 0_u64..700, any::<bool>()), 1..300),
            cps in 1_u32..8,
            trunk_cps in 1_u32..8,
        ) {
            let rates = Rates(Some(cps), Some(trunk_cps));
            let mut selection = Selection::default();
            let (mut now, mut number) = (0, 0);
            let mut waiting = BTreeSet::new();
            let mut left: Vec<(u64, u64, u64)> = Vec::new();
            for (what, account, pause_ms, by_trunk) in steps {
                now += pause_ms * 1_000;
                let sid = AccountSid::new(account.into());
                match what {
                    0 | 1 => {
                        let order = number * 10 + account * 2 + u64::from(by_trunk);
                        let trunk = if by_trunk { "t" } else { "" };
                        selection.offer(sid, trunk, CallSid::new(order.into()), order);
                        waiting.insert(order);
                        number += 1;
                    }
                    2 => {
                        if let Some(order) = waiting.iter().find(|order| *order % 10 / 2 == account).copied() {
                            prop_assert_eq!(selection.withdraw(sid, CallSid::new(order.into())), Some(order));
                            waiting.remove(&order);
                        }
                    }
                    _ => {
                        while let Some(order) = selection.next(Mono(now), &rates) {
                            prop_assert!(waiting.remove(&order));
                            left.push((now, order % 10, order / 10));
                        }
                        prop_assert!(selection.next_deadline().is_none_or(|at| at.0 > now));
                    }
                }
                prop_assert_eq!(selection.len(), waiting.len());
            }
            for lane in 2..8 {
                let numbers: Vec<u64> = left.iter().filter(|(_, of, _)| *of == lane).map(|(.., number)| *number).collect();
                prop_assert!(numbers.is_sorted());
            }
            for (start, kind, _) in &left {
                let within = |at: u64| (*start..start + 10 * SECOND_US).contains(&at);
                let of_account = left.iter().filter(|(at, of, _)| within(*at) && of / 2 == kind / 2).count();
                prop_assert!(of_account <= 10 * cps as usize + 1);
                let of_trunk = left.iter().filter(|(at, of, _)| kind % 2 == 1 && within(*at) && of == kind).count();
                prop_assert!(of_trunk <= 10 * trunk_cps as usize + 1);
            }
        }
    }
}
