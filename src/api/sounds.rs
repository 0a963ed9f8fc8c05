//! The sounds of a page with the official SDK, for pages that ask nobody but this server: `/sounds/NAME.wav`, by the SDK's names.
//!
//! They are tones, made when they are asked for.

use axum::extract::Path;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dialtone_media::dtmf::Key;
use dialtone_media::proto::Tone;
use dialtone_media::tone::ToneSource;
use dialtone_media::wav::{RATE_HZ, WavHeader};

use super::error;

/// Any page may have them: they say nothing of anybody.
const HEADERS: [(HeaderName, &str); 3] = [
    (header::CONTENT_TYPE, "audio/wav"),
    (header::CACHE_CONTROL, "public, max-age=86400"),
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
];

pub(super) async fn sound(Path(file): Path<String>) -> Response {
    match file.strip_suffix(".wav").and_then(tone_of) {
        Some(tone) => (HEADERS, wav(&tone)).into_response(),
        None => error(
            StatusCode::NOT_FOUND,
            20_404,
            &format!("there is no sound {file}: see docs/browsers.md for their names"),
        ),
    }
}

/// What stands for a name of the SDK's. `incoming` is repeated by the SDK for as long as it rings.
fn tone_of(name: &str) -> Option<Tone> {
    let tone = |frequencies_hz: &[u32], cadence_ms: &[u32], duration_ms| Tone {
        frequencies_hz: frequencies_hz.to_vec(),
        cadence_ms: cadence_ms.to_vec(),
        duration_ms,
    };
    Some(match name {
        "incoming" => tone(&[440, 480], &[400, 200, 400, 2000], 3000),
        "outgoing" => tone(&[440], &[120, 80, 120, 80], 400),
        "disconnect" => tone(&[480, 620], &[150, 100, 150, 100], 500),
        _ => tone(&key_of(name.strip_prefix("dtmf")?)?.frequencies_hz(), &[160, 40], 200),
    })
}

/// The SDK writes the star as `s` and the hash as `h`.
fn key_of(name: &str) -> Option<Key> {
    let mut letters = name.chars();
    let symbol = match (letters.next()?, letters.next()) {
        ('s', None) => '*',
        ('h', None) => '#',
        (digit, None) if digit.is_ascii_digit() => digit,
        _ => return None,
    };
    Key::from_char(symbol)
}

fn wav(tone: &Tone) -> Vec<u8> {
    let mut samples = vec![0; (tone.duration_ms * RATE_HZ / 1000) as usize];
    ToneSource::new(tone).fill(0, &mut samples);
    let header = WavHeader { channels: 1, data_bytes: samples.len() as u32 * 2 };
    let bytes = samples.iter().flat_map(|sample| sample.to_le_bytes());
    header.to_bytes().into_iter().chain(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sound_of_the_sdk_is_there_and_is_heard() {
        let keys = "0123456789sh".chars().map(|key| format!("dtmf{key}"));
        for name in ["incoming", "outgoing", "disconnect"].map(str::to_owned).into_iter().chain(keys) {
            let file = wav(&tone_of(&name).unwrap_or_else(|| panic!("{name}")));
            let header = WavHeader::parse(file[..WavHeader::LEN].try_into().unwrap()).expect("a file of ours");
            assert_eq!(header.data_bytes as usize, file.len() - WavHeader::LEN, "{name}");
            let loudest =
                file[WavHeader::LEN..].chunks(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]).abs()).max();
            assert!(loudest > Some(3000), "{name}: {loudest:?}");
        }
        for name in ["dtmf", "dtmf*", "dtmf10", "dtmfa", "ringing", ""] {
            assert_eq!(tone_of(name), None, "{name}");
        }
    }
}
