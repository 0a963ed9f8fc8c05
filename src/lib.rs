//! Dialtone: a self-hosted SIP and media edge server that runs Twilio applications.
//!
//! ARCHITECTURE.md is the map.

pub mod account;
pub mod api;
pub mod app;
pub mod call;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod concurrency;
pub mod config;
pub mod credit;
pub mod edges;
pub mod eventlog;
pub mod events;
pub mod hot;
pub mod https;
pub mod ids;
pub mod keeper;
pub mod presence;
pub mod provision;
pub mod proxy;
pub mod recordings;
pub mod secret;
pub mod server;
pub mod shard;
pub mod signal;
pub mod speech;
pub mod store;
pub mod streams;
pub mod telemetry;
pub mod tls;
pub mod tokens;
pub mod twiml;
pub mod usage;
pub mod workers;
