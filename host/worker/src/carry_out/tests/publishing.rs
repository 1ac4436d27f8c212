//! The messages of plans, and the ones that are kept.

use super::*;

#[tokio::test]
async fn a_refused_callback_is_kept_at_once_and_the_others_go() {
    let (broker, servers) = servers(vec![refused(403)], Results::Disabled);
    let plan = plan(vec![to("next"), to("other")], Ended::Success);
    assert_eq!(
        servers
            .carry_out(&plan, ending(&run()), Taken::default())
            .await
            .unwrap(),
        Carried::Out
    );
    assert_eq!(seen(&broker), (strings(&["other", "kept"]), 3));
}

#[tokio::test]
async fn passing_trouble_is_tried_again_for_the_one_it_hit() {
    let (broker, servers) = servers(vec![nacked(), refused(541)], Results::Disabled);
    let plan = plan(vec![to("next")], Ended::Success);
    assert_eq!(
        servers
            .carry_out(&plan, ending(&run()), Taken::default())
            .await
            .unwrap(),
        Carried::Out
    );
    assert_eq!(seen(&broker), (strings(&["next"]), 3));
}

#[tokio::test]
async fn when_patience_is_over_what_is_left_is_kept() {
    let (broker, mut servers) = servers(vec![nacked(), nacked()], Results::Disabled);
    servers.patience = Duration::ZERO;
    let plan = plan(vec![to("next")], Ended::Success);
    assert_eq!(
        servers
            .carry_out(&plan, ending(&run()), Taken::default())
            .await
            .unwrap(),
        Carried::Out
    );
    let (taken, asked) = seen(&broker);
    assert_eq!(taken, strings(&["kept"]));
    assert!(asked <= 3, "{asked}");
}

#[tokio::test]
async fn a_task_that_cannot_be_sent_on_is_given_up_with_the_brokers_words() {
    for ended in [retry(), Ended::Postponed] {
        let (broker, servers) = servers(vec![refused(403)], Results::Disabled);
        let plan = plan(vec![to("next")], ended);
        match servers
            .carry_out(&plan, ending(&run()), Taken::default())
            .await
            .unwrap()
        {
            Carried::GivenUp(reason) => assert!(reason.contains("the broker's words"), "{reason}"),
            carried => panic!("{carried:?}"),
        }
        assert_eq!(seen(&broker), (Vec::new(), 1));
    }
}

/// A callback may name the quarantine queue for its own.
#[tokio::test]
async fn a_message_for_the_quarantine_queue_is_kept_like_any_other() {
    let (broker, servers) = servers(vec![refused(406)], Results::Disabled);
    let plan = plan(vec![to("kept")], Ended::Success);
    let carried = servers
        .carry_out(&plan, ending(&run()), Taken::default())
        .await
        .unwrap();
    assert_eq!(carried, Carried::Out);
    assert_eq!(seen(&broker), (strings(&["kept"]), 2));
}

#[tokio::test]
async fn what_can_be_kept_nowhere_is_held_and_tried_again() {
    let (broker, refusing) = servers(vec![refused(403); 4], Results::Disabled);
    let keeping = plan(vec![kept()], failed());
    refusing
        .keep(&keeping, &run(), Taken::default())
        .await
        .unwrap();
    assert_eq!(seen(&broker), (strings(&["kept"]), 5));
}

#[tokio::test]
async fn a_reply_is_dropped_for_good_only_and_kept_where_trouble_might_have_passed() {
    let reply = Publication {
        mandatory: false,
        ..to("reader")
    };
    let table = [
        (refused(404), PATIENCE, Vec::new()),
        (nacked(), Duration::ZERO, strings(&["kept"])),
    ];
    for (answer, patience, taken) in table {
        // A task that is sent again has not failed for that.
        for ended in [Ended::Success, retry()] {
            let (broker, mut servers) = servers(vec![answer.clone()], Results::Reply);
            servers.patience = patience;
            let plan = plan(vec![reply.clone()], ended);
            let carried = servers
                .carry_out(&plan, None, Taken::default())
                .await
                .unwrap();
            assert_eq!((carried, seen(&broker).0), (Carried::Out, taken.clone()));
        }
    }
}

#[test]
fn a_message_is_made_smaller_as_far_as_its_broker_asks() {
    let invalid = || PublishError::Invalid {
        reason: "a content header of 9000 bytes".to_owned(),
    };
    let kept = kept();
    let enclosed = kept.enclosed().unwrap();
    let cut = kept.cut().unwrap();
    let table = [
        (&kept, invalid(), Some(enclosed.clone())),
        (&enclosed, invalid(), enclosed.cut()),
        (&kept, refused(406), Some(cut.clone())),
        (
            &kept,
            PublishError::TooLarge { size: 2, limit: 1 },
            Some(cut.clone()),
        ),
        (&cut, invalid(), None),
        (&kept, refused(403), None),
        (&kept, nacked(), None),
    ];
    for (publication, error, wanted) in table {
        assert_eq!(smaller(publication, &error), wanted, "{error}");
    }
}
