//! The four transactions, state by state and input by input (RFC 3261 s17, RFC 6026 s7), and their retransmissions.
//!
//! A row is: state, time of the input, input, what is sent, what is told, next state, next deadline. The state was
//! entered at time zero; times are milliseconds. Each table holds every input of its role in every state, which
//! `complete` checks; inputs of the other role are tried in all states by `other_role_changes_nothing`.

use bytes::Bytes;
use dialtone_sip::time::Mono;
use dialtone_sip::transaction::{
    ClientInvite, ClientNonInvite, Input, ServerInvite, ServerNonInvite, State, Step, Tell, Transaction,
};

use In::{Ack, Got, Repeated, Say, Timer, Transport};
use State::{Accepted, Calling, Completed, Confirmed, Proceeding, Terminated, Trying};
use Tell::{Response, TimedOut, TransportFailed};

/// An input, without its bytes: those of a response by its class are `1xx`, `2xx` and `fail`, of an ACK `ack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum In {
    /// A response was received.
    Got(u16),
    /// The user answers.
    Say(u16),
    Repeated,
    Ack,
    Timer,
    Transport,
}

type Row = (State, u64, In, Option<&'static str>, Option<Tell>, State, Option<u64>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::enum_variant_names, reason = "the names of RFC 3261")]
enum Kind {
    ClientInvite,
    ClientNonInvite,
    ServerInvite,
    ServerNonInvite,
}

const UDP: bool = false;
const TCP: bool = true;

#[rustfmt::skip]
const CLIENT_INVITE_UDP: &[Row] = &[
    (Calling,      100, Got(180),  None,            Some(Response),        Proceeding, None),
    (Calling,      100, Got(200),  None,            Some(Response),        Accepted,   Some(32_100)),
    (Calling,      100, Got(486),  Some("ack"),     Some(Response),        Completed,  Some(32_100)),
    (Calling,      499, Timer,     None,            None,                  Calling,    Some(500)),
    (Calling,      500, Timer,     Some("request"), None,                  Calling,    Some(1_500)),
    (Calling,   32_000, Timer,     None,            Some(TimedOut),        Terminated, None),
    (Calling,      100, Transport, None,            Some(TransportFailed), Terminated, None),
    (Proceeding,   100, Got(180),  None,            Some(Response),        Proceeding, None),
    (Proceeding,   100, Got(200),  None,            Some(Response),        Accepted,   Some(32_100)),
    (Proceeding,   100, Got(486),  Some("ack"),     Some(Response),        Completed,  Some(32_100)),
    (Proceeding, 99_000, Timer,    None,            None,                  Proceeding, None),
    (Proceeding,   100, Transport, None,            Some(TransportFailed), Terminated, None),
    (Accepted,     100, Got(180),  None,            None,                  Accepted,   Some(32_000)),
    (Accepted,     100, Got(200),  None,            Some(Response),        Accepted,   Some(32_000)),
    (Accepted,     100, Got(486),  None,            None,                  Accepted,   Some(32_000)),
    (Accepted,  31_999, Timer,     None,            None,                  Accepted,   Some(32_000)),
    (Accepted,  32_000, Timer,     None,            None,                  Terminated, None),
    // Its 2xx may still come again, by another connection.
    (Accepted,     100, Transport, None,            None,                  Accepted,   Some(32_000)),
    (Completed,    100, Got(180),  None,            None,                  Completed,  Some(32_000)),
    (Completed,    100, Got(200),  None,            None,                  Completed,  Some(32_000)),
    (Completed,    100, Got(486),  Some("ack"),     None,                  Completed,  Some(32_000)),
    (Completed, 31_999, Timer,     None,            None,                  Completed,  Some(32_000)),
    (Completed, 32_000, Timer,     None,            None,                  Terminated, None),
    // RFC 3261 figure 5 informs the user; ours knows the final response, and nothing follows from more.
    (Completed,    100, Transport, None,            None,                  Terminated, None),
    (Terminated,   100, Got(180),  None,            None,                  Terminated, None),
    (Terminated,   100, Got(200),  None,            None,                  Terminated, None),
    (Terminated,   100, Got(486),  None,            None,                  Terminated, None),
    (Terminated,   100, Timer,     None,            None,                  Terminated, None),
    (Terminated,   100, Transport, None,            None,                  Terminated, None),
];

#[rustfmt::skip]
const CLIENT_INVITE_TCP: &[Row] = &[
    (Calling,      100, Got(180),  None,            Some(Response),        Proceeding, None),
    (Calling,      100, Got(200),  None,            Some(Response),        Accepted,   Some(32_100)),
    (Calling,      100, Got(486),  Some("ack"),     Some(Response),        Terminated, None),
    (Calling,      500, Timer,     None,            None,                  Calling,    Some(32_000)),
    (Calling,   32_000, Timer,     None,            Some(TimedOut),        Terminated, None),
    (Calling,      100, Transport, None,            Some(TransportFailed), Terminated, None),
    (Proceeding,   100, Got(180),  None,            Some(Response),        Proceeding, None),
    (Proceeding,   100, Got(200),  None,            Some(Response),        Accepted,   Some(32_100)),
    (Proceeding,   100, Got(486),  Some("ack"),     Some(Response),        Terminated, None),
    (Proceeding, 99_000, Timer,    None,            None,                  Proceeding, None),
    (Proceeding,   100, Transport, None,            Some(TransportFailed), Terminated, None),
    (Accepted,     100, Got(180),  None,            None,                  Accepted,   Some(32_000)),
    (Accepted,     100, Got(200),  None,            Some(Response),        Accepted,   Some(32_000)),
    (Accepted,     100, Got(486),  None,            None,                  Accepted,   Some(32_000)),
    (Accepted,  32_000, Timer,     None,            None,                  Terminated, None),
    (Accepted,     100, Transport, None,            None,                  Accepted,   Some(32_000)),
    (Terminated,   100, Got(180),  None,            None,                  Terminated, None),
    (Terminated,   100, Got(200),  None,            None,                  Terminated, None),
    (Terminated,   100, Got(486),  None,            None,                  Terminated, None),
    (Terminated,   100, Timer,     None,            None,                  Terminated, None),
    (Terminated,   100, Transport, None,            None,                  Terminated, None),
];

#[rustfmt::skip]
const CLIENT_NON_INVITE_UDP: &[Row] = &[
    (Trying,       100, Got(100),  None,            Some(Response),        Proceeding, Some(500)),
    (Trying,       100, Got(200),  None,            Some(Response),        Completed,  Some(5_100)),
    (Trying,       100, Got(404),  None,            Some(Response),        Completed,  Some(5_100)),
    (Trying,       499, Timer,     None,            None,                  Trying,     Some(500)),
    (Trying,       500, Timer,     Some("request"), None,                  Trying,     Some(1_500)),
    (Trying,    32_000, Timer,     None,            Some(TimedOut),        Terminated, None),
    (Trying,       100, Transport, None,            Some(TransportFailed), Terminated, None),
    (Proceeding,   100, Got(100),  None,            Some(Response),        Proceeding, Some(500)),
    (Proceeding,   100, Got(200),  None,            Some(Response),        Completed,  Some(5_100)),
    (Proceeding,   100, Got(404),  None,            Some(Response),        Completed,  Some(5_100)),
    // From here on every T2.
    (Proceeding,   500, Timer,     Some("request"), None,                  Proceeding, Some(4_500)),
    (Proceeding, 32_000, Timer,    None,            Some(TimedOut),        Terminated, None),
    (Proceeding,   100, Transport, None,            Some(TransportFailed), Terminated, None),
    (Completed,    100, Got(100),  None,            None,                  Completed,  Some(5_000)),
    (Completed,    100, Got(200),  None,            None,                  Completed,  Some(5_000)),
    (Completed,    100, Got(404),  None,            None,                  Completed,  Some(5_000)),
    (Completed,  4_999, Timer,     None,            None,                  Completed,  Some(5_000)),
    (Completed,  5_000, Timer,     None,            None,                  Terminated, None),
    (Completed,    100, Transport, None,            None,                  Terminated, None),
    (Terminated,   100, Got(100),  None,            None,                  Terminated, None),
    (Terminated,   100, Got(200),  None,            None,                  Terminated, None),
    (Terminated,   100, Got(404),  None,            None,                  Terminated, None),
    (Terminated,   100, Timer,     None,            None,                  Terminated, None),
    (Terminated,   100, Transport, None,            None,                  Terminated, None),
];

#[rustfmt::skip]
const CLIENT_NON_INVITE_TCP: &[Row] = &[
    (Trying,       100, Got(100),  None,            Some(Response),        Proceeding, Some(32_000)),
    (Trying,       100, Got(200),  None,            Some(Response),        Terminated, None),
    (Trying,       100, Got(404),  None,            Some(Response),        Terminated, None),
    (Trying,       500, Timer,     None,            None,                  Trying,     Some(32_000)),
    (Trying,    32_000, Timer,     None,            Some(TimedOut),        Terminated, None),
    (Trying,       100, Transport, None,            Some(TransportFailed), Terminated, None),
    (Proceeding,   100, Got(100),  None,            Some(Response),        Proceeding, Some(32_000)),
    (Proceeding,   100, Got(200),  None,            Some(Response),        Terminated, None),
    (Proceeding,   100, Got(404),  None,            Some(Response),        Terminated, None),
    (Proceeding,   500, Timer,     None,            None,                  Proceeding, Some(32_000)),
    (Proceeding, 32_000, Timer,    None,            Some(TimedOut),        Terminated, None),
    (Proceeding,   100, Transport, None,            Some(TransportFailed), Terminated, None),
    (Terminated,   100, Got(100),  None,            None,                  Terminated, None),
    (Terminated,   100, Got(200),  None,            None,                  Terminated, None),
    (Terminated,   100, Got(404),  None,            None,                  Terminated, None),
    (Terminated,   100, Timer,     None,            None,                  Terminated, None),
    (Terminated,   100, Transport, None,            None,                  Terminated, None),
];

/// `Proceeding` was entered by a 180, so that there is a response to repeat.
#[rustfmt::skip]
const SERVER_INVITE_UDP: &[Row] = &[
    (Proceeding,   100, Say(183),  Some("1xx"),     None,                  Proceeding, None),
    (Proceeding,   100, Say(200),  Some("2xx"),     None,                  Accepted,   Some(32_100)),
    (Proceeding,   100, Say(486),  Some("fail"),    None,                  Completed,  Some(600)),
    (Proceeding,   100, Repeated,  Some("1xx"),     None,                  Proceeding, None),
    (Proceeding,   100, Ack,       None,            None,                  Proceeding, None),
    (Proceeding, 99_000, Timer,    None,            None,                  Proceeding, None),
    // RFC 6026 stays; our user gives the call up, so nothing else would end the transaction.
    (Proceeding,   100, Transport, None,            Some(TransportFailed), Terminated, None),
    (Accepted,     100, Say(183),  None,            None,                  Accepted,   Some(32_000)),
    (Accepted,     100, Say(200),  Some("2xx"),     None,                  Accepted,   Some(32_000)),
    (Accepted,     100, Say(486),  None,            None,                  Accepted,   Some(32_000)),
    (Accepted,     100, Repeated,  None,            None,                  Accepted,   Some(32_000)),
    // The stack gives this ACK to the dialog, as RFC 6026 asks ("to TU").
    (Accepted,     100, Ack,       None,            None,                  Accepted,   Some(32_000)),
    (Accepted,  31_999, Timer,     None,            None,                  Accepted,   Some(32_000)),
    (Accepted,  32_000, Timer,     None,            None,                  Terminated, None),
    (Accepted,     100, Transport, None,            None,                  Accepted,   Some(32_000)),
    (Completed,    100, Say(183),  None,            None,                  Completed,  Some(500)),
    (Completed,    100, Say(200),  None,            None,                  Completed,  Some(500)),
    (Completed,    100, Say(486),  None,            None,                  Completed,  Some(500)),
    (Completed,    100, Repeated,  Some("fail"),    None,                  Completed,  Some(500)),
    (Completed,    100, Ack,       None,            None,                  Confirmed,  Some(5_100)),
    (Completed,    500, Timer,     Some("fail"),    None,                  Completed,  Some(1_500)),
    (Completed, 32_000, Timer,     None,            Some(TimedOut),        Terminated, None),
    (Completed,    100, Transport, None,            Some(TransportFailed), Terminated, None),
    (Confirmed,    100, Say(183),  None,            None,                  Confirmed,  Some(5_000)),
    (Confirmed,    100, Say(200),  None,            None,                  Confirmed,  Some(5_000)),
    (Confirmed,    100, Say(486),  None,            None,                  Confirmed,  Some(5_000)),
    (Confirmed,    100, Repeated,  None,            None,                  Confirmed,  Some(5_000)),
    (Confirmed,    100, Ack,       None,            None,                  Confirmed,  Some(5_000)),
    (Confirmed,  4_999, Timer,     None,            None,                  Confirmed,  Some(5_000)),
    (Confirmed,  5_000, Timer,     None,            None,                  Terminated, None),
    (Confirmed,    100, Transport, None,            None,                  Terminated, None),
    (Terminated,   100, Say(183),  None,            None,                  Terminated, None),
    (Terminated,   100, Say(200),  None,            None,                  Terminated, None),
    (Terminated,   100, Say(486),  None,            None,                  Terminated, None),
    (Terminated,   100, Repeated,  None,            None,                  Terminated, None),
    (Terminated,   100, Ack,       None,            None,                  Terminated, None),
    (Terminated,   100, Timer,     None,            None,                  Terminated, None),
    (Terminated,   100, Transport, None,            None,                  Terminated, None),
];

#[rustfmt::skip]
const SERVER_INVITE_TCP: &[Row] = &[
    (Proceeding,   100, Say(183),  Some("1xx"),     None,                  Proceeding, None),
    (Proceeding,   100, Say(200),  Some("2xx"),     None,                  Accepted,   Some(32_100)),
    (Proceeding,   100, Say(486),  Some("fail"),    None,                  Completed,  Some(32_100)),
    (Proceeding,   100, Repeated,  Some("1xx"),     None,                  Proceeding, None),
    (Proceeding,   100, Ack,       None,            None,                  Proceeding, None),
    (Proceeding, 99_000, Timer,    None,            None,                  Proceeding, None),
    (Proceeding,   100, Transport, None,            Some(TransportFailed), Terminated, None),
    (Accepted,     100, Say(183),  None,            None,                  Accepted,   Some(32_000)),
    (Accepted,     100, Say(200),  Some("2xx"),     None,                  Accepted,   Some(32_000)),
    (Accepted,     100, Say(486),  None,            None,                  Accepted,   Some(32_000)),
    (Accepted,     100, Repeated,  None,            None,                  Accepted,   Some(32_000)),
    (Accepted,     100, Ack,       None,            None,                  Accepted,   Some(32_000)),
    (Accepted,  32_000, Timer,     None,            None,                  Terminated, None),
    (Accepted,     100, Transport, None,            None,                  Accepted,   Some(32_000)),
    (Completed,    100, Say(183),  None,            None,                  Completed,  Some(32_000)),
    (Completed,    100, Say(200),  None,            None,                  Completed,  Some(32_000)),
    (Completed,    100, Say(486),  None,            None,                  Completed,  Some(32_000)),
    (Completed,    100, Repeated,  Some("fail"),    None,                  Completed,  Some(32_000)),
    (Completed,    100, Ack,       None,            None,                  Terminated, None),
    (Completed,    500, Timer,     None,            None,                  Completed,  Some(32_000)),
    (Completed, 32_000, Timer,     None,            Some(TimedOut),        Terminated, None),
    (Completed,    100, Transport, None,            Some(TransportFailed), Terminated, None),
    (Terminated,   100, Say(183),  None,            None,                  Terminated, None),
    (Terminated,   100, Say(200),  None,            None,                  Terminated, None),
    (Terminated,   100, Say(486),  None,            None,                  Terminated, None),
    (Terminated,   100, Repeated,  None,            None,                  Terminated, None),
    (Terminated,   100, Ack,       None,            None,                  Terminated, None),
    (Terminated,   100, Timer,     None,            None,                  Terminated, None),
    (Terminated,   100, Transport, None,            None,                  Terminated, None),
];

#[rustfmt::skip]
const SERVER_NON_INVITE_UDP: &[Row] = &[
    (Trying,       100, Say(100),  Some("1xx"),     None,                  Proceeding, None),
    (Trying,       100, Say(200),  Some("2xx"),     None,                  Completed,  Some(32_100)),
    (Trying,       100, Say(404),  Some("fail"),    None,                  Completed,  Some(32_100)),
    (Trying,       100, Repeated,  None,            None,                  Trying,     None),
    (Trying,    99_000, Timer,     None,            None,                  Trying,     None),
    (Trying,       100, Transport, None,            Some(TransportFailed), Terminated, None),
    (Proceeding,   100, Say(100),  Some("1xx"),     None,                  Proceeding, None),
    (Proceeding,   100, Say(200),  Some("2xx"),     None,                  Completed,  Some(32_100)),
    (Proceeding,   100, Say(404),  Some("fail"),    None,                  Completed,  Some(32_100)),
    (Proceeding,   100, Repeated,  Some("1xx"),     None,                  Proceeding, None),
    (Proceeding, 99_000, Timer,    None,            None,                  Proceeding, None),
    (Proceeding,   100, Transport, None,            Some(TransportFailed), Terminated, None),
    (Completed,    100, Say(100),  None,            None,                  Completed,  Some(32_000)),
    (Completed,    100, Say(200),  None,            None,                  Completed,  Some(32_000)),
    (Completed,    100, Say(404),  None,            None,                  Completed,  Some(32_000)),
    (Completed,    100, Repeated,  Some("2xx"),     None,                  Completed,  Some(32_000)),
    (Completed, 31_999, Timer,     None,            None,                  Completed,  Some(32_000)),
    (Completed, 32_000, Timer,     None,            None,                  Terminated, None),
    (Completed,    100, Transport, None,            Some(TransportFailed), Terminated, None),
    (Terminated,   100, Say(100),  None,            None,                  Terminated, None),
    (Terminated,   100, Say(200),  None,            None,                  Terminated, None),
    (Terminated,   100, Say(404),  None,            None,                  Terminated, None),
    (Terminated,   100, Repeated,  None,            None,                  Terminated, None),
    (Terminated,   100, Timer,     None,            None,                  Terminated, None),
    (Terminated,   100, Transport, None,            None,                  Terminated, None),
];

#[rustfmt::skip]
const SERVER_NON_INVITE_TCP: &[Row] = &[
    (Trying,       100, Say(100),  Some("1xx"),     None,                  Proceeding, None),
    (Trying,       100, Say(200),  Some("2xx"),     None,                  Terminated, None),
    (Trying,       100, Say(404),  Some("fail"),    None,                  Terminated, None),
    (Trying,       100, Repeated,  None,            None,                  Trying,     None),
    (Trying,    99_000, Timer,     None,            None,                  Trying,     None),
    (Trying,       100, Transport, None,            Some(TransportFailed), Terminated, None),
    (Proceeding,   100, Say(100),  Some("1xx"),     None,                  Proceeding, None),
    (Proceeding,   100, Say(200),  Some("2xx"),     None,                  Terminated, None),
    (Proceeding,   100, Say(404),  Some("fail"),    None,                  Terminated, None),
    (Proceeding,   100, Repeated,  Some("1xx"),     None,                  Proceeding, None),
    (Proceeding, 99_000, Timer,    None,            None,                  Proceeding, None),
    (Proceeding,   100, Transport, None,            Some(TransportFailed), Terminated, None),
    (Terminated,   100, Say(100),  None,            None,                  Terminated, None),
    (Terminated,   100, Say(200),  None,            None,                  Terminated, None),
    (Terminated,   100, Say(404),  None,            None,                  Terminated, None),
    (Terminated,   100, Repeated,  None,            None,                  Terminated, None),
    (Terminated,   100, Timer,     None,            None,                  Terminated, None),
    (Terminated,   100, Transport, None,            None,                  Terminated, None),
];

const TABLES: [(Kind, bool, &[Row], &[State]); 8] = [
    (Kind::ClientInvite, UDP, CLIENT_INVITE_UDP, &[Calling, Proceeding, Accepted, Completed, Terminated]),
    (Kind::ClientInvite, TCP, CLIENT_INVITE_TCP, &[Calling, Proceeding, Accepted, Terminated]),
    (Kind::ClientNonInvite, UDP, CLIENT_NON_INVITE_UDP, &[Trying, Proceeding, Completed, Terminated]),
    (Kind::ClientNonInvite, TCP, CLIENT_NON_INVITE_TCP, &[Trying, Proceeding, Terminated]),
    (Kind::ServerInvite, UDP, SERVER_INVITE_UDP, &[Proceeding, Accepted, Completed, Confirmed, Terminated]),
    (Kind::ServerInvite, TCP, SERVER_INVITE_TCP, &[Proceeding, Accepted, Completed, Terminated]),
    (Kind::ServerNonInvite, UDP, SERVER_NON_INVITE_UDP, &[Trying, Proceeding, Completed, Terminated]),
    (Kind::ServerNonInvite, TCP, SERVER_NON_INVITE_TCP, &[Trying, Proceeding, Terminated]),
];

#[test]
fn every_row_of_every_state_table_holds() {
    let mut wrong = Vec::new();
    for (kind, reliable, rows, _) in TABLES {
        for row in rows {
            let (state, at, input, send, tell, next, deadline) = *row;
            let mut transaction = in_state(kind, reliable, state);
            let step = transaction.handle(input.with_bytes(), ms(at));
            let found = (step, transaction.state(), transaction.deadline());
            let expected =
                (Step { send: send.map(|text| Bytes::from_static(text.as_bytes())), tell }, next, deadline.map(ms));
            if found != expected {
                wrong.push(format!("{kind:?} reliable={reliable} {row:?}: {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tables_hold_every_input_in_every_state() {
    for (kind, reliable, rows, states) in TABLES {
        for state in states {
            for class in kind.inputs() {
                let found = rows.iter().any(|row| row.0 == *state && row.2.class() == *class);
                assert!(found, "{kind:?} reliable={reliable}: no row for {state:?} and {class}");
            }
        }
    }
}

#[test]
fn inputs_of_the_other_role_change_nothing_in_any_state() {
    for (kind, reliable, _, states) in TABLES {
        let foreign: &[In] = match kind {
            Kind::ClientInvite | Kind::ClientNonInvite => &[Repeated, Ack, Say(180), Say(200), Say(486)],
            Kind::ServerInvite => &[Got(180), Got(200), Got(486)],
            Kind::ServerNonInvite => &[Got(180), Got(200), Got(486), Ack],
        };
        for state in states {
            for input in foreign {
                let mut transaction = in_state(kind, reliable, *state);
                let before = transaction.deadline();
                let step = transaction.handle(input.with_bytes(), ms(100));
                let found = (step, transaction.state(), transaction.deadline());
                assert_eq!(found, (Step::default(), *state, before), "{kind:?} {state:?} {input:?}");
            }
        }
    }
}

#[test]
fn invite_server_without_a_response_yet_has_none_to_repeat() {
    let mut transaction = ServerInvite::new(UDP);
    assert_eq!(transaction.handle(Input::RequestRepeated, ms(1)), Step::default());
}

#[test]
fn timer_a_doubles_and_timer_b_ends_it() {
    let mut transaction = start(Kind::ClientInvite, UDP);
    assert_eq!(run(&mut transaction), ([500, 1_500, 3_500, 7_500, 15_500, 31_500].to_vec(), 32_000, Some(TimedOut)));
}

#[test]
fn timer_b_alone_runs_over_a_reliable_transport() {
    let mut transaction = start(Kind::ClientInvite, TCP);
    assert_eq!(run(&mut transaction), (Vec::new(), 32_000, Some(TimedOut)));
}

#[test]
fn timer_e_doubles_up_to_t2_and_timer_f_ends_it() {
    let mut transaction = start(Kind::ClientNonInvite, UDP);
    let sent = [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500].to_vec();
    assert_eq!(run(&mut transaction), (sent, 32_000, Some(TimedOut)));
    let mut transaction = start(Kind::ClientNonInvite, TCP);
    assert_eq!(run(&mut transaction), (Vec::new(), 32_000, Some(TimedOut)));
}

#[test]
fn timer_e_is_t2_once_a_provisional_response_came() {
    let mut transaction = in_state(Kind::ClientNonInvite, UDP, Proceeding);
    let sent = [500, 4_500, 8_500, 12_500, 16_500, 20_500, 24_500, 28_500].to_vec();
    assert_eq!(run(&mut transaction), (sent, 32_000, Some(TimedOut)));
}

#[test]
fn timer_g_doubles_up_to_t2_and_timer_h_ends_it() {
    let mut transaction = in_state(Kind::ServerInvite, UDP, Completed);
    let sent = [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500].to_vec();
    assert_eq!(run(&mut transaction), (sent, 32_000, Some(TimedOut)));
    let mut transaction = in_state(Kind::ServerInvite, TCP, Completed);
    assert_eq!(run(&mut transaction), (Vec::new(), 32_000, Some(TimedOut)));
}

#[test]
fn timers_d_i_j_k_l_and_m_only_end() {
    for (timer, kind, reliable, state, at) in [
        ("D", Kind::ClientInvite, UDP, Completed, 32_000),
        ("I", Kind::ServerInvite, UDP, Confirmed, 5_000),
        ("J", Kind::ServerNonInvite, UDP, Completed, 32_000),
        ("K", Kind::ClientNonInvite, UDP, Completed, 5_000),
        ("L", Kind::ServerInvite, UDP, Accepted, 32_000),
        ("L", Kind::ServerInvite, TCP, Accepted, 32_000),
        ("M", Kind::ClientInvite, UDP, Accepted, 32_000),
        ("M", Kind::ClientInvite, TCP, Accepted, 32_000),
    ] {
        let mut transaction = in_state(kind, reliable, state);
        assert_eq!(run(&mut transaction), (Vec::new(), at, None), "timer {timer}");
        assert_eq!(transaction.state(), Terminated);
    }
}

/// Lets the transaction's deadlines pass one by one: when something was sent, when it ended, and what it told then.
fn run(transaction: &mut Transaction) -> (Vec<u64>, u64, Option<Tell>) {
    let mut sent = Vec::new();
    let (mut ended, mut told) = (0, None);
    while let Some(deadline) = transaction.deadline() {
        let step = transaction.handle(Input::TimerFired, deadline);
        ended = deadline.0 / 1000;
        told = step.tell;
        if step.send.is_some() {
            sent.push(ended);
        }
    }
    (sent, ended, told)
}

fn ms(at: u64) -> Mono {
    Mono(at * 1000)
}

fn start(kind: Kind, reliable: bool) -> Transaction {
    let request = Bytes::from_static(b"request");
    match kind {
        Kind::ClientInvite => Transaction::ClientInvite(ClientInvite::new(request, reliable, ms(0))),
        Kind::ClientNonInvite => Transaction::ClientNonInvite(ClientNonInvite::new(request, reliable, ms(0))),
        Kind::ServerInvite => Transaction::ServerInvite(ServerInvite::new(reliable)),
        Kind::ServerNonInvite => Transaction::ServerNonInvite(ServerNonInvite::new(reliable)),
    }
}

/// A transaction that entered the state at time zero.
fn in_state(kind: Kind, reliable: bool, state: State) -> Transaction {
    let mut transaction = start(kind, reliable);
    let inputs: &[In] = match (kind, state) {
        (Kind::ClientInvite, Calling) | (Kind::ClientNonInvite | Kind::ServerNonInvite, Trying) => &[],
        (Kind::ClientInvite | Kind::ClientNonInvite, Proceeding) => &[Got(180)],
        (Kind::ClientInvite, Accepted) | (Kind::ClientNonInvite, Completed) => &[Got(200)],
        (Kind::ClientInvite, Completed) => &[Got(486)],
        (Kind::ServerInvite | Kind::ServerNonInvite, Proceeding) => &[Say(180)],
        (Kind::ServerInvite, Accepted) | (Kind::ServerNonInvite, Completed) => &[Say(180), Say(200)],
        (Kind::ServerInvite, Completed) => &[Say(486)],
        (Kind::ServerInvite, Confirmed) => &[Say(486), Ack],
        (_, Terminated) => &[Transport],
        _ => panic!("{kind:?} has no state {state:?}"),
    };
    for input in inputs {
        transaction.handle(input.with_bytes(), ms(0));
    }
    assert_eq!(transaction.state(), state);
    transaction
}

impl Kind {
    fn inputs(self) -> &'static [&'static str] {
        match self {
            Kind::ClientInvite | Kind::ClientNonInvite => &["got 1xx", "got 2xx", "got fail", "timer", "transport"],
            Kind::ServerInvite => {
                &["say 1xx", "say 2xx", "say fail", "request repeated", "ack received", "timer", "transport"]
            }
            Kind::ServerNonInvite => &["say 1xx", "say 2xx", "say fail", "request repeated", "timer", "transport"],
        }
    }
}

impl In {
    fn class(self) -> String {
        match self {
            Got(status) => format!("got {}", class_of(status)),
            Say(status) => format!("say {}", class_of(status)),
            Repeated => "request repeated".into(),
            Ack => "ack received".into(),
            Timer => "timer".into(),
            Transport => "transport".into(),
        }
    }

    fn with_bytes(self) -> Input {
        match self {
            Got(status) => Input::ResponseReceived { status, ack: Bytes::from_static(b"ack") },
            Say(status) => Input::Respond { status, bytes: Bytes::from_static(class_of(status).as_bytes()) },
            Repeated => Input::RequestRepeated,
            Ack => Input::AckReceived,
            Timer => Input::TimerFired,
            Transport => Input::TransportFailed,
        }
    }
}

fn class_of(status: u16) -> &'static str {
    match status {
        0..200 => "1xx",
        200..300 => "2xx",
        _ => "fail",
    }
}
