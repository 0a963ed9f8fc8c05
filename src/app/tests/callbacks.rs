//! Status callbacks: order, retries, bounds.

use std::time::Duration;

use super::*;
use crate::app::callback::{CallbackLimits, CallbackRefused, CallbackRequest, Callbacks};
use crate::secret::Secret;

fn limits() -> CallbackLimits {
    CallbackLimits { pause: Duration::from_millis(1), ..CallbackLimits::default() }
}

fn callback(url: String, call: u128, number: usize) -> CallbackRequest {
    CallbackRequest {
        event: None,
        account: AccountSid::new(1),
        call: CallSid::new(call),
        token: Secret::new("12345"),
        url,
        method: Method::POST,
        params: vec![("SequenceNumber".into(), number.to_string())],
    }
}

fn bodies(server: &Server) -> Vec<String> {
    server.seen().into_iter().map(|seen| seen.body).collect()
}

#[tokio::test]
async fn callbacks_of_a_call_come_in_order_with_retries() {
    // Every second request fails.
    let server = Server::start(|_, count| match count % 2 {
        1 => response("503 Wait", "", ""),
        _ => response("200 OK", "", "ignored"),
    })
    .await;
    let callbacks = Callbacks::new(client(), limits());
    for number in 0..4 {
        assert_eq!(callbacks.deliver(callback(server.at("/"), 1, number)), Ok(()));
    }
    callbacks.drain().await;
    let expected: Vec<_> =
        (0..4).flat_map(|number| [number, number]).map(|number| format!("SequenceNumber={number}")).collect();
    assert_eq!(bodies(&server), expected);
    let tokens: Vec<_> =
        server.seen().iter().map(|seen| seen.header("i-twilio-idempotency-token").map(str::to_owned)).collect();
    assert!(tokens.chunks(2).all(|pair| pair[0] == pair[1]));
    assert_ne!(tokens[0], tokens[2]);
}

#[tokio::test]
async fn callback_is_given_up_after_its_tries_and_the_next_one_comes() {
    let server = Server::start(|seen, _| match seen.body.as_str() {
        "SequenceNumber=0" => response("500 No", "", ""),
        "SequenceNumber=1" => response("404 No", "", ""),
        _ => response("200 OK", "", ""),
    })
    .await;
    let callbacks = Callbacks::new(client(), CallbackLimits { tries: 3, ..limits() });
    for number in 0..3 {
        assert_eq!(callbacks.deliver(callback(server.at("/"), 1, number)), Ok(()));
    }
    callbacks.drain().await;
    let numbers: Vec<_> = bodies(&server).iter().map(|body| body.rsplit('=').next().map(str::to_owned)).collect();
    let expected = ["0", "0", "0", "1", "2"].map(|number| Some(number.to_owned()));
    assert_eq!(numbers, expected);
}

#[tokio::test]
async fn full_queues_lose_the_newest() {
    let server = Server::start(|_, _| Reply::Hang(Vec::new())).await;
    let callbacks = Callbacks::new(client(), CallbackLimits { per_call: 2, total: 3, ..limits() });
    let results: Vec<_> = [1, 1, 1, 2, 3].map(|call| callbacks.deliver(callback(server.at("/"), call, 0))).into();
    let expected = [Ok(()), Ok(()), Err(CallbackRefused::CallIsFull), Ok(()), Err(CallbackRefused::AllIsFull)];
    assert_eq!(results, expected);
}

#[tokio::test]
async fn call_that_hangs_holds_no_other_back() {
    let server = Server::start(|seen, _| match seen.target.as_str() {
        "/hang" => Reply::Hang(Vec::new()),
        _ => response("200 OK", "", ""),
    })
    .await;
    let callbacks = Callbacks::new(client(), limits());
    assert_eq!(callbacks.deliver(callback(server.at("/hang#tt=200&rc=0"), 1, 0)), Ok(()));
    for number in 0..3 {
        assert_eq!(callbacks.deliver(callback(server.at("/"), 2, number)), Ok(()));
    }
    callbacks.drain().await;
    let targets: Vec<_> = server.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets.iter().filter(|target| *target == "/").count(), 3);
    assert_eq!(targets.iter().filter(|target| *target == "/hang").count(), 5);
}
