//! A recording as Ogg Opus (RFC 7845): what it holds ends at the sample at which the WAV file ends.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read};

use dialtone_media::wav::{RATE_HZ, WavHeader};
use opus_pure::ogg::GRANULE_RATE;
use opus_pure::{Application, Error, MAX_PACKET_BYTES, OggOpusWriter, OpusEncoder, OpusHead};

/// Of one channel. Two that say different things at once stay apart at this rate.
const BITS_PER_SECOND: i32 = 32_000;
/// 20 ms of one channel.
const FRAME: usize = RATE_HZ as usize / 50;
/// Granule positions count samples of 48 kHz.
const TICKS: u64 = (GRANULE_RATE / RATE_HZ) as u64;

/// Reads a WAV file of ours from its beginning, and writes the Opus file. Blocks, and takes some 40 us of CPU for a frame.
///
/// `InvalidData` for what is no recording of ours.
pub(super) fn encode(wav: File, opus: File) -> io::Result<()> {
    let length = wav.metadata()?.len();
    let mut wav = BufReader::with_capacity(1 << 16, wav);
    let mut header = [0; WavHeader::LEN];
    wav.read_exact(&mut header)?;
    let header = WavHeader::parse(&header).ok_or(io::ErrorKind::InvalidData)?;
    let there = length - WavHeader::LEN as u64;
    let samples = there.min(header.data_bytes.into()) / header.frame_bytes();
    write(wav, samples, header.channels.into(), BufWriter::new(opus)).map_err(|error| match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    })
}

/// `samples` are of each channel.
fn write(mut pcm: impl Read, samples: u64, channels: usize, opus: BufWriter<File>) -> Result<(), Error> {
    let mut encoder = OpusEncoder::new(RATE_HZ as i32, channels, Application::Audio)?;
    encoder.bitrate_bps = BITS_PER_SECOND * channels as i32;
    let head = OpusHead::for_encoder(&encoder, RATE_HZ);
    let pre_skip = u64::from(head.pre_skip);
    let mut file = OggOpusWriter::new(opus, head)?;
    let (mut bytes, mut frame) = (vec![0; FRAME * channels * 2], vec![0; FRAME * channels]);
    let mut packet = vec![0; MAX_PACKET_BYTES];
    // The encoder gives its last samples out when silence is put in behind them (RFC 7845 s4.2, s4.4).
    let frames = (samples + pre_skip.div_ceil(TICKS)).div_ceil(FRAME as u64);
    let (mut left, end) = (samples * channels as u64 * 2, pre_skip + samples * TICKS);
    for _ in 0..frames {
        let here = left.min(bytes.len() as u64);
        left -= here;
        let (sound, silence) = bytes.split_at_mut(here as usize);
        pcm.read_exact(sound)?;
        silence.fill(0);
        for (sample, bytes) in frame.iter_mut().zip(bytes.chunks_exact(2)) {
            *sample = i16::from_le_bytes([bytes[0], bytes[1]]);
        }
        let length = encoder.encode_s16(&frame, FRAME, &mut packet)?;
        let ticks = (end - file.granule() as u64).min(FRAME as u64 * TICKS);
        file.write_packet_with_duration(&packet[..length], ticks as u32)?;
    }
    file.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use opus_pure::{MAX_PACKET_SAMPLES, OggOpusReader, Trim};

    use super::*;

    /// A WAV file of so many samples of each channel: a tone in the first, silence in the second.
    fn wav(channels: u8, samples: u64) -> Vec<u8> {
        let header = WavHeader { channels, data_bytes: (samples * u64::from(channels) * 2) as u32 };
        let mut wav = header.to_bytes().to_vec();
        for at in 0..samples {
            wav.extend(tone(at).to_le_bytes());
            wav.extend([0; 2].repeat(usize::from(channels) - 1));
        }
        wav
    }

    fn tone(at: u64) -> i16 {
        ((at as f64 * 0.3).sin() * 8000.0) as i16
    }

    /// The header, and the samples of each channel, without what a player leaves out.
    fn decoded(wav: &[u8]) -> (OpusHead, Vec<Vec<f32>>) {
        let folder = std::env::temp_dir().join(format!("dialtone-opus-{}-{}", std::process::id(), wav.len()));
        std::fs::create_dir_all(&folder).unwrap();
        let (from, to) = (folder.join("a.wav"), folder.join("a.opus"));
        std::fs::write(&from, wav).unwrap();
        encode(File::open(from).unwrap(), File::create(&to).unwrap()).unwrap();
        let mut reader = OggOpusReader::new(File::open(to).unwrap()).unwrap();
        let head = reader.head().clone();
        let channels = usize::from(head.channel_count);
        let mut decoder = head.decoder(RATE_HZ as i32).unwrap();
        let mut trim = Trim::new(&head, RATE_HZ as i32, channels).unwrap();
        let mut block = vec![0.0; MAX_PACKET_SAMPLES * channels];
        let mut all = Vec::new();
        for packet in reader.packets() {
            let packet = packet.unwrap();
            let length = decoder.decode(&packet.data, MAX_PACKET_SAMPLES, &mut block).unwrap();
            all.extend_from_slice(trim.keep(&packet, &block[..length * channels]));
        }
        std::fs::remove_dir_all(folder).unwrap();
        let of = |channel| all.iter().skip(channel).step_by(channels).copied().collect();
        (head, (0..channels).map(of).collect())
    }

    #[test]
    fn file_has_the_channels_and_ends_at_the_sample_at_which_the_recording_ends() {
        for (channels, samples) in [(1, 0), (1, 1), (1, 160), (1, 8000), (2, 7_919)] {
            let (head, sound) = decoded(&wav(channels, samples));
            assert_eq!((head.channel_count, head.input_sample_rate, head.pre_skip), (channels, 8000, 312));
            assert!(sound.iter().all(|channel| channel.len() as u64 == samples), "{samples} samples");
        }
    }

    #[test]
    fn each_channel_has_its_own_sound() {
        let (_, sound) = decoded(&wav(2, 8000));
        let far = sound[0].iter().zip(0..).map(|(sample, at)| (sample * 32768.0 - f32::from(tone(at))).abs());
        assert!(far.skip(800).fold(0.0, f32::max) < 400.0, "the tone of 8000 is that tone");
        assert!(sound[1].iter().all(|sample| (sample * 32768.0).abs() < 5.0), "silence is silence");
    }

    #[test]
    fn bytes_behind_what_the_header_tells_are_left_out_and_missing_ones_are_no_error() {
        let long = [wav(1, 400), vec![0x55; 99]].concat();
        assert_eq!(decoded(&long).1[0].len(), 400);
        let short = wav(1, 400)[..WavHeader::LEN + 301].to_vec();
        assert_eq!(decoded(&short).1[0].len(), 150);
    }
}
