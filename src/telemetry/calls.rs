//! What calls go through, counted: of each account, and of each trunk.
//!
//! Each series of the registry is looked up once: a look-up by labels costs more than all else that is done with an event here.

use std::collections::HashMap;

use metrics::{Counter, Histogram};

use super::accounts::{self, Series};
use crate::events::{CallRecord, CallStatus, Completed, Direction, Event, EventKind, Media, Subscriber, Telling, Told};
use crate::usage;

/// Counts what calls go through.
#[derive(Default)]
pub struct CallMetrics {
    by_trunk: HashMap<String, TrunkSeries>,
    durations: HashMap<Direction, Histogram>,
    jitter: Option<Histogram>,
    score: Option<Histogram>,
    queue_wait: Option<Histogram>,
}

struct TrunkSeries {
    post_dial_delay: Histogram,
    attempts: HashMap<&'static str, Counter>,
}

impl TrunkSeries {
    fn new(trunk: &str) -> TrunkSeries {
        let post_dial_delay = metrics::histogram!("dialtone_post_dial_delay_seconds", "trunk" => trunk.to_owned());
        TrunkSeries { post_dial_delay, attempts: HashMap::new() }
    }
}

impl CallMetrics {
    fn trunk(&mut self, trunk: &str) -> &mut TrunkSeries {
        if !self.by_trunk.contains_key(trunk) {
            self.by_trunk.insert(trunk.to_owned(), TrunkSeries::new(trunk));
        }
        self.by_trunk.get_mut(trunk).expect("inserted above")
    }

    fn ended(&mut self, completed: &Completed, record: &CallRecord) {
        if completed.media.packets_received > 0 {
            let jitter =
                self.jitter.get_or_insert_with(|| metrics::histogram!("dialtone_rtp_jitter_seconds", "kind" => "sip"));
            jitter.record(f64::from(completed.media.jitter_us) / 1e6);
            let score =
                self.score.get_or_insert_with(|| metrics::histogram!("dialtone_call_mos_score", "kind" => "sip"));
            score.record(mos(&completed.media));
        }
        if record.direction.is_outbound() {
            let (trunk, outcome) = (record.via.clone(), outcome(record));
            let attempts = self.trunk(&trunk).attempts.entry(outcome);
            attempts
                .or_insert_with(
                    || metrics::counter!("dialtone_outbound_attempts_total", "trunk" => trunk, "outcome" => outcome),
                )
                .increment(1);
        }
        let (account, direction) = (record.account, record.direction);
        if record.answered_ms.is_some() {
            let histogram = || metrics::histogram!("dialtone_call_duration_seconds", "direction" => direction.as_str());
            self.durations.entry(direction).or_insert_with(histogram).record(record.duration_s() as f64);
        }
        accounts::add(account, Series::Ended(direction, completed.status), 1);
    }
}

impl Subscriber for CallMetrics {
    fn told(&mut self, event: &Event, record: &mut CallRecord, telling: Telling) {
        if telling.is_again() {
            return;
        }
        match &event.kind {
            EventKind::Initiated(_) => {
                accounts::add(record.account, Series::Started(record.direction), 1);
                if record.direction == Direction::OutboundApi {
                    let wait =
                        self.queue_wait.get_or_insert_with(|| metrics::histogram!("dialtone_call_queue_wait_seconds"));
                    wait.record(record.queue_ms as f64 / 1000.0);
                }
            }
            EventKind::Ringing | EventKind::Answered if record.direction.is_outbound() => {
                let progress = |told: &&Told| matches!(told.kind, EventKind::Ringing | EventKind::Answered);
                if record.events.iter().filter(progress).count() == 1 {
                    let delay = event.at_ms.saturating_sub(record.started_ms) as f64 / 1000.0;
                    self.trunk(&record.via).post_dial_delay.record(delay);
                }
            }
            EventKind::Completed(completed) => {
                self.ended(completed, record);
                used(&usage::line(event, record));
            }
            _ => {}
        }
    }

    fn noted(&mut self, event: &Event, telling: Telling) {
        if !telling.is_again() {
            usage::line_of_fact(event).iter().for_each(used);
        }
    }
}

fn outcome(record: &CallRecord) -> &'static str {
    match record.status {
        _ if record.answered_ms.is_some() => "answered",
        CallStatus::Busy => "busy",
        CallStatus::NoAnswer => "no_answer",
        CallStatus::Canceled => "canceled",
        _ => "failed",
    }
}

/// As the ledger has it.
fn used(line: &usage::LedgerLine) {
    let unit = if line.unit == usage::Unit::Seconds { "minutes" } else { "messages" };
    accounts::add(line.account, Series::Used(line.category, unit), line.usage());
}

/// The E-model (ITU-T G.107) for G.711 with concealment: what delay and loss leave of 93.2, as a score of 1 to 4.5 (annex B).
pub(super) fn mos(media: &Media) -> f64 {
    let (received, lost) = (media.packets_received as f64, (media.packets_lost + media.packets_late) as f64);
    let loss_percent = 100.0 * lost / (received + lost).max(1.0);
    // One way: half of the round trip, what the jitter buffer holds, and a packet of 20 ms.
    let delay_ms = f64::from(media.round_trip_us) / 2000.0 + 2.0 * f64::from(media.jitter_us) / 1000.0 + 20.0;
    let by_delay = 0.024 * delay_ms + 0.11 * (delay_ms - 177.3).max(0.0);
    let by_loss = 95.0 * loss_percent / (loss_percent + 25.1);
    let rating = (93.2 - by_delay - by_loss).clamp(0.0, 100.0);
    1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn score_falls_with_loss_and_delay() {
        let media = |lost, round_trip_us, jitter_us| {
            mos(&Media {
                packets_received: 1000 - lost,
                packets_lost: lost,
                round_trip_us,
                jitter_us,
                ..Media::default()
            })
        };
        let clean = media(0, 0, 0);
        assert!((4.3..4.5).contains(&clean), "{clean}");
        assert!(media(10, 0, 0) < clean && media(50, 0, 0) < 4.0 && media(300, 0, 0) < 2.5);
        assert!(media(0, 800_000, 0) < 3.7, "{}", media(0, 800_000, 0));
        assert!(media(1000, 0, 0) >= 1.0);
    }
}
