//! The call as a member of a room: a link from its session to the room's, by which its leg speaks and hears.

use dialtone_media::proto::{self, CommandKind, Hears, LegKind, LegSpec, RemoteLeg, Source};

use super::effect::Effect;
use super::leg::Signalling;
use super::program::hear;
use super::{Call, Now};
use crate::twiml::{Membership, VerbInput};

/// Legs of links are numbered apart from those of parties.
const LINKS: u32 = 1 << 31;

impl Call {
    /// The room has a place for the call: this is the key of the link.
    pub(super) fn linked(&mut self, key: u64, effects: &mut Vec<Effect>) {
        if self.leg.signalling == Signalling::Ended {
            return;
        }
        let own = self.opening.leg_id;
        let leg_id = LINKS | own;
        self.link = Some(leg_id);
        let remote = RemoteLeg { worker: String::new(), session_id: self.opening.session_id, key };
        effects.push(Effect::Media(CommandKind::PutLeg(LegSpec {
            leg_id,
            kind: Some(LegKind::Remote(remote)),
            hears: Some(Source { from: Some(Hears::Leg(own)) }),
            ..LegSpec::default()
        })));
        hear(own, Hears::Leg(leg_id), effects);
    }

    pub(super) fn leave_conference(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::LeaveConference { hung_up: self.leg.signalling == Signalling::Ended });
    }

    pub(super) fn membership(&mut self, membership: Membership, now: Now, effects: &mut Vec<Effect>) {
        if matches!(membership, Membership::Refused { .. } | Membership::Left) {
            self.part(effects);
        }
        self.run(VerbInput::Conference(membership), now, effects);
    }

    /// The link goes; the leg hears nothing until something else is played to it.
    pub(super) fn part(&mut self, effects: &mut Vec<Effect>) {
        let Some(leg_id) = self.link.take() else { return };
        effects.push(Effect::Media(CommandKind::DropLeg(leg_id)));
        if self.leg.signalling != Signalling::Ended {
            hear(self.opening.leg_id, Hears::Silence(proto::Silence {}), effects);
        }
    }
}
