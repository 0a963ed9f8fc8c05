//! A worker with bridged calls and nothing else, to be measured from outside: its CPU per packet, its memory per call.
//!
//! `cargo run --release -p dialtone-media --features daemon --example relay -- CALLS FIRST_PEER_PORT FLOWS_FILE`
//!
//! The peers of the legs are at FIRST_PEER_PORT and every second port above, on loopback. FLOWS_FILE gets a line for
//! each leg: number, the peer's port, the worker's address and port, payload type, samples a packet. Reads a line from
//! standard input to end.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc::channel;

use bytes::Bytes;
use dialtone_media::proto::*;
use dialtone_media::worker::{Config, Latching, spawn};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [calls, first_port, flows_file] = &arguments[..] else {
        return Err(io::Error::other("usage: relay CALLS FIRST_PEER_PORT FLOWS_FILE"));
    };
    let calls: u64 = calls.parse().map_err(io::Error::other)?;
    let first_port: u16 = first_port.parse().map_err(io::Error::other)?;
    let (sender, events) = channel();
    let config = Config {
        address: LOCAL,
        advertise: LOCAL,
        ports: 10_000..=19_999,
        latching: Latching::Off,
        clip_cache_bytes: 0,
        kept_sockets: 100,
        max_sessions: 10_000,
        recordings: std::env::temp_dir(),
        memory: None,
        frames: None,
        seed: 1,
    };
    let worker = spawn(config, Box::new(move |event| drop(sender.send(event))))?;
    println!("empty: {} kB", resident_kb());
    let mut flows = String::new();
    for call in 0..calls {
        let leg = |leg_id: u32| {
            let port = first_port + (call as u16 * 2 + leg_id as u16 - 1) * 2;
            let sdp = format!(
                "v=0\r\nc=IN IP4 {LOCAL}\r\nm=audio {port} RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"
            );
            let rtp = RtpLeg { remote_sdp: Bytes::from(sdp), signalled_from: LOCAL.to_string(), ..RtpLeg::default() };
            let hears = Some(Source { from: Some(Hears::Leg(3 - leg_id)) });
            (port, LegSpec { leg_id, kind: Some(LegKind::Rtp(rtp)), hears, ..LegSpec::default() })
        };
        let legs = [leg(1), leg(2)];
        let ports = legs.each_ref().map(|(port, _)| *port);
        let spec = SessionSpec {
            session_id: call,
            owner_epoch: 1,
            legs: legs.map(|(_, leg)| leg).to_vec(),
            ..SessionSpec::default()
        };
        let open = Command { command_id: call, session_id: call, owner_epoch: 1, kind: Some(CommandKind::Open(spec)) };
        worker.send(open).map_err(|_| io::Error::other("the worker takes no command"))?;
        for (port, leg) in ports.into_iter().zip(0u64..) {
            let ours = loop {
                match events.recv().map_err(io::Error::other)?.kind {
                    Some(MediaEventKind::Negotiated(negotiated)) => break port_of(&negotiated.sdp),
                    Some(MediaEventKind::Refused(refused)) => return Err(io::Error::other(refused.text)),
                    _ => {}
                }
            };
            let ours = ours.ok_or_else(|| io::Error::other("an answer without audio"))?;
            let _ = writeln!(flows, "{} {port} {LOCAL} {ours} 0 160 - {}", call * 2 + leg, call * 2 + 1 - leg);
        }
    }
    std::fs::write(flows_file, flows)?;
    println!("{calls} calls: {} kB", resident_kb());
    io::stdin().read_exact(&mut [0])?;
    println!("after the load: {} kB", resident_kb());
    let counters = worker.counters();
    println!("{counters:?}");
    worker.shutdown();
    Ok(())
}

fn port_of(sdp: &[u8]) -> Option<u16> {
    let sdp = std::str::from_utf8(sdp).ok()?;
    sdp.lines().find_map(|line| line.strip_prefix("m=audio "))?.split(' ').next()?.parse().ok()
}

/// The memory of this process, where the system tells it.
fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
