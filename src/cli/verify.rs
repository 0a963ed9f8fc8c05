//! `dialtone verify`: whether events that were received are all that were told, and as they were told.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value};

use crate::eventlog::chain::{self, Verdict};

#[derive(Args)]
pub struct Verify {
    /// What was received: JSON, one event a line or arrays of them as a sink gets them, or a stream as `curl` writes it; - reads the
    /// standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Also say that a call is whole which has no beginning or no end among them
    #[arg(long)]
    partial: bool,
}

impl Verify {
    pub fn run(self) -> Result<ExitCode, String> {
        let mut events = Vec::new();
        for path in &self.files {
            let named = |error: io::Error| format!("cannot read {}: {error}", path.display());
            let mut text = String::new();
            match path.to_str() {
                Some("-") => io::stdin().read_to_string(&mut text).map_err(named)?,
                _ => File::open(path).and_then(|file| BufReader::new(file).read_to_string(&mut text)).map_err(named)?,
            };
            events.extend(read(&text).map_err(|line| format!("{}, line {line}: this is no event", path.display()))?);
        }
        if events.is_empty() {
            return Err("there are no events in it".to_owned());
        }
        let verdicts = chain::verify(events);
        let bad = verdicts.iter().filter(|verdict| !self.is_good(verdict)).count();
        for verdict in &verdicts {
            println!("{}  {}", verdict.call, self.text(verdict));
        }
        println!("{} call{}, {} whole, {bad} not", verdicts.len(), plural(verdicts.len()), verdicts.len() - bad);
        Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn is_good(&self, verdict: &Verdict) -> bool {
        verdict.broken.is_none() && (self.partial || (verdict.is_whole && verdict.is_complete))
    }

    fn text(&self, verdict: &Verdict) -> String {
        let Verdict { events, first, is_whole, is_complete, broken, .. } = verdict;
        let count = format!("{events} event{}", plural(*events));
        match broken {
            Some(broken) => format!("NOT whole: {broken} ({count})"),
            None if *first > 0 => format!("{count} from number {first} on; what came before is not among them"),
            None if !is_whole => format!("{count}, and no beginning: nobody listened when the call began"),
            None if !is_complete => format!("{count}, and no end: the call goes on, or its last events are missing"),
            None => format!("whole: {count}"),
        }
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Reads lines of JSON, and of a stream the lines with data; the error is the number of a line that is neither. What a stream says of
/// itself is passed over.
fn read(text: &str) -> Result<Vec<Map<String, Value>>, usize> {
    if let Ok(whole) = serde_json::from_str::<Value>(text) {
        return Ok(events_of(whole));
    }
    let mut events = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let is_field = ["id:", "event:", "retry:", ":"].iter().any(|name| line.starts_with(name));
        if line.trim().is_empty() || is_field {
            continue;
        }
        let json = line.strip_prefix("data:").unwrap_or(line);
        events.extend(events_of(serde_json::from_str(json).map_err(|_| number + 1)?));
    }
    Ok(events)
}

fn events_of(value: Value) -> Vec<Map<String, Value>> {
    match value {
        Value::Array(all) => all.into_iter().flat_map(events_of).collect(),
        Value::Object(event) if event.contains_key("specversion") => vec![event],
        _ => Vec::new(),
    }
}
