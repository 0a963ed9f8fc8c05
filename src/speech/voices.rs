//! Which of an engine's voices speaks for a voice of Twilio's.
//!
//! Twilio has 900 voices, flite a handful, all of them English. What carries over is whether a man or a woman speaks;
//! another language is spoken with an English tongue, which is better than not at all.

/// Who is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    Man,
    Woman,
}

/// Who speaks for `voice`, as `<Say>` has it; without one, Twilio's default is a man.
pub(super) fn speaker(voice: &str) -> Speaker {
    let name = match voice.split_once('.') {
        None => return if matches!(voice, "woman" | "alice") { Speaker::Woman } else { Speaker::Man },
        Some(("Polly", name)) => name.strip_suffix("-Neural").or(name.strip_suffix("-Generative")).unwrap_or(name),
        Some((_, name)) => return google(name),
    };
    if POLLY_MEN.contains(&name) { Speaker::Man } else { Speaker::Woman }
}

/// Google's voices end in a letter, or in the name of a star; most men have one of these letters.
fn google(name: &str) -> Speaker {
    match name.rsplit('-').next() {
        Some("B" | "D" | "I" | "J" | "Puck" | "Charon" | "Fenrir" | "Orus") => Speaker::Man,
        _ => Speaker::Woman,
    }
}

/// The flite voice among `installed` that comes nearest.
pub(super) fn flite_voice<'a>(voice: &str, language: &str, installed: &'a [String]) -> Option<&'a str> {
    let is_british = language.eq_ignore_ascii_case("en-gb") || language.eq_ignore_ascii_case("en-gb-wls");
    let wanted: &[&str] = match speaker(voice) {
        Speaker::Woman => &["slt", "rms", "kal16", "kal"],
        Speaker::Man if is_british => &["awb", "rms", "kal16", "kal", "slt"],
        Speaker::Man => &["rms", "kal16", "awb", "kal", "slt"],
    };
    let found = wanted.iter().find_map(|name| installed.iter().find(|installed| installed == name));
    found.or_else(|| installed.first()).map(String::as_str)
}

const POLLY_MEN: &[&str] = &[
    "Adriano",
    "Andres",
    "Arthur",
    "Brian",
    "Cristiano",
    "Daniel",
    "Enrique",
    "Geraint",
    "Giorgio",
    "Gregory",
    "Hans",
    "Jacek",
    "Jan",
    "Joey",
    "Justin",
    "Karl",
    "Kevin",
    "Laurent",
    "Liam",
    "Mads",
    "Mathieu",
    "Matthew",
    "Maxim",
    "Miguel",
    "Pedro",
    "Remi",
    "Ricardo",
    "Ruben",
    "Russell",
    "Sergio",
    "Stephen",
    "Takumi",
    "Thiago",
    "Zayd",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voices_find_somebody_to_speak_for_them() {
        let installed: Vec<String> = ["kal", "awb_time", "kal16", "awb", "rms", "slt"].map(str::to_owned).into();
        let cases = [
            ("", "", "rms"),
            ("man", "en-US", "rms"),
            ("man", "en-GB", "awb"),
            ("woman", "en-GB", "slt"),
            ("alice", "fr-FR", "slt"),
            ("Polly.Joanna", "", "slt"),
            ("Polly.Matthew-Neural", "", "rms"),
            ("Polly.Brian", "en-GB", "awb"),
            ("Google.en-US-Standard-B", "", "rms"),
            ("Google.en-US-Chirp3-HD-Aoede", "", "slt"),
            ("nobody", "xx", "rms"),
        ];
        for (voice, language, expected) in cases {
            assert_eq!(flite_voice(voice, language, &installed), Some(expected), "{voice} {language}");
        }
        assert_eq!(flite_voice("woman", "", &["kal".to_owned()]), Some("kal"));
        assert_eq!(flite_voice("woman", "", &["other".to_owned()]), Some("other"));
        assert_eq!(flite_voice("woman", "", &[]), None);
    }
}
