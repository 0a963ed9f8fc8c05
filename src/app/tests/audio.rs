//! The audio cache against a real server (CR-12).

use std::sync::Arc;

use super::*;
use crate::app::audio::clip::Clips;
use crate::app::audio::{AudioCache, AudioLimits, AudioRequest};
use crate::secret::Secret;

fn cache() -> AudioCache {
    AudioCache::new(client(), Arc::new(Clips::new(1_000_000)), AudioLimits::default())
}

fn wanted(url: String) -> AudioRequest {
    AudioRequest { account: AccountSid::new(1), call: CALL, token: Secret::new("12345"), url }
}

/// Bare G.711: any text is audio.
fn audio(headers: &str, body: &str) -> Reply {
    response("200 OK", &format!("Content-Type: audio/basic\r\n{headers}"), body)
}

#[tokio::test]
async fn cr_12_fresh_audio_is_not_asked_for_again() {
    let server = Server::start(|_, _| audio("Cache-Control: max-age=600\r\n", "abcd")).await;
    let cache = cache();
    let first = cache.clip(wanted(server.at("/a.ulaw"))).await.expect("the server has audio");
    assert_eq!((first.samples.len(), server.seen().len()), (8, 1));
    assert_eq!(cache.clip(wanted(server.at("/a.ulaw"))).await, Ok(first));
    assert_eq!(server.seen().len(), 1);
    let seen = &server.seen()[0];
    assert_eq!(seen.method, "GET");
    let signature = crate::app::signature::sign_url(&Secret::new("12345"), &server.at("/a.ulaw"));
    assert_eq!(seen.header("x-twilio-signature"), Some(signature.as_str()));
}

#[tokio::test]
async fn cr_12_stale_audio_is_asked_for_by_its_etag() {
    let server = Server::start(|seen, count| match (seen.header("if-none-match"), count) {
        (None, _) => audio("ETag: \"v1\"\r\n", "abcd"),
        (Some("\"v1\""), 2) => response("304 Not Modified", "", ""),
        (Some(_), _) => audio("ETag: \"v2\"\r\n", "efgh"),
    })
    .await;
    let cache = cache();
    let mut clips = Vec::new();
    for _ in 0..3 {
        clips.push(cache.clip(wanted(server.at("/a"))).await.expect("the server has audio"));
    }
    assert_eq!(clips[0], clips[1]);
    assert_ne!(clips[1], clips[2]);
    let marks: Vec<_> = server.seen().iter().map(|seen| seen.header("if-none-match").map(str::to_owned)).collect();
    assert_eq!(marks, [None, Some("\"v1\"".into()), Some("\"v1\"".into())]);
}

#[tokio::test]
async fn cr_12_hundred_misses_at_once_are_one_fetch() {
    let server = Server::start(|_, _| audio("", "abcd")).await;
    let cache = cache();
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (cache, request) = (cache.clone(), wanted(server.at("/a")));
            tokio::spawn(async move { cache.clip(request).await })
        })
        .collect();
    for task in tasks {
        assert!(task.await.expect("the task ends").is_ok());
    }
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn one_account_does_not_hear_what_another_fetched() {
    let server = Server::start(|_, _| audio("Cache-Control: max-age=600\r\n", "abcd")).await;
    let cache = cache();
    for account in [1, 2, 1, 2] {
        let request = AudioRequest { account: AccountSid::new(account), ..wanted(server.at("/a")) };
        cache.clip(request).await.expect("the server has audio");
    }
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn waiter_that_goes_away_leaves_the_fetch_to_the_others() {
    let server = Server::start(|_, _| audio("Cache-Control: max-age=600\r\n", "abcd")).await;
    let cache = cache();
    let first = tokio::spawn({
        let (cache, request) = (cache.clone(), wanted(server.at("/a")));
        async move { cache.clip(request).await }
    });
    tokio::task::yield_now().await;
    first.abort();
    assert!(cache.clip(wanted(server.at("/a"))).await.is_ok());
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn clip_that_had_to_go_is_fetched_again() {
    let server = Server::start(|_, _| audio("Cache-Control: max-age=600\r\nETag: \"a\"\r\n", "abcd")).await;
    let cache = AudioCache::new(client(), Arc::new(Clips::new(0)), AudioLimits::default());
    for _ in 0..2 {
        cache.clip(wanted(server.at("/a"))).await.expect("the server has audio");
    }
    assert_eq!(server.seen().iter().filter(|seen| seen.header("if-none-match").is_some()).count(), 0);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn what_cannot_be_played_has_its_number() {
    let cases: [(&str, &str, u32); 3] = [
        ("200 OK", "Content-Type: text/html\r\n", 12300),
        ("200 OK", "Content-Type: audio/mpeg\r\n", 12300),
        ("404 No", "", 11200),
    ];
    for (status, headers, code) in cases {
        let server = Server::start(move |_, _| response(status, headers, "<html>no</html>")).await;
        let failure = cache().clip(wanted(server.at("/a"))).await.expect_err("it is no audio");
        assert_eq!(failure.code(), code, "{status} {headers}");
    }
}

#[tokio::test]
async fn threat_22_file_over_the_limit_is_cut() {
    let server = Server::start(|_, _| audio("", &"x".repeat(5_000))).await;
    let limits = AudioLimits { max_file_bytes: 4_000, ..AudioLimits::default() };
    let cache = AudioCache::new(client(), Arc::new(Clips::new(1_000_000)), limits);
    let failure = cache.clip(wanted(server.at("/a"))).await.expect_err("it is too large");
    assert_eq!(failure.cause, FetchError::TooLarge { limit_bytes: 4_000 });
}
