//! Dialtone: a self-hosted SIP and media edge server that runs Twilio applications.

pub mod app;
pub mod ids;
pub mod speech;
pub mod twiml;
