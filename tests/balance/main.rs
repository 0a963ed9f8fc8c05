//! The balancer beside other rules, in simulation: what docs/balance.md says, and that it is so.
//!
//! `cargo test -p dialtone --test balance -- --ignored` writes the page and its picture anew.

mod simulation;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::thread;

use simulation::{Outcome, Rule, Setting, run};

const PAGE: &str = "docs/balance.md";
const PICTURE: &str = "docs/balance.svg";
const SEED: u64 = 7;

const FOUR: Setting = Setting {
    name: "4 workers at 85 %, reports each second",
    workers: 4,
    edges: 2,
    capacity: 500,
    load: 0.85,
    report_every_s: 1.0,
    runs_for_s: 600.0,
    dying: 0,
};

const SETTINGS: [Setting; 6] = [
    FOUR,
    Setting { name: "4 workers at 85 %, reports every 5 s", report_every_s: 5.0, ..FOUR },
    Setting { name: "4 workers at 60 %, one dies", load: 0.60, dying: 1, ..FOUR },
    THOUSAND,
    Setting { name: "1,000 workers at 80 %, reports every 5 s", report_every_s: 5.0, ..THOUSAND },
    Setting { name: "1,000 workers at 72 %, 100 die", load: 0.72, dying: 100, ..THOUSAND },
];

const THOUSAND: Setting = Setting {
    name: "1,000 workers at 80 %, reports each second",
    workers: 1_000,
    edges: 50,
    capacity: 60,
    load: 0.80,
    report_every_s: 1.0,
    runs_for_s: 16.0,
    dying: 0,
};

type Outcomes = Vec<[Outcome; Rule::ALL.len()]>;

/// Every setting under every rule.
fn outcomes() -> Outcomes {
    thread::scope(|scope| {
        let runs = SETTINGS.map(|setting| scope.spawn(move || Rule::ALL.map(|rule| run(&setting, rule, SEED))));
        runs.map(|run| run.join().expect("a simulation ends")).to_vec()
    })
}

/// One test, so that all is simulated once.
#[test]
fn mt_10_workers_are_equally_full_as_the_page_says() {
    let outcomes = outcomes();
    let of = |setting: usize, rule: Rule| outcomes[setting][Rule::ALL.iter().position(|one| *one == rule).unwrap()];
    for (number, setting) in SETTINGS.iter().enumerate() {
        let ours = of(number, Rule::Ours);
        assert_eq!(ours.lost, 0.0, "{}: lost", setting.name);
        assert!(ours.missed < 0.001, "{}: {:.4} missed", setting.name, ours.missed);
        for rule in Rule::ALL {
            assert!(ours.missed <= of(number, rule).missed + 1e-9, "{}: {rule:?} misses fewer", setting.name);
        }
    }
    let four = of(0, Rule::Ours);
    assert!(four.busiest / four.mean < 1.03, "busiest {:.3}, mean {:.3}", four.busiest, four.mean);
    // The others do what they are known for, or this is no simulation of them.
    let (robin, herd) = (of(0, Rule::RoundRobin), of(3, Rule::LeastReported));
    assert!(robin.missed > 0.05, "round robin fills the small ones: {robin:?}");
    assert!(herd.missed > 0.3 && herd.lost > 0.05, "all choose the one that was least full a second ago: {herd:?}");
    for (file, text) in [(PAGE, page(&outcomes)), (PICTURE, picture(&outcomes))] {
        let known = fs::read_to_string(root().join(file)).unwrap_or_default();
        let how = "write it anew by `cargo test -p dialtone --test balance -- --ignored`";
        assert!(known == text, "{file} is not what the simulation says: {how}");
    }
}

#[test]
#[ignore = "writes the page anew"]
fn write_page_and_picture() {
    let outcomes = outcomes();
    fs::write(root().join(PAGE), page(&outcomes)).unwrap();
    fs::write(root().join(PICTURE), picture(&outcomes)).unwrap();
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(outcomes: &Outcomes) -> String {
    let mut text = "\
# Which worker takes a session

The load balancer (`src/workers/balancer.rs`) draws two workers, each with a chance of its capacity's share, and takes the one that
is less full by its last report and by what this edge has placed on it since. A worker that is full refuses, and two others are
tried. `tests/balance` simulates that rule beside others and makes this page: calls come at random and last 180 s in the mean
(lognormal, sigma 1.2); a quarter of the workers have half the capacity; there are 2 edges for 4 workers and 50 for 1,000.

![The busiest worker under each rule](balance.svg)

The bars are the busiest worker's use, the marks the mean of all; *missed* is *first choice full*: the session had to be tried elsewhere. *Lost*: three workers refused it. *Busiest*: the mean use of the worker
that was used most, beside the mean of all.
"
    .to_owned();
    for (setting, outcomes) in SETTINGS.iter().zip(outcomes) {
        write!(
            text,
            "\n## {}\n\n| rule | first choice full | lost | busiest | mean |\n|---|---|---|---|---|\n",
            setting.name
        )
        .expect("a string takes all that is written");
        for (rule, outcome) in Rule::ALL.iter().zip(outcomes) {
            let Outcome { missed, lost, busiest, mean } = outcome;
            let percent = |share: &f64| format!("{:.1} %", share * 100.0);
            let (missed, lost, busiest, mean) = (percent(missed), percent(lost), percent(busiest), percent(mean));
            writeln!(text, "| {} | {missed} | {lost} | {busiest} | {mean} |", rule.name()).expect("as above");
        }
    }
    text
}

/// A bar for each rule in each setting: how full the busiest worker is, and a mark at the mean.
fn picture(outcomes: &Outcomes) -> String {
    const LEFT: usize = 380;
    const WIDTH: usize = 420;
    const BAR: usize = 14;
    const GAP: usize = 6;
    let height = SETTINGS.len() * (Rule::ALL.len() * (BAR + GAP) + 40) + 10;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        LEFT + WIDTH + 170
    );
    let mut y = 10;
    for (setting, outcomes) in SETTINGS.iter().zip(outcomes) {
        y += 16;
        writeln!(svg, "<text x=\"10\" y=\"{y}\" font-weight=\"bold\">{}</text>", setting.name).expect("as above");
        y += 8;
        for (rule, outcome) in Rule::ALL.iter().zip(outcomes) {
            let (full, mean) = (outcome.busiest * WIDTH as f64, LEFT as f64 + outcome.mean * WIDTH as f64);
            let colour = if *rule == Rule::Ours { "#1a7f4b" } else { "#9aa5b1" };
            let label = format!("{:.1} %, {:.1} % missed", outcome.busiest * 100.0, outcome.missed * 100.0);
            writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{LEFT}\" y=\"{y}\" width=\"{full:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\
                 <line x1=\"{mean:.1}\" x2=\"{mean:.1}\" y1=\"{y}\" y2=\"{}\" stroke=\"black\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{label}</text>",
                LEFT - 8,
                y + 11,
                rule.name(),
                y + BAR,
                LEFT as f64 + full + 6.0,
                y + 11,
            )
            .expect("as above");
            y += BAR + GAP;
        }
        y += 16;
    }
    svg.push_str("</svg>\n");
    svg
}
