//! `dialtone calls` and `dialtone call SID`: asks a running server over its HTTP address.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;
use time::OffsetDateTime;
use time::macros::format_description;

use super::ask::ask;
use crate::events::{CallRecord, EventKind};

#[derive(Args)]
pub struct Calls {
    /// The configuration of the running server
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How many, the newest first
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Show {
    /// The call
    sid: String,
    /// The configuration of the running server
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct CallList {
    calls: Vec<CallRecord>,
}

impl Calls {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let body = ask(self.config, &format!("/dialtone/v1/calls?limit={}", self.limit))?;
        if self.json {
            println!("{}", String::from_utf8_lossy(&body));
            return Ok(ExitCode::SUCCESS);
        }
        let list: CallList =
            serde_json::from_slice(&body).map_err(|error| format!("the server's answer cannot be read: {error}"))?;
        if list.calls.is_empty() {
            println!("no calls yet");
        }
        for call in &list.calls {
            let duration =
                if call.ended_ms.is_some() { format!("{:>4}s", call.duration_s()) } else { " live".to_owned() };
            println!(
                "{}  {}  {:<11} {duration}  {} -> {}",
                call.sid,
                clock(call.started_ms),
                call.status.as_str(),
                call.from,
                call.to
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let body = ask(self.config, &format!("/dialtone/v1/calls/{}", self.sid))?;
        if self.json {
            println!("{}", String::from_utf8_lossy(&body));
            return Ok(ExitCode::SUCCESS);
        }
        let call: CallRecord =
            serde_json::from_slice(&body).map_err(|error| format!("the server's answer cannot be read: {error}"))?;
        println!("{}  {} -> {}  {}", call.sid, call.from, call.to, call.direction.as_str());
        println!("account {}  status {}  duration {} s", call.account, call.status.as_str(), call.duration_s());
        if let Some(parent) = call.parent {
            println!("dialled by {parent}");
        }
        if let Some(completed) = &call.completed {
            let media = &completed.media;
            println!(
                "media {}  received {}  sent {}  lost {}  late {}  dropped {}  jitter {:.1} ms",
                if media.codec.is_empty() { "none" } else { &media.codec },
                media.packets_received,
                media.packets_sent,
                media.packets_lost,
                media.packets_late,
                media.packets_dropped,
                f64::from(media.jitter_us) / 1000.0
            );
        }
        println!();
        let by = if call.via.is_empty() { String::new() } else { format!(" by way of {}", call.via) };
        println!("{}    0  initiated{by}", clock(call.started_ms));
        for event in &call.events {
            println!("{}  {:>3}  {}", clock(event.at_ms), event.sequence, describe(&event.kind));
        }
        if let (Some(ended), Some(completed)) = (call.ended_ms, &call.completed) {
            let status = if completed.sip_status > 0 { format!(" ({})", completed.sip_status) } else { String::new() };
            println!(
                "{}  end  {}{status}, ended by the {}",
                clock(ended),
                call.status.as_str(),
                completed.ended_by.as_str()
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn describe(kind: &EventKind) -> String {
    match kind {
        EventKind::Ringing => "ringing".to_owned(),
        EventKind::Answered => "answered".to_owned(),
        EventKind::VerbStarted { verb } => format!("<{verb}>"),
        EventKind::Requested { url, reason, error, duration_ms, .. } => match error {
            Some(code) => format!("{reason} from {url}: error {code} after {duration_ms} ms"),
            None => format!("{reason} from {url} in {duration_ms} ms"),
        },
        EventKind::Noticed(notice) => {
            format!("{:?} {}: {} {}", notice.severity, notice.code, notice.text, notice.url).trim_end().to_owned()
        }
        EventKind::Held { held } => if *held { "held" } else { "resumed" }.to_owned(),
        EventKind::Silent { expected_from, dropped_from } if dropped_from.is_empty() => {
            format!("nothing heard for 2 s from {expected_from}: a firewall, or the phone sends no audio")
        }
        EventKind::Silent { expected_from, dropped_from } => {
            format!("nothing heard for 2 s from {expected_from}, but from {dropped_from}: see [media] latching")
        }
        // These are not among a call's own.
        EventKind::Initiated(_)
        | EventKind::Completed(_)
        | EventKind::CallbackChanged(_)
        | EventKind::Recording(_)
        | EventKind::Conference(_)
        | EventKind::Message(_)
        | EventKind::UserMessage(_)
        | EventKind::Stream(_)
        | EventKind::CallerId(_)
        | EventKind::Order(_)
        | EventKind::Dtmf { .. }
        | EventKind::Queue(_) => String::new(),
    }
}

fn clock(wall_ms: u64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(wall_ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:3]Z"))
        .unwrap_or_default()
}
