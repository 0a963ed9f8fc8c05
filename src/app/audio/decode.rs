//! Files to clips: WAV, AIFF, MP3, Ogg Vorbis, and the bare G.711 of `audio/basic`.
//!
//! Runs on a blocking thread and holds no more than the file and the clip. What is no audio, or longer than an hour,
//! is refused; what is broken in the middle ends there.

use std::io::Cursor;

use bytes::Bytes;
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

use crate::app::audio::clip::CLIP_RATE_HZ;
use crate::app::audio::g711::{self, G711};
use crate::app::audio::resample::Resampler;
use crate::app::failure::FetchError;

/// Longer audio is refused.
const MAX_SECONDS: usize = 3_600;

const MAX_SAMPLES: usize = MAX_SECONDS * CLIP_RATE_HZ as usize;

/// Rates that make no sense are refused before anything is computed from them.
const RATES_HZ: std::ops::RangeInclusive<u32> = 1_000..=384_000;

/// Decodes a file to samples as a clip has them.
pub(super) fn decode(file: Bytes, content_type: Option<&str>) -> Result<Bytes, FetchError> {
    decode_within(MAX_SAMPLES, file, content_type)
}

fn decode_within(max_samples: usize, file: Bytes, content_type: Option<&str>) -> Result<Bytes, FetchError> {
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if is_text(&essence) {
        return Err(FetchError::NoAudio);
    }
    let mono = Mono::new(max_samples);
    let samples = match g711::find(&file, &essence) {
        Some(found) => decode_g711(&found, mono)?,
        None => decode_container(file, &essence, mono)?,
    };
    Ok(samples.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>().into())
}

/// Types that are an error page or a mistake, never audio.
fn is_text(essence: &str) -> bool {
    essence.starts_with("text/") || matches!(essence, "application/json" | "application/xml" | "application/xhtml+xml")
}

fn decode_g711(found: &G711<'_>, mut mono: Mono) -> Result<Vec<i16>, FetchError> {
    let channels = usize::from(found.channels);
    let mut samples = found.samples();
    loop {
        let piece: Vec<f32> = samples.by_ref().take(4_096 * channels.max(1)).collect();
        if piece.is_empty() {
            return mono.finish();
        }
        mono.push(&piece, channels, found.rate_hz)?;
    }
}

fn decode_container(file: Bytes, essence: &str, mut mono: Mono) -> Result<Vec<i16>, FetchError> {
    let stream = MediaSourceStream::new(Box::new(Cursor::new(file)), Default::default());
    let mut hint = Hint::new();
    if !essence.is_empty() {
        hint.mime_type(essence);
    }
    let no_audio = |_| FetchError::NoAudio;
    let mut format = symphonia::default::get_probe()
        .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
        .map_err(no_audio)?;
    let track = format.default_track(TrackType::Audio).ok_or(FetchError::NoAudio)?;
    let track_id = track.id;
    let parameters =
        track.codec_params.as_ref().and_then(|parameters| parameters.audio()).ok_or(FetchError::NoAudio)?;
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(no_audio)?;

    let mut interleaved: Vec<f32> = Vec::new();
    loop {
        let packet = match format.next_packet() {
            Ok(Some(packet)) if packet.track_id == track_id => packet,
            Ok(Some(_)) => continue,
            Ok(None) | Err(_) => break,
        };
        match decoder.decode(&packet) {
            Ok(buffer) => {
                let spec = buffer.spec();
                let (rate_hz, channels) = (spec.rate(), spec.channels().count());
                interleaved.clear();
                buffer.copy_to_vec_interleaved(&mut interleaved);
                mono.push(&interleaved, channels, rate_hz)?;
            }
            Err(Error::DecodeError(_) | Error::IoError(_)) => {}
            Err(_) => break,
        }
    }
    mono.finish()
}

/// Mixes to one channel and resamples. A file whose rate changes ends there.
struct Mono {
    max_samples: usize,
    resampler: Option<(Resampler, u32)>,
    mixed: Vec<f32>,
    inputs: u64,
    out: Vec<i16>,
}

impl Mono {
    fn new(max_samples: usize) -> Self {
        Self { max_samples, resampler: None, mixed: Vec::new(), inputs: 0, out: Vec::new() }
    }

    fn push(&mut self, interleaved: &[f32], channels: usize, rate_hz: u32) -> Result<(), FetchError> {
        if channels == 0 || !RATES_HZ.contains(&rate_hz) {
            return Err(FetchError::NoAudio);
        }
        let (resampler, rate) = self.resampler.get_or_insert_with(|| (Resampler::new(rate_hz), rate_hz));
        if *rate != rate_hz {
            return Ok(());
        }
        self.mixed.clear();
        let share = 1.0 / channels as f32;
        self.mixed.extend(interleaved.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() * share));
        self.inputs += self.mixed.len() as u64;
        resampler.push(&self.mixed, &mut self.out);
        if self.out.len() > self.max_samples { Err(FetchError::AudioTooLong) } else { Ok(()) }
    }

    fn finish(mut self) -> Result<Vec<i16>, FetchError> {
        let (resampler, _) = self.resampler.take().ok_or(FetchError::NoAudio)?;
        resampler.finish(self.inputs, &mut self.out);
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A WAV file of `samples` in a format: 1 PCM 16-bit, 6 A-law, 7 µ-law.
    fn wav(format: u16, channels: u16, rate_hz: u32, samples: &[u8]) -> Bytes {
        let bits: u16 = if format == 1 { 16 } else { 8 };
        let block = channels * bits / 8;
        let mut file = b"RIFF".to_vec();
        file.extend((36 + samples.len() as u32).to_le_bytes());
        file.extend(b"WAVEfmt ");
        file.extend(16u32.to_le_bytes());
        file.extend(format.to_le_bytes());
        file.extend(channels.to_le_bytes());
        file.extend(rate_hz.to_le_bytes());
        file.extend((rate_hz * u32::from(block)).to_le_bytes());
        file.extend(block.to_le_bytes());
        file.extend(bits.to_le_bytes());
        file.extend(b"data");
        file.extend((samples.len() as u32).to_le_bytes());
        file.extend(samples);
        file.into()
    }

    fn pcm(samples: &[i16]) -> Vec<u8> {
        samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
    }

    fn samples_of(decoded: Result<Bytes, FetchError>) -> Vec<i16> {
        let bytes = decoded.expect("the file is good");
        bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
    }

    #[test]
    fn stereo_is_mixed_and_resampled() {
        let frames: Vec<i16> = (0..4_410).flat_map(|_| [8_000, 4_000]).collect();
        let out = samples_of(decode(wav(1, 2, 44_100, &pcm(&frames)), Some("audio/x-wav")));
        assert_eq!(out.len(), 800);
        assert!(out[100..700].iter().all(|sample| (i32::from(*sample) - 6_000).abs() < 30));
    }

    #[test]
    fn g711_in_wav_and_bare() {
        let loud = dialtone_media::codec::g711::encode_ulaw(10_000);
        let expected = dialtone_media::codec::g711::ULAW_TO_LINEAR[usize::from(loud)];
        let body = vec![loud; 800];
        let near = |out: &[i16]| out.len() == 800 && (i32::from(out[400]) - i32::from(expected)).abs() < 4;
        assert!(near(&samples_of(decode(wav(7, 1, 8_000, &body), Some("audio/wav")))));
        assert!(near(&samples_of(decode(body.clone().into(), Some("audio/basic")))));
        let mut sun = b".snd".to_vec();
        for field in [28u32, 800, 1, 8_000, 1, 0] {
            sun.extend(field.to_be_bytes());
        }
        sun.extend(&body);
        assert!(near(&samples_of(decode(sun.into(), Some("audio/basic; x=y")))));
    }

    #[test]
    fn type_of_a_file_is_found_in_it() {
        let file = wav(1, 1, 8_000, &pcm(&[1_000; 800]));
        for content_type in [Some("audio/mpeg"), Some("application/octet-stream"), Some("audio/basic"), None] {
            assert_eq!(samples_of(decode(file.clone(), content_type)).len(), 800, "{content_type:?}");
        }
    }

    #[test]
    fn what_is_no_audio_is_refused() {
        let file = wav(1, 1, 8_000, &pcm(&[1_000; 800]));
        assert_eq!(decode(file, Some("text/html")), Err(FetchError::NoAudio));
        let silly_rate = wav(1, 1, 5, &pcm(&[0; 10]));
        let bad: &[&[u8]] = &[
            b"",
            b"<html>",
            b"RIFF",
            b"RIFF\xff\xff\xff\xffWAVEfmt ",
            b"OggS\0\0",
            b"ID3\x04\0\0",
            &[0xff; 100],
            &silly_rate,
        ];
        for body in bad {
            assert_eq!(decode(Bytes::copy_from_slice(body), Some("audio/mpeg")), Err(FetchError::NoAudio), "{body:?}");
        }
        assert_eq!(decode(Bytes::new(), Some("audio/basic")), Err(FetchError::NoAudio));
        assert_eq!(decode(Bytes::from_static(b".snd\0"), Some("audio/basic")), Err(FetchError::NoAudio));
    }

    #[test]
    fn threat_22_more_than_an_hour_is_refused() {
        let file = wav(7, 1, 1_000, &[0; 2_000]);
        assert_eq!(decode_within(15_000, file.clone(), None), Err(FetchError::AudioTooLong));
        assert_eq!(samples_of(decode_within(16_000, file, None)).len(), 16_000);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_samples_or_an_error(tail in proptest::collection::vec(proptest::num::u8::ANY, 0..600), kind in 0..5usize) {
            let starts: [&[u8]; 5] = [b"", b"RIFF\x24\x10\0\0WAVEfmt \x10\0\0\0\x01\0", b"OggS\0\x02", b"ID3\x03\0\0\0\0\0\x10", b"FORM\0\0\x10\0AIFFCOMM"];
            let file = [starts[kind], &tail].concat();
            let _ = decode(file.into(), None);
        }
    }
}
