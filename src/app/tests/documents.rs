//! What a customer's server sees, and what comes back of its answers.

use super::*;
use crate::app::signature::{sign_form, sign_url};
use crate::secret::Secret;

#[tokio::test]
async fn threat_24_form_is_signed_over_the_url_that_is_asked() {
    let server = Server::start(|_, _| document("<Response/>")).await;
    let url = server.at("/voice?a=%2f&b=1");
    let params = [("To", "+1 5"), ("From", "a&b"), ("To", "twice")];
    let fetched = client().fetch(post(format!("{url}#rc=2&rp=all"), &params)).await.expect("the server answers");
    assert_eq!(fetched.content_type.as_deref(), Some("text/xml"));
    assert_eq!((fetched.url, &fetched.body[..]), (url.clone(), b"<Response/>".as_slice()));
    let seen = &server.seen()[0];
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/voice?a=%2f&b=1"));
    assert_eq!(seen.body, "To=%2B1+5&From=a%26b");
    assert_eq!(seen.header("content-type"), Some("application/x-www-form-urlencoded; charset=UTF-8"));
    assert_eq!(seen.header("user-agent"), Some("TwilioProxy/1.1"));
    assert_eq!(seen.header("accept"), Some("*/*"));
    assert_eq!(seen.header("accept-encoding"), None);
    let params = params[..2].iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let signature = sign_form(&Secret::new("12345"), &url, &params.collect::<Vec<_>>());
    assert_eq!(seen.header("x-twilio-signature"), Some(signature.as_str()));
}

#[tokio::test]
async fn cr_02_get_appends_to_the_query_and_signs_it() {
    let server = Server::start(|_, _| document("<Response/>")).await;
    let fetched = client().fetch(get(server.at("/v?x=1"), &[("To", "+1"), ("A", "b c")])).await;
    let seen = &server.seen()[0];
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/v?x=1&To=%2B1&A=b+c"));
    let signature = sign_url(&Secret::new("12345"), &server.at(&seen.target));
    assert_eq!(seen.header("x-twilio-signature"), Some(signature.as_str()));
    assert_eq!(seen.header("content-type"), None);
    assert_eq!(
        fetched.map(|fetched| fetched.url),
        Ok(server.at("/v?x=1")),
        "the base of relative urls is the customer's"
    );
}

#[tokio::test]
async fn cr_03_userinfo_is_sent_as_basic_and_signed() {
    let server = Server::start(|_, _| document("")).await;
    let url = server.url.replace("http://", "http://user:secret@") + "/";
    client().fetch(post(url.clone(), &[])).await.expect("the server answers");
    let seen = &server.seen()[0];
    assert_eq!(seen.header("authorization"), Some("Basic dXNlcjpzZWNyZXQ="));
    assert_eq!(seen.header("x-twilio-signature"), Some(sign_url(&Secret::new("12345"), &url).as_str()));
}

#[tokio::test]
async fn cr_11_cookies_come_back_within_the_call_only() {
    let server =
        Server::start(|_, _| response("200 OK", "Set-Cookie: sid=s1; Path=/\r\nSet-Cookie: b=2\r\n", "")).await;
    let client = client();
    client.fetch(post(server.at("/a"), &[])).await.expect("the server answers");
    client.fetch(post(server.at("/b"), &[])).await.expect("the server answers");
    client
        .fetch(FetchRequest { call: CallSid::new(8), ..post(server.at("/c"), &[]) })
        .await
        .expect("the server answers");
    client.end_call(CALL);
    client.fetch(post(server.at("/d"), &[])).await.expect("the server answers");
    let cookies: Vec<_> = server.seen().iter().map(|seen| seen.header("cookie").map(str::to_owned)).collect();
    assert_eq!(cookies, [None, Some("sid=s1; b=2".to_owned()), None, None]);
}

#[tokio::test]
async fn connection_is_kept_between_requests() {
    let server = Server::start(|_, _| document("<Response/>")).await;
    let client = client();
    for _ in 0..5 {
        client.fetch(post(server.at("/"), &[])).await.expect("the server answers");
    }
    assert_eq!((server.seen().len(), server.connections()), (5, 1));
}

#[tokio::test]
async fn redirect_is_followed_by_a_signed_get_without_the_form() {
    let server = Server::start(|seen, _| match seen.target.as_str() {
        "/a" => redirect("/b?x=1#frag"),
        _ => document("<Response/>"),
    })
    .await;
    let fetched = client().fetch(post(server.at("/a"), &[("To", "1")])).await.expect("the server answers");
    assert_eq!(fetched.url, server.at("/b?x=1"));
    let seen = &server.seen()[1];
    assert_eq!((seen.method.as_str(), seen.target.as_str(), seen.body.as_str()), ("GET", "/b?x=1", ""));
    let signature = sign_url(&Secret::new("12345"), &fetched.url);
    assert_eq!(seen.header("x-twilio-signature"), Some(signature.as_str()));
}

#[tokio::test]
async fn form_goes_where_307_and_308_lead() {
    let server = Server::start(|seen, _| match seen.target.as_str() {
        "/a" => response("307 Temporary Redirect", "Location: /b\r\n", ""),
        "/b" => response("308 Permanent Redirect", "Location: /c\r\n", ""),
        "/c" => redirect("/d"),
        "/d" => response("307 Temporary Redirect", "Location: /e\r\n", ""),
        _ => document("<Response/>"),
    })
    .await;
    let fetched = client().fetch(post(server.at("/a"), &[("To", "1")])).await.expect("the server answers");
    assert_eq!(fetched.url, server.at("/e"));
    let seen = server.seen();
    let asked: Vec<_> = seen.iter().map(|one| (one.method.as_str(), one.body.as_str())).collect();
    assert_eq!(asked, [("POST", "To=1"), ("POST", "To=1"), ("POST", "To=1"), ("GET", ""), ("GET", "")]);
    let signature = seen[2].header("x-twilio-signature");
    assert_ne!(signature, seen[1].header("x-twilio-signature"), "each URL has a signature of its own");
}

#[tokio::test]
async fn threat_21_redirect_loop_ends_after_ten() {
    let server = Server::start(|_, _| redirect("/")).await;
    let failure = client().fetch(post(server.at("/"), &[])).await.expect_err("the loop has no end");
    assert_eq!((failure.cause, failure.code()), (FetchError::TooManyRedirects, 11215));
    assert_eq!(server.seen().len(), 11);
}

#[tokio::test]
async fn statuses_are_answers_or_errors() {
    for (status, expected) in [
        ("200 OK", None),
        ("204 No Content", None),
        ("404 Not Found", Some(404)),
        ("500 No", Some(500)),
        ("302 Found", Some(302)),
    ] {
        let server = Server::start(move |_, _| response(status, "", "")).await;
        let cause =
            client().fetch(post(server.at("/"), &[])).await.err().map(|failure| (failure.code(), failure.cause));
        assert_eq!(cause, expected.map(|code| (11200, FetchError::Status(code))), "{status}");
        assert_eq!(server.seen().len(), 1, "no status is tried again by default");
    }
}

#[tokio::test]
async fn retries_follow_the_fragment_with_one_token() {
    let server = Server::start(|_, count| match count {
        1 | 2 => response("503 Wait", "", ""),
        _ => document("<Response/>"),
    })
    .await;
    let client = client();
    client.fetch(post(server.at("/#rc=2&rp=5xx"), &[])).await.expect("the third try is answered");
    let tokens: Vec<_> =
        server.seen().iter().map(|seen| seen.header("i-twilio-idempotency-token").map(str::to_owned)).collect();
    assert_eq!(tokens.len(), 3);
    assert!(tokens[0].is_some() && tokens.iter().all(|token| *token == tokens[0]));
    client.fetch(post(server.at("/"), &[])).await.expect("the server answers");
    assert_ne!(server.seen()[3].header("i-twilio-idempotency-token").map(str::to_owned), tokens[0]);
}

#[tokio::test]
async fn connection_that_the_server_closed_while_idle_is_no_failure() {
    let server = Server::start(|_, _| Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())).await;
    let client = client();
    for _ in 0..10 {
        client.fetch(post(server.at("/"), &[])).await.expect("the server answers");
    }
}

#[tokio::test]
async fn password_does_not_show_in_a_failure() {
    let server = Server::start(|_, _| response("500 No", "", "")).await;
    let url = server.url.replace("http://", "http://user:secret@") + "/";
    let failure = client().fetch(post(url, &[])).await.expect_err("500 is an error");
    assert!(!format!("{failure} {failure:?}").contains("secret"));
    assert!(failure.url.contains("***@127.0.0.1"));
}

#[tokio::test]
async fn audio_in_a_documents_place_is_left_to_the_player() {
    let body = "x".repeat(200_000);
    let server = Server::start(move |_, _| response("200 OK", "Content-Type: Audio/mpeg\r\n", &body)).await;
    let fetched = client().fetch(post(server.at("/a.mp3"), &[])).await.expect("the server answers");
    assert_eq!((fetched.body.len(), fetched.content_type.as_deref()), (0, Some("Audio/mpeg")));
}

#[tokio::test]
async fn not_modified_is_no_answer_to_an_unconditional_request() {
    let server = Server::start(|_, _| response("304 Not Modified", "", "")).await;
    let failure = client().fetch(post(server.at("/"), &[])).await.expect_err("nothing was asked conditionally");
    assert_eq!(failure.cause, FetchError::Status(304));
}
