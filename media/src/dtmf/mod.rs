//! Digits: as RFC 4733 events on the wire, and as pairs of tones in the audio.
//!
//! Receiving turns packets or samples into [`KeyEvent`]s, one press at a time; sending turns keys into packets or
//! samples. Knows nothing of legs, and nothing of what a digit means.

mod detect;
mod receive;
mod send;

use serde::{Deserialize, Serialize};

pub use detect::Detector;
pub use receive::EventReceiver;
pub use send::{EventPacket, KEY_MS, KeySender};

/// One of the sixteen keys, by its event code: 0-9, `*`, `#`, A-D (RFC 4733 s3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key(u8);

/// A key that was pressed, as it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// It has begun; its [`KeyEvent::Released`] follows, however many packets are lost.
    Pressed(Key),
    Released {
        key: Key,
        duration_ms: u32,
    },
}

impl Key {
    /// `None` for events that are not keys: flash, fax tones, line tones.
    pub fn from_event_code(code: u8) -> Option<Key> {
        (code < 16).then_some(Key(code))
    }

    /// Letters in either case.
    pub fn from_char(digit: char) -> Option<Key> {
        let digit = u8::try_from(digit.to_ascii_uppercase()).ok()?;
        let code = SYMBOLS.iter().position(|symbol| *symbol == digit)?;
        Key::from_event_code(code as u8)
    }

    pub fn event_code(self) -> u8 {
        self.0
    }

    pub fn symbol(self) -> char {
        char::from(SYMBOLS[usize::from(self.0)])
    }

    /// The frequencies of its row and its column in Hz (ITU-T Q.23).
    pub fn frequencies_hz(self) -> [u32; 2] {
        let place = KEYPAD.iter().position(|symbol| *symbol == SYMBOLS[usize::from(self.0)]).unwrap_or(0);
        [ROWS_HZ[place / 4], COLUMNS_HZ[place % 4]]
    }

    /// The key of a row and a column of the keypad, both 0 to 3.
    fn at(row: usize, column: usize) -> Option<Key> {
        let symbol = *KEYPAD.get(row * 4 + column)?;
        Key::from_char(char::from(symbol))
    }
}

const SYMBOLS: &[u8; 16] = b"0123456789*#ABCD";
const KEYPAD: &[u8; 16] = b"123A456B789C*0#D";
const ROWS_HZ: [u32; 4] = [697, 770, 852, 941];
const COLUMNS_HZ: [u32; 4] = [1209, 1336, 1477, 1633];

/// Brings the duration in an event's payload from 8 kHz to a clock that ticks so often in a sample; one that does not fit is
/// as long as fits (RFC 4733 s2.5.1.3).
pub fn stretch(payload: &mut [u8], ticks: u32) {
    rescale(payload, |duration| duration * ticks);
}

/// The other way round, from a clock that ticks so often to 8 kHz.
pub fn shrink(payload: &mut [u8], ticks: u32) {
    rescale(payload, |duration| duration / ticks);
}

fn rescale(payload: &mut [u8], rescaled: impl Fn(u32) -> u32) {
    if let Some(duration) = payload.get_mut(2..4) {
        let told = rescaled(u32::from(u16::from_be_bytes([duration[0], duration[1]])));
        duration.copy_from_slice(&u16::try_from(told).unwrap_or(u16::MAX).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_code_one_symbol_and_one_place() {
        for code in 0..16 {
            let key = Key::from_event_code(code).unwrap();
            assert_eq!(Key::from_char(key.symbol()), Some(key));
            let [row, column] = key.frequencies_hz();
            let row = ROWS_HZ.iter().position(|hz| *hz == row).unwrap();
            let column = COLUMNS_HZ.iter().position(|hz| *hz == column).unwrap();
            assert_eq!(Key::at(row, column), Some(key));
        }
        assert_eq!(Key::from_event_code(16), None);
        assert_eq!(Key::from_char('d').map(Key::symbol), Some('D'));
        assert_eq!(Key::from_char('w'), None);
        assert_eq!(Key::from_char('5').map(Key::frequencies_hz), Some([770, 1336]));
        assert_eq!(Key::from_char('#').map(Key::frequencies_hz), Some([941, 1477]));
    }
}
