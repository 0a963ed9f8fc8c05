//! Sessions that come, stay and go, on workers that report now and then: what a rule of placement makes of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dialtone::workers::balancer::{Balancer, Load, TRIES, WorkerId};

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    pub workers: usize,
    pub edges: usize,
    /// Of three workers in four; the fourth has half of it.
    pub capacity: u32,
    /// Of all capacity that the sessions would take, if none were refused.
    pub load: f64,
    pub report_every_s: f64,
    pub runs_for_s: f64,
    /// Workers that die a quarter of the way, with their sessions.
    pub dying: usize,
}

/// A rule by which one edge places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    RoundRobin,
    RandomByCapacity,
    /// The least full by the last reports.
    LeastReported,
    /// The least full by the last reports and what this edge placed since.
    LeastCounted,
    /// The less full of two by the last reports.
    TwoReported,
    /// The balancer of the product: of two, by the last reports and what this edge placed since.
    Ours,
}

impl Rule {
    pub const ALL: [Rule; 6] = [
        Rule::RoundRobin,
        Rule::RandomByCapacity,
        Rule::LeastReported,
        Rule::LeastCounted,
        Rule::TwoReported,
        Rule::Ours,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Rule::RoundRobin => "round robin",
            Rule::RandomByCapacity => "random, by capacity",
            Rule::LeastReported => "least full, by reports",
            Rule::LeastCounted => "least full, by reports and own placements",
            Rule::TwoReported => "better of two, by reports",
            Rule::Ours => "better of two, by reports and own placements (Dialtone)",
        }
    }
}

/// What came of it; shares of one.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Sessions whose first choice was full.
    pub missed: f64,
    /// Sessions that all tries refused.
    pub lost: f64,
    /// The mean use of the busiest worker.
    pub busiest: f64,
    /// The mean use of all.
    pub mean: f64,
}

/// Calls last 180 s in the mean, and some much longer.
const MEAN_S: f64 = 180.0;
const SIGMA: f64 = 1.2;

/// An edge, and the rule that it goes by.
struct Edge {
    rule: Rule,
    balancer: Balancer,
    reported: Vec<Option<Load>>,
    placed: Vec<u32>,
    turn: usize,
}

impl Edge {
    fn new(rule: Rule, setting: &Setting, number: usize) -> Edge {
        Edge {
            rule,
            balancer: Balancer::new(setting.edges as u32),
            reported: vec![None; setting.workers],
            placed: vec![0; setting.workers],
            turn: number,
        }
    }

    fn report(&mut self, worker: usize, load: Load) {
        self.reported[worker] = Some(load);
        self.placed[worker] = 0;
        self.balancer.report(WorkerId(worker as u32), load);
    }

    fn forget(&mut self, worker: usize) {
        self.reported[worker] = None;
        self.balancer.forget(WorkerId(worker as u32));
    }

    fn choose(&mut self, tried: &[usize], chance: &mut Chance) -> Option<usize> {
        let may: Vec<usize> =
            (0..self.reported.len()).filter(|at| self.reported[*at].is_some() && !tried.contains(at)).collect();
        let filled = |at: usize, counts: bool| {
            let load = self.reported[at].expect("it was filtered");
            let own = if counts { f64::from(self.placed[at]) } else { 0.0 };
            (f64::from(load.used) + own) / f64::from(load.capacity)
        };
        let least = |counts: bool| may.iter().copied().min_by(|a, b| filled(*a, counts).total_cmp(&filled(*b, counts)));
        let drawn = |chance: &mut Chance, but: Option<usize>| {
            let share = |at: usize| if Some(at) == but { 0 } else { u64::from(self.reported[at].unwrap().capacity) };
            let all: u64 = may.iter().map(|at| share(*at)).sum();
            let mut left = (all > 0).then(|| chance.below(all))?;
            may.iter().copied().find(|at| {
                let hit = left < share(*at);
                left = left.saturating_sub(share(*at));
                hit
            })
        };
        let chosen = match self.rule {
            Rule::RoundRobin => {
                self.turn += 1;
                may.get(self.turn % may.len().max(1)).copied()
            }
            Rule::RandomByCapacity => drawn(chance, None),
            Rule::LeastReported => least(false),
            Rule::LeastCounted => least(true),
            Rule::TwoReported => {
                let first = drawn(chance, None)?;
                let second = drawn(chance, Some(first)).unwrap_or(first);
                Some(if filled(second, false) < filled(first, false) { second } else { first })
            }
            Rule::Ours => {
                let tried: Vec<WorkerId> = tried.iter().map(|at| WorkerId(*at as u32)).collect();
                self.balancer.place(1, &tried, |below| chance.below(below)).map(|id| id.0 as usize)
            }
        };
        if let Some(at) = chosen {
            self.placed[at] += 1;
        }
        chosen
    }

    fn refused(&mut self, worker: usize) {
        self.placed[worker] = self.placed[worker].saturating_sub(1);
        self.balancer.refused(WorkerId(worker as u32), 1);
    }
}

/// A worker as it is.
struct Worker {
    capacity: u32,
    used: u32,
    is_alive: bool,
    /// Use times time, until when.
    area: f64,
    since: f64,
}

impl Worker {
    fn change(&mut self, by: i32, now: f64) {
        self.area += f64::from(self.used) * (now - self.since);
        self.since = now;
        self.used = self.used.checked_add_signed(by).expect("a session ends once");
    }
}

#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Happens {
    Ends(usize),
    Reports(usize),
    Dies(usize),
}

/// Runs a setting under a rule; the same seed has the same sessions.
pub fn run(setting: &Setting, rule: Rule, seed: u64) -> Outcome {
    let (mut chance, mut choosing) = (Chance::new(seed), Chance::new(seed ^ 0xC0FFEE));
    let mut workers: Vec<Worker> = (0..setting.workers)
        .map(|at| {
            let capacity = if at % 4 == 3 { setting.capacity / 2 } else { setting.capacity };
            Worker { capacity, used: 0, is_alive: true, area: 0.0, since: 0.0 }
        })
        .collect();
    let mut edges: Vec<Edge> = (0..setting.edges).map(|number| Edge::new(rule, setting, number)).collect();
    let mut queue = Queue::default();
    // It begins with the sessions that would be there, each somewhere in its life: time sees the long ones more often.
    let all: u32 = workers.iter().map(|worker| worker.capacity).sum();
    for (at, worker) in workers.iter_mut().enumerate() {
        for _ in 0..(f64::from(worker.capacity) * setting.load) as u32 {
            let length = chance.long_lived();
            queue.push(length * chance.unit(), Happens::Ends(at));
            worker.used += 1;
        }
        queue.push(setting.report_every_s * chance.unit(), Happens::Reports(at));
    }
    for at in 0..setting.dying {
        queue.push(setting.runs_for_s / 4.0, Happens::Dies(at));
    }
    let load_of = |worker: &Worker| Load { used: worker.used, capacity: worker.capacity, is_draining: false };
    for edge in &mut edges {
        workers.iter().enumerate().for_each(|(at, worker)| edge.report(at, load_of(worker)));
    }
    let between_s = MEAN_S / (f64::from(all) * setting.load);
    let (mut arrives, mut came, mut missed, mut lost) = (0.0, 0_u32, 0_u32, 0_u32);
    loop {
        while let Some((now, event)) = queue.pop_before(arrives) {
            match event {
                Happens::Ends(at) if workers[at].is_alive => workers[at].change(-1, now),
                Happens::Ends(_) => {}
                Happens::Reports(at) if workers[at].is_alive => {
                    let load = load_of(&workers[at]);
                    edges.iter_mut().for_each(|edge| edge.report(at, load));
                    queue.push(now + setting.report_every_s, Happens::Reports(at));
                }
                Happens::Reports(_) => {}
                Happens::Dies(at) => {
                    let worker = &mut workers[at];
                    worker.change(-(worker.used as i32), now);
                    worker.is_alive = false;
                    edges.iter_mut().for_each(|edge| edge.forget(at));
                }
            }
        }
        let now = arrives;
        if now >= setting.runs_for_s {
            break;
        }
        arrives += between_s * chance.exponential();
        came += 1;
        let (length, by) = (chance.length(), chance.below(setting.edges as u64) as usize);
        let mut tried = Vec::new();
        while tried.len() < TRIES {
            let Some(at) = edges[by].choose(&tried, &mut choosing) else { break };
            if workers[at].used < workers[at].capacity {
                workers[at].change(1, now);
                queue.push(now + length, Happens::Ends(at));
                break;
            }
            edges[by].refused(at);
            tried.push(at);
        }
        missed += u32::from(!tried.is_empty());
        lost += u32::from(tried.len() == TRIES);
    }
    let lives: Vec<&mut Worker> = workers.iter_mut().filter(|worker| worker.is_alive).collect();
    let (mut used, mut capacity, mut busiest) = (0.0, 0.0, 0.0_f64);
    for worker in lives {
        worker.change(0, setting.runs_for_s);
        let mean = worker.area / setting.runs_for_s;
        used += mean;
        capacity += f64::from(worker.capacity);
        busiest = busiest.max(mean / f64::from(worker.capacity));
    }
    let share = |count: u32| f64::from(count) / f64::from(came);
    Outcome { missed: share(missed), lost: share(lost), busiest, mean: used / capacity }
}

/// What happens, in order.
#[derive(Default)]
struct Queue {
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    events: Vec<Happens>,
}

impl Queue {
    fn push(&mut self, at_s: f64, event: Happens) {
        self.heap.push(Reverse(((at_s * 1e6) as u64, self.events.len() as u64)));
        self.events.push(event);
    }

    fn pop_before(&mut self, before_s: f64) -> Option<(f64, Happens)> {
        let Reverse((at_us, number)) = *self.heap.peek()?;
        let at_s = at_us as f64 / 1e6;
        (at_s <= before_s).then(|| self.heap.pop())?;
        Some((at_s, self.events[number as usize]))
    }
}

/// Chance that is the same in every run.
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// Above 0, below 1.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// With a mean of 1.
    fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// The length of a call: lognormal.
    fn length(&mut self) -> f64 {
        (MEAN_S.ln() - SIGMA * SIGMA / 2.0 + SIGMA * self.normal()).exp()
    }

    /// The length of a call that is met at some moment: the longer, the more likely.
    fn long_lived(&mut self) -> f64 {
        (MEAN_S.ln() + SIGMA * SIGMA / 2.0 + SIGMA * self.normal()).exp()
    }
}
