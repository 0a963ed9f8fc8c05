//! `X-Twilio-Signature`: what lets a customer's server know that a request is ours.
//!
//! HMAC-SHA1 of the URL and, for a form, of every parameter sorted by name, keyed by the account's auth token. The URL
//! is signed byte for byte as it is asked for: with port, query and userinfo, without fragment.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::secret::Secret;

/// Signs a request without a form: GET, a WebSocket's handshake, or JSON with [`body_sha256`] in its query.
pub fn sign_url(token: &Secret, url: &str) -> String {
    encode(mac(token, url))
}

/// Signs a POST of a form.
///
/// A name that occurs several times counts with its distinct values in order, as the validators of the SDKs do it.
pub fn sign_form(token: &Secret, url: &str, params: &[(String, String)]) -> String {
    let mut sorted: Vec<&(String, String)> = params.iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut mac = mac(token, url);
    for (name, value) in sorted {
        mac.update(name.as_bytes());
        mac.update(value.as_bytes());
    }
    encode(mac)
}

/// What goes into the query of a request with a JSON body, as `bodySHA256`.
pub fn body_sha256(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(token: &Secret, url: &str) -> Hmac<Sha1> {
    let mut mac = Hmac::<Sha1>::new_from_slice(token.expose().as_bytes()).expect("hmac takes a key of any length");
    mac.update(url.as_bytes());
    mac
}

fn encode(mac: Hmac<Sha1>) -> String {
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Secret {
        Secret::new("12345")
    }

    fn params(text: &[(&str, &str)]) -> Vec<(String, String)> {
        text.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    const FORM: &[(&str, &str)] = &[
        ("To", "+18005551212"),
        ("CallSid", "CA1234567890ABCDE"),
        ("Digits", "1234"),
        ("Caller", "+14158675309"),
        ("From", "+14158675309"),
    ];

    #[test]
    fn cr_01_vector_a_form_is_signed_sorted() {
        let url = "https://mycompany.com/myapp.php?foo=1&bar=2";
        assert_eq!(sign_form(&token(), url, &params(FORM)), "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
        assert_ne!(sign_form(&Secret::new("12346"), url, &params(FORM)), "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
    }

    #[test]
    fn cr_02_and_cr_03_vectors_b_and_f_url_alone_is_signed_as_it_stands() {
        let vectors = [
            ("https://h.example/v", "vm9Xut9NzRnPyZ9JBbTSp/e/oek="),
            ("https://h.example:443/v", "K+5AYXEYUXLVWP3tKrB5ZYWTXTM="),
            ("http://h.example:8080/v", "6xjGoX0XJQrTY93a6oUwysxlB1o="),
            ("wss://h.example/media", "iipxWStCPwHv8TIpyhnkV93xQtA="),
        ];
        for (url, signature) in vectors {
            assert_eq!(sign_url(&token(), url), signature, "{url}");
            assert_eq!(sign_form(&token(), url, &[]), signature, "{url}");
        }
    }

    #[test]
    fn vector_d_repeated_names_count_with_distinct_values() {
        let repeated = params(&[("A", "2"), ("A", "1"), ("A", "2"), ("B", "")]);
        assert_eq!(sign_form(&token(), "https://h/v", &repeated), "ZZbHF0kT5hVGBd3zF+GGtL7i658=");
    }

    #[test]
    fn vector_e_json_is_signed_by_the_hash_in_its_url() {
        let hash = body_sha256(b"{\"a\":1}");
        assert_eq!(hash, "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862");
        let url = format!("https://h.example/j?bodySHA256={hash}");
        assert_eq!(sign_url(&token(), &url), "/cLsugLAHAjP952Mk6kJIb+dunc=");
    }

    #[test]
    fn secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", token()), "Secret(***)");
    }
}
