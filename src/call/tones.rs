//! Ringing tones as countries know them (ITU-T E.180 supplement 2).

use dialtone_media::proto::Tone;

use crate::twiml::Ringback;

/// The tone that a caller hears while it rings; the United States' where none is named or known.
pub(super) fn ringback(wanted: &Ringback) -> Option<Tone> {
    let country = match wanted {
        Ringback::Off => return None,
        Ringback::Automatic => "us",
        Ringback::Country(country) => country.as_str(),
    };
    let (_, frequencies, cadence) = TONES.iter().find(|(name, _, _)| *name == country).unwrap_or(&TONES[0]);
    Some(Tone { frequencies_hz: frequencies.to_vec(), cadence_ms: cadence.to_vec(), duration_ms: 0 })
}

/// What says: speak now.
pub(super) fn beep() -> Tone {
    Tone { frequencies_hz: vec![1000], cadence_ms: Vec::new(), duration_ms: 400 }
}

/// What says: in a moment this call is over.
pub(super) fn runs_out() -> Tone {
    Tone { frequencies_hz: vec![1400], cadence_ms: vec![200, 200], duration_ms: 1800 }
}

/// What says that somebody comes or goes.
pub(super) fn bell() -> Tone {
    Tone { frequencies_hz: vec![620], cadence_ms: Vec::new(), duration_ms: 250 }
}

type Row = (&'static str, &'static [u32], &'static [u32]);

/// Country, frequencies in Hz, cadence in milliseconds on and off.
const TONES: &[Row] = &[
    ("us", &[440, 480], &[2000, 4000]),
    ("us-old", &[440, 480], &[2000, 4000]),
    ("at", &[420], &[1000, 5000]),
    ("au", &[413, 438], &[400, 200, 400, 2000]),
    ("be", &[425], &[1000, 3000]),
    ("bg", &[425], &[1000, 4000]),
    ("br", &[425], &[1000, 4000]),
    ("ch", &[425], &[1000, 4000]),
    ("cl", &[400], &[1000, 3000]),
    ("cn", &[450], &[1000, 4000]),
    ("cz", &[425], &[1000, 4000]),
    ("de", &[425], &[1000, 4000]),
    ("dk", &[425], &[1000, 4000]),
    ("ee", &[425], &[1000, 4000]),
    ("es", &[425], &[1500, 3000]),
    ("fi", &[425], &[1000, 4000]),
    ("fr", &[440], &[1500, 3500]),
    ("gr", &[425], &[1000, 4000]),
    ("hu", &[425], &[1250, 3750]),
    ("il", &[400], &[1000, 3000]),
    ("in", &[400, 425], &[400, 200, 400, 2000]),
    ("it", &[425], &[1000, 4000]),
    ("jp", &[384, 416], &[1000, 2000]),
    ("lt", &[425], &[1000, 4000]),
    ("mx", &[425], &[1000, 4000]),
    ("my", &[425], &[400, 200, 400, 2000]),
    ("nl", &[425], &[1000, 4000]),
    ("no", &[425], &[1000, 4000]),
    ("nz", &[400, 450], &[400, 200, 400, 2000]),
    ("ph", &[425, 480], &[1000, 4000]),
    ("pl", &[425], &[1000, 4000]),
    ("pt", &[425], &[1000, 5000]),
    ("ru", &[425], &[800, 3200]),
    ("se", &[425], &[1000, 5000]),
    ("sg", &[425], &[400, 200, 400, 2000]),
    ("th", &[420], &[1000, 4000]),
    ("tw", &[440, 480], &[1000, 2000]),
    ("uk", &[400, 450], &[400, 200, 400, 2000]),
    ("ve", &[425], &[1000, 4000]),
    ("za", &[400, 433], &[400, 200, 400, 2000]),
];
