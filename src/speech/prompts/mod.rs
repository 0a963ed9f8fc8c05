//! Prompts that are part of the binary: they play without an engine, from the first call on.
//!
//! µ-law at 8 kHz, spoken once by flite's voice `slt`; `make.sh` beside this file makes them anew. `<Play>` finds them
//! by `dialtone:NAME`.

use bytes::Bytes;
use dialtone_media::codec::Law;

/// A prompt of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompt {
    pub name: &'static str,
    /// What is said; empty of music.
    pub text: &'static str,
    ulaw: &'static [u8],
}

macro_rules! prompts {
    ($($name:literal: $text:literal,)*) => {
        /// Every prompt there is.
        pub const ALL: &[Prompt] = &[
            $(Prompt { name: $name, text: $text, ulaw: include_bytes!(concat!($name, ".ulaw")) },)*
        ];
    };
}

prompts! {
    "application-error": "We are sorry, an application error has occurred. Goodbye.",
    "demo-menu": "Welcome to Dialtone. Press 1 to hear what this is. Press 2 for an echo test.",
    "pressed-one": "You pressed one. Dialtone takes your calls, asks your application what to do, and does it, on your own hardware.",
    "pressed-two": "You pressed two. You will now hear yourself. Hang up when you have heard enough.",
    "no-input": "We did not hear a key.",
    "goodbye": "Goodbye.",
    // Made by music.py, and spoken by nobody.
    "hold-music": "",
}

/// The prompt of that name.
pub fn find(name: &str) -> Option<&'static Prompt> {
    ALL.iter().find(|prompt| prompt.name == name)
}

impl Prompt {
    /// Its samples: 16-bit little-endian, mono, 8 kHz.
    pub fn samples(&self) -> Bytes {
        let mut samples = vec![0; self.ulaw.len()];
        Law::Mu.decode(self.ulaw, &mut samples);
        samples.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::app::Clips;
    use crate::speech::{Engine, Phrase, Speech, SpeechConfig};

    #[test]
    fn every_prompt_can_be_heard() {
        for prompt in ALL {
            let samples = prompt.samples();
            let seconds = samples.len() as f64 / 16_000.0;
            assert!((0.4..15.0).contains(&seconds), "{} lasts {seconds} s", prompt.name);
            let loudest =
                samples.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]).unsigned_abs()).max();
            assert!(loudest > Some(3_000), "{} is silent", prompt.name);
            assert_eq!(find(prompt.name), Some(prompt));
        }
        assert_eq!(find("no such prompt"), None);
    }

    #[test]
    fn interpreter_and_prompts_agree_on_the_apology_and_the_music() {
        assert!(find(crate::twiml::interpreter::APPLICATION_ERROR_PROMPT).is_some());
        assert!(crate::twiml::HOLD_MUSIC.contains(">dialtone:hold-music<") && find("hold-music").is_some());
    }

    /// Speaks all prompts anew and writes them beside this file: see `make.sh`.
    #[tokio::test]
    #[ignore = "writes into the source tree"]
    async fn make() {
        let folder = std::env::temp_dir().join(format!("dialtone-prompts-{}", std::process::id()));
        let speech = Speech::new(Engine::detect(), SpeechConfig::in_folder(&folder), Arc::new(Clips::new(0)));
        for prompt in ALL.iter().filter(|prompt| !prompt.text.is_empty()) {
            let phrase = Phrase { text: prompt.text.into(), voice: "woman".into(), language: "en-US".into() };
            let bytes = speech.speak(&phrase).await.expect("flite speaks").samples;
            let samples: Vec<i16> = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
            let mut ulaw = vec![0; samples.len()];
            Law::Mu.encode(&samples, &mut ulaw);
            let place = format!("{}/src/speech/prompts/{}.ulaw", env!("CARGO_MANIFEST_DIR"), prompt.name);
            std::fs::write(place, ulaw).expect("the source tree is writable");
        }
        std::fs::remove_dir_all(folder).expect("the folder is ours");
    }
}
