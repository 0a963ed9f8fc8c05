//! How a leg's packets are protected: not at all, or by SRTP once there are keys.
//!
//! The one place that they pass on their way in and out. A leg that is to be encrypted neither takes nor sends anything
//! before it has its keys, and what is not authentic settles nothing.

use std::ops::Range;

use super::hot::HotSrtp;
use super::{Dropped, Leg};
use crate::rtp::Ssrc;
use crate::sdp::Protected;
use crate::srtp::{Fault, MasterKey, Receiver, Sender};

/// The protection of a leg.
#[derive(Default)]
pub(super) enum Secure {
    #[default]
    Plain,
    /// To be encrypted, and there are no keys yet.
    Locked,
    Srtp(Box<Srtp>),
}

/// Both directions under their keys.
pub(super) struct Srtp {
    ours: MasterKey,
    theirs: MasterKey,
    sender: Sender,
    receiver: Receiver,
}

impl Secure {
    /// What was agreed. Keys that stay go on; a peer that is known to have sent before, to another worker, joins late.
    pub fn agree(&mut self, protected: &Protected, joins_late: bool) {
        match protected {
            Protected::Nothing => *self = Secure::Plain,
            Protected::Sdes { ours, theirs } => self.set_keys(ours, theirs, joins_late),
            // Its keys come with the handshake; those that are here already go on until then.
            Protected::Dtls { .. } => {
                if matches!(self, Secure::Plain) {
                    *self = Secure::Locked;
                }
            }
        }
    }

    pub fn set_keys(&mut self, ours: &MasterKey, theirs: &MasterKey, joins_late: bool) {
        let new_receiver = |joins_late: bool| {
            let mut receiver = Receiver::new(theirs);
            if joins_late {
                receiver.joins_late();
            }
            receiver
        };
        let (sender, receiver) = match std::mem::take(self) {
            Secure::Srtp(before) => (
                if before.ours == *ours { before.sender } else { Sender::new(ours) },
                // A stream does not begin anew with its key (RFC 3711 s3.2.1), though some peers' do.
                if before.theirs == *theirs { before.receiver } else { new_receiver(true) },
            ),
            Secure::Plain | Secure::Locked => (Sender::new(ours), new_receiver(joins_late)),
        };
        *self = Secure::Srtp(Box::new(Srtp { ours: ours.clone(), theirs: theirs.clone(), sender, receiver }));
    }

    /// Nothing goes either way any more.
    pub fn lock(&mut self) {
        *self = Secure::Locked;
    }

    /// Whether packets can go either way.
    pub fn is_ready(&self) -> bool {
        !matches!(self, Secure::Locked)
    }

    pub fn write_down(&self) -> Option<HotSrtp> {
        let Secure::Srtp(srtp) = self else { return None };
        let (sent, sent_rtcp) = srtp.sender.index();
        let heard = srtp.receiver.heard().map(|(ssrc, index, rtcp)| (ssrc.0, index, rtcp));
        Some(HotSrtp { ours: srtp.ours.clone(), theirs: srtp.theirs.clone(), sent, sent_rtcp, heard })
    }

    /// Goes on where another worker was, under the same keys.
    pub fn take_up(&mut self, hot: &HotSrtp) {
        if matches!(self, Secure::Plain) {
            return;
        }
        self.set_keys(&hot.ours, &hot.theirs, false);
        let Secure::Srtp(srtp) = self else { return };
        srtp.sender.resume(hot.sent, hot.sent_rtcp);
        if let Some((ssrc, index, rtcp_index)) = hot.heard {
            srtp.receiver.resume(Ssrc(ssrc), index, rtcp_index);
        }
    }

    /// Opens RTP in place; the length of what is in it.
    pub fn open_rtp(&mut self, datagram: &mut [u8]) -> Result<usize, Dropped> {
        match self {
            Secure::Plain => Ok(datagram.len()),
            Secure::Locked => Err(Dropped::NotAgreed),
            Secure::Srtp(srtp) => srtp.receiver.open_rtp(datagram).map_err(Dropped::from),
        }
    }

    pub fn open_rtcp(&mut self, datagram: &mut [u8]) -> Result<usize, Dropped> {
        match self {
            Secure::Plain => Ok(datagram.len()),
            Secure::Locked => Err(Dropped::NotAgreed),
            Secure::Srtp(srtp) => srtp.receiver.open_rtcp(datagram).map_err(Dropped::from),
        }
    }

    /// Seals a packet of ours in its buffer; `None` for one that is not to leave.
    fn seal_rtp(&mut self, buffer: &mut [u8], packet: Range<usize>) -> Option<Range<usize>> {
        match self {
            Secure::Plain => Some(packet),
            Secure::Locked => None,
            Secure::Srtp(srtp) => srtp.sender.seal_rtp(buffer, packet),
        }
    }

    fn seal_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Option<usize> {
        match self {
            Secure::Plain => Some(len),
            Secure::Locked => None,
            Secure::Srtp(srtp) => srtp.sender.seal_rtcp(buffer, len),
        }
    }
}

impl From<Fault> for Dropped {
    fn from(fault: Fault) -> Dropped {
        match fault {
            Fault::Form => Dropped::Junk,
            Fault::Forged => Dropped::Forged,
            Fault::Replayed => Dropped::Replayed,
        }
    }
}

impl Leg {
    /// A packet of this leg as it goes over the network. Each is to be sealed once, right before it leaves.
    pub fn seal_rtp(&mut self, buffer: &mut [u8], packet: Range<usize>) -> Option<Range<usize>> {
        let sealed = self.secure.seal_rtp(buffer, packet)?;
        if let Some(repeats) = &mut self.repeats {
            repeats.sent.keep(&buffer[sealed.clone()]);
        }
        Some(sealed)
    }

    /// The same for a report of `len` bytes at the start of the buffer; its length then.
    pub fn seal_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Option<usize> {
        self.secure.seal_rtcp(buffer, len)
    }

    /// The name of the profile that protects it, empty where nothing does or its keys are not there yet.
    pub fn encryption(&self) -> &'static str {
        match &self.secure {
            Secure::Srtp(srtp) => srtp.ours.profile().name(),
            Secure::Plain | Secure::Locked => "",
        }
    }
}
