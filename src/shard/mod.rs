//! A shard: an OS thread that owns its calls. [`core`] decides; this rim translates between it and the world.

mod admission;
mod browsers;
mod checkpoint;
pub mod core;
mod credit;
mod effects;
mod fresh;
pub mod gate;
mod mail;
mod messages;
mod names;
mod neighbours;
mod orders;
mod outbound;
mod queues;
mod replies;
mod rim;
mod rooms;
mod sockets;
mod strays;
mod streams;
mod traffic;
mod watchers;

pub use checkpoint::Checkpoint;
pub use mail::{Heard, Mail, MailBox, mail_box};
pub use names::Names;
pub use neighbours::{Letter, Wish};
pub use orders::{PlaceOrder, Placement};
pub use rim::{Outside, RoomQuestion, run};
pub use rooms::{ConferenceChange, ConferenceChanged};
pub use streams::OpenStream;
