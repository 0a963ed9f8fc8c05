//! The whole server in this process, over real loopback sockets: UDP, TCP, RTP, HTTP and the database.
//!
//! No test waits for a time: each waits for what it expects, and gives up after a generous one.

mod calls;
mod client;
mod domains;
mod names;
mod peer;
mod resources;
mod rest;
mod signalling;
mod usage;
