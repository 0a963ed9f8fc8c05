//! The load balancer: which worker a session is placed on.
//!
//! Two workers are drawn, each with a chance of its capacity's share, and the one that is less full takes the session (the power
//! of two choices, Mitzenmacher 2001). How full it is, is what it last reported and what was placed on it since: with a report
//! alone everybody would choose the worker that was least full a second ago, all at once. The worker has the last word: one
//! that refuses is passed over until it reports anew, and others are tried. `docs/balance.md` shows the rule beside others.
//!
//! It is plain data; chance comes from whoever asks.

/// Workers that are tried for one session, before it is refused.
pub const TRIES: usize = 3;

/// A worker by its place among those that there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u32);

/// What a worker reports of itself, in units of the work that one leg of G.711 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub used: u32,
    pub capacity: u32,
    /// It takes no new sessions.
    pub is_draining: bool,
}

/// The workers, as one edge sees them.
#[derive(Clone, Debug)]
pub struct Balancer {
    workers: Vec<Seen>,
    /// How many edges place sessions: each does about as much as this one between two reports.
    edges: u32,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    id: WorkerId,
    load: Load,
    /// Units that were placed on it from here since its report, less those that were given back.
    placed: i64,
    /// It has refused a session since its report.
    has_refused: bool,
}

impl Seen {
    /// What is in use by now, as far as can be told.
    fn used(&self, edges: u32) -> u64 {
        let since = i64::from(edges).saturating_mul(self.placed);
        u64::try_from(i64::from(self.load.used).saturating_add(since)).unwrap_or(0)
    }

    fn takes(&self, units: u32, edges: u32) -> bool {
        !self.load.is_draining
            && !self.has_refused
            && self.used(edges) + u64::from(units) <= u64::from(self.load.capacity)
    }

    /// Whether it is less full than another, the session being on it.
    fn is_less_full(&self, other: &Seen, units: u32, edges: u32) -> bool {
        let filled = |seen: &Seen| seen.used(edges) + u64::from(units);
        filled(self) * u64::from(other.load.capacity) < filled(other) * u64::from(self.load.capacity)
    }
}

impl Balancer {
    /// Among so many edges, this one included.
    pub fn new(edges: u32) -> Balancer {
        Balancer { workers: Vec::new(), edges: edges.max(1) }
    }

    pub fn set_edges(&mut self, edges: u32) {
        self.edges = edges.max(1);
    }

    /// A worker tells of its load: one that was not known takes part from now on.
    pub fn report(&mut self, id: WorkerId, load: Load) {
        let seen = Seen { id, load, placed: 0, has_refused: false };
        match self.workers.iter_mut().find(|known| known.id == id) {
            Some(known) => *known = seen,
            None => self.workers.push(seen),
        }
    }

    /// A worker is lost.
    pub fn forget(&mut self, id: WorkerId) {
        self.workers.retain(|known| known.id != id);
    }

    /// Chooses a worker for a session of so many units, and counts it there; `draw(n)` is a number below `n`, each as likely
    /// as any other. None: nobody has room who was not tried yet.
    pub fn place(&mut self, units: u32, tried: &[WorkerId], mut draw: impl FnMut(u64) -> u64) -> Option<WorkerId> {
        let edges = self.edges;
        let may = |seen: &Seen| seen.takes(units, edges) && !tried.contains(&seen.id);
        let first = self.draw(&may, None, &mut draw)?;
        let second = self.draw(&may, Some(first), &mut draw).unwrap_or(first);
        let chosen = match self.workers[second].is_less_full(&self.workers[first], units, edges) {
            true => second,
            false => first,
        };
        let seen = &mut self.workers[chosen];
        seen.placed += i64::from(units);
        Some(seen.id)
    }

    /// Whether somebody has room for so many units, as far as is known.
    pub fn has_room(&self, units: u32) -> bool {
        self.workers.iter().any(|seen| seen.takes(units, self.edges))
    }

    /// Counts a session that was given to a worker without a choice.
    pub fn given(&mut self, id: WorkerId, units: u32) {
        if let Some(seen) = self.workers.iter_mut().find(|known| known.id == id) {
            seen.placed += i64::from(units);
        }
    }

    /// A session is over.
    pub fn given_back(&mut self, id: WorkerId, units: u32) {
        if let Some(seen) = self.workers.iter_mut().find(|known| known.id == id) {
            seen.placed -= i64::from(units);
        }
    }

    /// Whether that worker has room.
    pub fn takes(&self, id: WorkerId, units: u32) -> bool {
        self.workers.iter().any(|seen| seen.id == id && seen.takes(units, self.edges))
    }

    /// The worker that was chosen has refused the session: it is full.
    pub fn refused(&mut self, id: WorkerId, units: u32) {
        if let Some(seen) = self.workers.iter_mut().find(|known| known.id == id) {
            seen.placed -= i64::from(units);
            seen.has_refused = true;
        }
    }

    /// One of those that may, each with a chance of its capacity's share.
    fn draw(
        &self,
        may: &impl Fn(&Seen) -> bool,
        but: Option<usize>,
        draw: &mut impl FnMut(u64) -> u64,
    ) -> Option<usize> {
        let fit = |at: usize, seen: &Seen| Some(at) != but && may(seen);
        let capacity = |(at, seen): (usize, &Seen)| if fit(at, seen) { u64::from(seen.load.capacity) } else { 0 };
        let all: u64 = self.workers.iter().enumerate().map(capacity).sum();
        if all == 0 {
            return None;
        }
        let mut left = draw(all);
        self.workers.iter().enumerate().position(|(at, seen)| match capacity((at, seen)) {
            share if left < share => true,
            share => {
                left -= share;
                false
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(used: u32, capacity: u32) -> Load {
        Load { used, capacity, is_draining: false }
    }

    fn balancer(loads: &[(u32, u32)]) -> Balancer {
        let mut balancer = Balancer::new(1);
        for (number, (used, capacity)) in (0..).zip(loads) {
            balancer.report(WorkerId(number), load(*used, *capacity));
        }
        balancer
    }

    /// Draws that were written down.
    fn draws(numbers: &[u64]) -> impl FnMut(u64) -> u64 + use<'_> {
        let mut numbers = numbers.iter().copied();
        move |below| numbers.next().expect("a draw was foreseen").min(below - 1)
    }

    impl Balancer {
        fn used(&self, id: WorkerId) -> u64 {
            self.workers.iter().find(|seen| seen.id == id).unwrap().used(self.edges)
        }
    }

    #[test]
    fn less_full_of_two_takes_the_session_by_its_share() {
        // 60 of 100 is more than 80 of 200.
        let mut balancer = balancer(&[(60, 100), (80, 200)]);
        assert_eq!(balancer.place(1, &[], draws(&[0, 0])), Some(WorkerId(1)));
        assert_eq!(balancer.place(1, &[], draws(&[299, 0])), Some(WorkerId(1)));
    }

    #[test]
    fn what_was_placed_since_the_report_counts_for_every_edge() {
        let mut balancer = balancer(&[(10, 100), (12, 100)]);
        balancer.set_edges(3);
        assert_eq!(balancer.place(1, &[], draws(&[0, 0])), Some(WorkerId(0)));
        // 10 and three times 1 are more than 12.
        assert_eq!(balancer.place(1, &[], draws(&[0, 0])), Some(WorkerId(1)));
        balancer.report(WorkerId(0), load(11, 100));
        assert_eq!(balancer.place(1, &[], draws(&[0, 0])), Some(WorkerId(0)), "the report has the last word");
        assert_eq!(balancer.place(1, &[], draws(&[0, 0])), Some(WorkerId(0)));
        // 11 and six are more than 12 and three, until the sessions are over, and one of before the report.
        assert_eq!(balancer.place(1, &[], draws(&[0, 0])), Some(WorkerId(1)));
        (0..3).for_each(|_| balancer.given_back(WorkerId(0), 1));
        assert_eq!(balancer.used(WorkerId(0)), 8);
    }

    #[test]
    fn chance_is_the_share_of_the_capacity() {
        let balancer = balancer(&[(0, 100), (0, 300)]);
        let drawn = |number| balancer.draw(&|_| true, None, &mut draws(&[number])).unwrap();
        assert_eq!((0..400).filter(|number| drawn(*number) == 1).count(), 300);
    }

    #[test]
    fn whoever_is_full_draining_refusing_or_tried_is_passed_over() {
        let mut balancer = balancer(&[(100, 100), (0, 100), (0, 100), (0, 100)]);
        balancer.report(WorkerId(1), Load { is_draining: true, ..load(0, 100) });
        balancer.refused(WorkerId(2), 1);
        assert_eq!(balancer.place(1, &[], draws(&[99])), Some(WorkerId(3)));
        assert_eq!(balancer.place(1, &[WorkerId(3)], draws(&[])), None);
        assert_eq!(balancer.place(100, &[], draws(&[])), None, "99 are free");
        balancer.report(WorkerId(2), load(0, 100));
        assert_eq!(balancer.place(100, &[], draws(&[0])), Some(WorkerId(2)), "it has room again");
        balancer.forget(WorkerId(2));
        balancer.forget(WorkerId(3));
        assert_eq!(balancer.place(1, &[], draws(&[])), None);
    }
}
