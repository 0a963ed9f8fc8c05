//! The simulated world: the real stack, calls and media sessions in virtual time, with a network that loses, delays
//! and reorders by a seed, and an application that is a function.
//!
//! Every test ends with the books balanced: no call, dialog, transaction, media session or look-up is left.

mod app;
mod budgets;
mod conferences;
mod dial;
mod edges;
mod failover;
mod inbound;
mod limits;
mod loss;
mod messages;
mod orders;
mod phone;
mod queues;
mod recordings;
mod refer;
mod reinvite;
mod selection;
mod servers;
mod streams;
mod world;
