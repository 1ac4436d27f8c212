//! The results of plans, and the record of what is left of one.

use super::*;

#[tokio::test]
async fn a_result_that_is_refused_for_good_gives_the_plan_up_before_anything_is_sent() {
    for (is_final, patience) in [(true, PATIENCE), (false, Duration::ZERO)] {
        let backend = Results::Backend(Refusing::always(is_final));
        let (broker, mut servers) = servers(Vec::new(), backend);
        servers.patience = patience;
        let plan = with_result(plan(vec![to("next")], Ended::Success));
        match servers
            .carry_out(&plan, ending(&run()), Taken::default())
            .await
            .unwrap()
        {
            Carried::GivenUp(reason) => assert!(reason.contains("NOPERM"), "{reason}"),
            carried => panic!("{carried:?}"),
        }
        assert_eq!(seen(&broker), (Vec::new(), 0));
    }
}

#[tokio::test]
async fn a_message_is_kept_even_where_its_result_cannot_be_stored() {
    let backend = Results::Backend(Refusing::always(true));
    let (broker, servers) = servers(vec![unroutable()], backend);
    let plan = with_result(plan(vec![kept()], failed()));
    let carried = servers
        .carry_out(&plan, ending(&run()), Taken::default())
        .await
        .unwrap();
    assert_eq!(carried, Carried::Out);
    assert_eq!(seen(&broker).0, strings(&["kept"]));
    assert_eq!(*broker.declared.lock().unwrap(), strings(&["kept"]));
}

/// REVOKED, say: nothing else tells of it, so its message is kept.
#[tokio::test]
async fn a_result_that_nothing_else_tells_of_gives_the_plan_up() {
    let backend = Results::Backend(Refusing::always(true));
    let (_, refusing) = servers(Vec::new(), backend);
    let nothing_kept = with_result(plan(Vec::new(), Ended::Revoked));
    let carried = refusing
        .carry_out(&nothing_kept, ending(&run()), Taken::default())
        .await;
    assert!(matches!(carried, Ok(Carried::GivenUp(_))));
}

#[tokio::test]
async fn what_an_earlier_delivery_has_committed_is_carried_out_instead() {
    let backend = Arc::new(Keeping::default());
    let (broker, servers) = servers(Vec::new(), Results::Backend(backend.clone()));
    let run = run();
    let first = with_result(plan(vec![to("next")], Ended::Success));
    // Lost between the commit and the publishing.
    let record = Commit::of(&first).record(1);
    backend.records.lock().unwrap().insert(run.clone(), record);

    let second = with_result(plan(vec![to("other")], failed()));
    let Carried::Before(commit) = servers
        .carry_out(&second, ending(&run), Taken::default())
        .await
        .unwrap()
    else {
        panic!("carried out twice")
    };
    assert_eq!(seen(&broker).0, Vec::<String>::new());
    servers.carry_on(&commit, &run).await.unwrap();
    assert_eq!(seen(&broker).0, strings(&["next"]));

    // Everything is confirmed now: a third delivery sends nothing.
    let commit = servers.committed(&run).await.unwrap().unwrap();
    servers.carry_on(&commit, &run).await.unwrap();
    assert_eq!(seen(&broker).0, strings(&["next"]));
}

#[tokio::test]
async fn a_task_without_messages_is_committed_once_and_one_with_messages_is_marked_after_them() {
    let cases = [(Vec::new(), vec![1]), (vec![to("next")], vec![1, 0])];
    for (publications, commits) in cases {
        let backend = Arc::new(Keeping::default());
        let (_, servers) = servers(Vec::new(), Results::Backend(backend.clone()));
        let plan = with_result(plan(publications, Ended::Success));
        let carried = servers
            .carry_out(&plan, ending(&run()), Taken::default())
            .await
            .unwrap();
        assert_eq!(carried, Carried::Out);
        assert_eq!(*backend.commits.lock().unwrap(), commits);
    }
}

#[tokio::test]
async fn a_plan_that_was_given_up_is_replaced_by_the_one_that_keeps_the_message() {
    let backend = Arc::new(Keeping::default());
    let (broker, servers) = servers(vec![refused(403)], Results::Backend(backend.clone()));
    let run = run();
    let retried = with_result(plan(vec![to("next")], retry()));
    let carried = servers
        .carry_out(&retried, ending(&run), Taken::default())
        .await
        .unwrap();
    assert!(matches!(carried, Carried::GivenUp(_)), "{carried:?}");
    let kept = with_result(plan(vec![kept()], failed()));
    servers.keep(&kept, &run, Taken::default()).await.unwrap();
    assert_eq!(seen(&broker).0, strings(&["kept"]));
    let commit = servers.committed(&run).await.unwrap().unwrap();
    assert_eq!((commit.publications.len(), commit.sends_itself), (0, false));
}

#[tokio::test]
async fn results_that_are_back_are_found_out_without_a_task() {
    let backend = Arc::new(Keeping::default());
    *backend.refuses.lock().unwrap() = 2;
    let (_, servers) = servers(Vec::new(), Results::Backend(backend.clone()));
    servers.outages.results.begins(&not_taken(false));
    let back = async {
        while servers.outages.results.lasts() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = servers.follow_results(Duration::from_millis(1)) => {}
        () = back => {}
    }
    assert_eq!(*backend.refuses.lock().unwrap(), 0);
}

#[tokio::test]
async fn a_backend_that_answers_and_takes_nothing_is_waited_for() {
    let backend = Arc::new(Keeping::default());
    *backend.refuses.lock().unwrap() = 2;
    let (_, servers) = servers(Vec::new(), Results::Backend(backend.clone()));
    servers.outages.results.begins(&not_taken(true));
    assert_eq!(servers.committed(&run()).await.unwrap(), None);
    assert_eq!(*backend.refuses.lock().unwrap(), 0);
    assert!(!servers.outages.results.lasts());
}

#[tokio::test]
async fn what_is_refused_for_good_is_trouble_where_others_are_refused_too() {
    let plan = with_result(plan(Vec::new(), Ended::Success));
    let (_, servers) = servers(Vec::new(), Results::Backend(Refusing::always(true)));
    let carried = servers
        .carry_out(&plan, ending(&run()), Taken::default())
        .await;
    assert!(matches!(carried, Ok(Carried::GivenUp(_))), "{carried:?}");
    assert!(servers.outages.results.lasts());
}
