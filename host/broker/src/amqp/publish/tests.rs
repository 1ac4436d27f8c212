#![allow(clippy::unwrap_used)]

use lapin::BasicProperties;

use super::*;

#[test]
fn a_message_that_may_be_refused_for_what_it_is_goes_alone() {
    let plain = BasicProperties::default;
    for (properties, size, want) in [
        (plain(), 10, false),
        (plain(), 11, true),
        (plain().with_reply_to("a-queue".into()), 1, false),
        (
            plain().with_reply_to("amq.rabbitmq.reply-to".into()),
            1,
            true,
        ),
        (
            plain().with_reply_to("amq.rabbitmq.reply-to.g1h2AA".into()),
            1,
            true,
        ),
        (plain().with_user_id("guest".into()), 1, true),
    ] {
        let outgoing = Outgoing {
            exchange: "".into(),
            routing_key: "q".into(),
            mandatory: true,
            properties,
            message_id: "m".to_owned(),
            body: vec![0; size].into(),
        };
        assert_eq!(is_suspect(&outgoing, 10), want, "{outgoing:?}");
    }
}
