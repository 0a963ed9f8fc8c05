//! Packet indices: sequence numbers that do not wrap, guessed from those that do (RFC 3711 s3.3.1), and which of them were
//! taken (s3.3.2).

/// The indices of one stream that were taken: the highest, and which of the 128 up to it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    highest: Option<u64>,
    /// Bit 0 is the highest.
    taken: u128,
}

impl Window {
    /// As if every index up to that one had been taken.
    pub fn taken_up_to(index: u64) -> Window {
        Window { highest: Some(index), taken: u128::MAX }
    }

    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// The index of a packet with this number: the one nearest to the highest.
    pub fn guess(&self, seq: u16) -> u64 {
        match self.highest {
            Some(highest) => nearest_to(highest, seq),
            None => u64::from(seq),
        }
    }

    /// Whether it was not taken, as far as can be told.
    pub fn is_new(&self, index: u64) -> bool {
        let Some(highest) = self.highest else { return true };
        if index > highest {
            return true;
        }
        let behind = highest - index;
        behind < u64::from(u128::BITS) && self.taken >> behind & 1 == 0
    }

    pub fn take(&mut self, index: u64) {
        match self.highest {
            Some(highest) if index <= highest => self.taken |= 1u128.checked_shl((highest - index) as u32).unwrap_or(0),
            before => {
                let ahead = before.map_or(u64::MAX, |highest| index - highest);
                let kept = u32::try_from(ahead).ok().and_then(|ahead| self.taken.checked_shl(ahead)).unwrap_or(0);
                self.taken = kept | 1;
                self.highest = Some(index);
            }
        }
    }
}

/// The index nearest to `reference` whose low 16 bits are `seq`; none is below 0.
fn nearest_to(reference: u64, seq: u16) -> u64 {
    let ahead = i64::from(seq.wrapping_sub(reference as u16).cast_signed());
    let guess = reference.cast_signed() + ahead;
    if guess < 0 { u64::from(seq) } else { guess.cast_unsigned() }
}
