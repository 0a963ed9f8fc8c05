//! G.711 in files: bare, behind Sun's header, and in WAV.
//!
//! WAV is here because telephone systems write its G.711 form with a short format chunk, which stricter readers refuse.

use dialtone_media::codec::Law;

/// Samples of G.711 with what is needed to read them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct G711<'a> {
    pub law: Law,
    pub channels: u16,
    pub rate_hz: u32,
    pub body: &'a [u8],
}

/// Finds the G.711 in a file, if that is what it is. `essence` is its content type without parameters.
pub(super) fn find<'a>(file: &'a [u8], essence: &str) -> Option<G711<'a>> {
    if file.starts_with(b"RIFF") {
        return in_wav(file);
    }
    if file.starts_with(b".snd") {
        return behind_sun_header(file);
    }
    bare_law(essence).map(|law| G711 { law, channels: 1, rate_hz: 8_000, body: file })
}

impl G711<'_> {
    /// One channel after another in each frame, from -1 to 1.
    pub fn samples(&self) -> impl Iterator<Item = f32> {
        let mut sample = [0; 1];
        self.body.iter().map(move |byte| {
            self.law.decode(&[*byte], &mut sample);
            f32::from(sample[0]) / 32_768.0
        })
    }
}

/// Types whose body is G.711 at 8 kHz without a header.
fn bare_law(essence: &str) -> Option<Law> {
    match essence {
        "audio/basic" | "audio/x-mulaw" | "audio/mulaw" | "audio/ulaw" | "audio/pcmu" | "audio/x-ulaw" => Some(Law::Mu),
        "audio/x-alaw" | "audio/alaw" | "audio/pcma" => Some(Law::A),
        _ => None,
    }
}

/// Sun's header: magic, offset, size, encoding (1 is µ-law, 27 A-law), rate, channels.
fn behind_sun_header(file: &[u8]) -> Option<G711<'_>> {
    let field = |at: usize| file.get(4 * at..4 * at + 4)?.try_into().ok().map(u32::from_be_bytes);
    let law = match field(3)? {
        1 => Law::Mu,
        27 => Law::A,
        _ => return None,
    };
    let body = file.get(usize::try_from(field(1)?).ok()?..)?;
    Some(G711 { law, channels: u16::try_from(field(5)?).ok()?, rate_hz: field(4)?, body })
}

/// WAV of format 6 (A-law) or 7 (µ-law); a data chunk that claims more than there is ends with the file.
fn in_wav(file: &[u8]) -> Option<G711<'_>> {
    let mut rest = file.get(12..)?;
    let mut format = None;
    while rest.len() >= 8 {
        let (head, body) = rest.split_at(8);
        let length = u32::from_le_bytes(head[4..].try_into().ok()?) as usize;
        let chunk = &body[..length.min(body.len())];
        match &head[..4] {
            b"fmt " => format = Some(chunk),
            b"data" => return read_format(format?, chunk),
            _ => {}
        }
        // Chunks begin at even places.
        rest = body.get(length.checked_add(length % 2)?..)?;
    }
    None
}

fn read_format<'a>(format: &[u8], body: &'a [u8]) -> Option<G711<'a>> {
    let short = |at: usize| format.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes);
    let law = match short(0)? {
        6 => Law::A,
        7 => Law::Mu,
        _ => return None,
    };
    let rate_hz = format.get(4..8)?.try_into().ok().map(u32::from_le_bytes)?;
    Some(G711 { law, channels: short(2)?, rate_hz, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wav(format: u16, format_bytes: u32, data_bytes: u32) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVEfmt ".to_vec();
        file.extend(format_bytes.to_le_bytes());
        file.extend(format.to_le_bytes());
        file.extend(1u16.to_le_bytes());
        file.extend(8_000u32.to_le_bytes());
        file.extend([0; 8]);
        file.extend(vec![0; format_bytes as usize - 16]);
        file.extend(b"fact\x03\0\0\0abc\0data");
        file.extend(data_bytes.to_le_bytes());
        file.extend(b"xyz");
        file
    }

    #[test]
    fn wav_is_read_with_short_and_long_format_chunks() {
        for (format, law) in [(6, Law::A), (7, Law::Mu)] {
            for (format_bytes, data_bytes) in [(16, 3), (18, 3), (20, 3), (16, u32::MAX)] {
                let expected = G711 { law, channels: 1, rate_hz: 8_000, body: b"xyz" };
                assert_eq!(find(&wav(format, format_bytes, data_bytes), ""), Some(expected));
            }
        }
        assert_eq!(find(&wav(1, 16, 3), "audio/basic"), None, "what is another wav is not bare");
    }

    #[test]
    fn sun_header_says_the_rate() {
        let mut file = b".snd".to_vec();
        for field in [28u32, 3, 1, 16_000, 2, 0] {
            file.extend(field.to_be_bytes());
        }
        file.extend(b"xyz");
        let expected = G711 { law: Law::Mu, channels: 2, rate_hz: 16_000, body: b"xyz" };
        assert_eq!(find(&file, "audio/basic"), Some(expected));
        assert_eq!(find(b".snd\0\0", "audio/basic"), None);
    }
}
