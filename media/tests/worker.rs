//! The worker over real loopback sockets: what an edge and a phone see of it.

mod support;

use dialtone_media::proto::*;
use support::*;

#[test]
fn echo_comes_back_under_the_workers_own_ssrc() {
    let worker = Worker::start();
    let mut phone = Phone::new(0);
    worker.open(1, &mut [(&mut phone, Hears::Leg(1))]);
    for byte in 1..=5 {
        phone.say(byte);
        let (header, payload) = phone.hear(SOON).expect("an echo");
        assert_eq!(payload, [byte; 160]);
        assert_ne!(header.ssrc.0, phone.ssrc);
        assert_eq!(header.marker, byte == 1);
    }
    worker.send(1, CommandKind::Release(Release {}));
    let statistics = worker.wait(|kind| match kind {
        MediaEventKind::LegClosed(closed) => closed.statistics.clone(),
        _ => None,
    });
    assert_eq!((statistics.packets_received, statistics.packets_sent, statistics.packets_lost), (5, 5, 0));
    worker.wait(|kind| matches!(kind, MediaEventKind::Released(_)).then_some(()));
}
