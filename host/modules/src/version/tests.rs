#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn module(versions: u32) -> Module {
    let mut module = Module::new("my_app.tasks".parse().unwrap());
    for n in 1..=versions {
        assert_eq!(add(&mut module, n), n);
    }
    module
}

fn add(module: &mut Module, content: u32) -> VersionNumber {
    module
        .add(
            Digest::of(&content.to_be_bytes()),
            4,
            Upload::new("a test"),
            Timestamp::UNIX_EPOCH,
        )
        .unwrap()
}

#[test]
fn the_catalog_tells_whose_a_task_is() {
    let upload = |tasks: Option<&[&str]>| {
        let upload = Upload::new("a test").with_manifest("[tasks.add]\nname = 'sums.plus'");
        match tasks {
            Some(tasks) => upload.unwrap().with_tasks(tasks.iter().copied()),
            None => upload.unwrap(),
        }
    };
    let mut module = module(0);
    let mut add = |upload| {
        module
            .add(Digest::of(b""), 0, upload, Timestamp::UNIX_EPOCH)
            .unwrap();
        let version = module.versions.first().unwrap().clone();
        move |task| version.has_task(&"my_app.tasks".parse().unwrap(), task)
    };
    let old = add(upload(None));
    for (task, has) in [
        ("my_app.tasks.run", true),
        ("sums.plus", true),
        ("my_app.tasks", false),
        ("my_app.tasks.", false),
        ("my_app.tasks_more.run", false),
        ("my_app.run", false),
        ("", false),
    ] {
        assert_eq!(old(task), has, "{task}");
    }
    // The same upload again, by a petiole that keeps the names.
    let new = add(upload(Some(&["sums.plus", "my_app.tasks.sub"])));
    for (task, has) in [
        ("sums.plus", true),
        ("my_app.tasks.sub", true),
        ("my_app.tasks.run", false),
    ] {
        assert_eq!(new(task), has, "{task}");
    }
}

#[test]
fn so_many_names_are_kept_and_no_more() {
    let upload = |names: usize| {
        let names = (0..names).map(|n| format!("a.{n:0>253}"));
        Upload::new("a test").with_tasks(names).tasks
    };
    let most = crate::upload::MAX_NAMES / 255;
    assert_eq!(upload(most).map(|tasks| tasks.len()), Some(most));
    assert_eq!(upload(most + 1), None);
}

#[test]
fn rollback_goes_back_step_by_step() {
    let mut module = module(3);
    assert!(module.active_version().is_none());
    for number in [1, 2, 2, 3] {
        module
            .activate(number, "a test", Timestamp::UNIX_EPOCH)
            .unwrap();
    }
    assert_eq!(
        (module.active, module.previous.clone()),
        (Some(3), vec![1, 2])
    );
    assert_eq!(module.rollback("a test", Timestamp::UNIX_EPOCH).unwrap(), 2);
    assert_eq!(module.rollback("a test", Timestamp::UNIX_EPOCH).unwrap(), 1);
    assert!(matches!(
        module.rollback("a test", Timestamp::UNIX_EPOCH),
        Err(CatalogError::NoPrevious { .. })
    ));
    assert_eq!(module.active_version().unwrap().number, 1);
}

#[test]
fn the_same_upload_is_the_same_version_and_numbers_are_not_reused() {
    let mut module = module(2);
    assert_eq!(add(&mut module, 1), 1);
    let upload = Upload::new("a test").with_manifest("[defaults]\ntime_limit = 1");
    let other = module
        .add(
            Digest::of(&1_u32.to_be_bytes()),
            4,
            upload.unwrap(),
            Timestamp::UNIX_EPOCH,
        )
        .unwrap();
    assert_eq!(other, 3);
    module.remove(3, false).unwrap();
    assert_eq!(add(&mut module, 9), 4);
}

#[test]
fn an_active_version_is_removed_by_force_only() {
    let mut module = module(3);
    for number in [1, 2, 1, 3] {
        module
            .activate(number, "a test", Timestamp::UNIX_EPOCH)
            .unwrap();
    }
    assert!(matches!(
        module.remove(3, false),
        Err(CatalogError::ActiveVersion { number: 3, .. })
    ));
    assert!(matches!(
        module.remove(7, false),
        Err(CatalogError::UnknownVersion { number: 7, .. })
    ));
    module.remove(2, false).unwrap();
    assert_eq!(module.previous, [1]);
    module.remove(3, true).unwrap();
    assert_eq!(
        (
            module.active,
            module.rollback("a test", Timestamp::UNIX_EPOCH).unwrap()
        ),
        (None, 1)
    );
}

#[test]
fn a_rollback_never_goes_to_the_active_version() {
    let mut module = module(2);
    for number in [1, 2, 1] {
        module
            .activate(number, "a test", Timestamp::UNIX_EPOCH)
            .unwrap();
    }
    module.remove(2, false).unwrap();
    assert!(matches!(
        module.rollback("a test", Timestamp::UNIX_EPOCH),
        Err(CatalogError::NoPrevious { .. })
    ));
    assert_eq!(module.active, Some(1));
}

#[test]
fn the_same_version_comes_back_after_a_removal() {
    let mut module = module(2);
    for number in [1, 2] {
        module
            .activate(number, "a test", Timestamp::UNIX_EPOCH)
            .unwrap();
    }
    module.remove(2, true).unwrap();
    module.activate(1, "a test", Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!((module.active, module.previous), (Some(1), vec![]));
}

#[test]
fn old_versions_are_pruned_but_not_those_in_use() {
    let kept = u32::try_from(VERSIONS_KEPT).unwrap();
    let mut module = module(2);
    module.activate(1, "a test", Timestamp::UNIX_EPOCH).unwrap();
    module.activate(2, "a test", Timestamp::UNIX_EPOCH).unwrap();
    for n in 3..=kept + 5 {
        add(&mut module, n);
    }
    let numbers: Vec<_> = module
        .versions
        .iter()
        .map(|version| version.number)
        .collect();
    assert_eq!(numbers.len(), VERSIONS_KEPT);
    assert_eq!(numbers.first_chunk(), Some(&[1, 2, 8]));
    for round in 0..2 * kept {
        module
            .activate(
                if round % 2 == 0 { 1 } else { 2 },
                "a test",
                Timestamp::UNIX_EPOCH,
            )
            .unwrap();
    }
    assert!(module.previous.len() <= VERSIONS_KEPT);
}

#[derive(Debug, Clone)]
enum Change {
    Add(u32),
    Activate(u32),
    Rollback,
    Remove(u32, bool),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..150_u32).prop_map(Change::Add),
        (1..150_u32).prop_map(Change::Activate),
        Just(Change::Rollback),
        (1..150_u32, any::<bool>()).prop_map(|(number, force)| Change::Remove(number, force)),
    ]
}

proptest! {
    #[test]
    fn any_changes_leave_a_module_that_makes_sense(changes in prop::collection::vec(change(), 0..400)) {
        let mut module = module(0);
        let mut newest = 0;
        for change in changes {
            let before = module.clone();
            let refused = match change {
                Change::Add(content) => {
                    let number = add(&mut module, content);
                    prop_assert!(module.version(number).is_some());
                    newest = newest.max(number);
                    false
                }
                Change::Activate(number) => module.activate(number, "a test", Timestamp::UNIX_EPOCH).is_err(),
                Change::Rollback => {
                    let to = before.previous.last().copied();
                    prop_assert!(to.is_none() || to != before.active);
                    let refused = module.rollback("a test", Timestamp::UNIX_EPOCH).is_err();
                    prop_assert!(refused || module.active == to);
                    refused
                }
                Change::Remove(number, force) => module.remove(number, force).is_err(),
            };
            prop_assert!(!refused || module == before);
            prop_assert!(module.next > newest);
            prop_assert!(module.versions.len() <= VERSIONS_KEPT && module.previous.len() <= VERSIONS_KEPT);
            prop_assert!(module.versions.is_sorted_by(|a, b| a.number < b.number));
            for number in module.active.iter().chain(&module.previous) {
                prop_assert!(module.version(*number).is_some());
            }
        }
    }
}
