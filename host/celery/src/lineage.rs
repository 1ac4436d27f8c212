//! The number of tasks that may still come of a task, so that no tree of tasks outgrows its root's allowance. Pure, and
//! with no state but two headers: a sender divides what it has among those it sends.
//!
//! The headers stand in what follows a task too, which any worker may send, Python's own among them. So a
//! guest sends only what means the same to each of them ([`sendable`]).

mod sendable;
mod weigh;

use serde_json::{Map, Value};

use crate::{Signature, SignatureError, headers};

/// Levels of signatures in one another: a message with them has to be read again, and JSON is read 127 levels deep, of
/// which each signature takes four.
const MAX_NESTING: usize = 16;

/// Options that hold signatures.
const FOLLOWING: [&str; 3] = ["link", "link_error", "chain"];
/// The keyword argument of a workflow that holds signatures.
const TASKS: &str = "tasks";

/// Allowance for what may still come of a task. One that no guest has sent carries none: its own limits hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lineage {
    /// Header `x-petiole-descendants`: tasks, at all levels together.
    pub descendants: usize,
    /// Header `x-petiole-depth`: levels of tasks that are sent by guests.
    pub depth: u32,
}

impl Lineage {
    /// Puts a lineage on everything in what a guest has sent that may become a task of its own: an equal part of what
    /// is left. Any that the guest itself wrote there is gone.
    ///
    /// # Errors
    /// If it is not what a guest may send, or something in it is not, at whatever level.
    pub fn stamp(self, sent: Vec<Signature>) -> Result<Vec<Signature>, SignatureError> {
        let tasks = sent.iter().map(Signature::tasks);
        let share = self.share(tasks.fold(0, usize::saturating_add));
        sent.into_iter()
            .map(|signature| share.mark(signature, MAX_NESTING))
            .collect()
    }

    /// The part of what is left for each of `tasks` tasks.
    fn share(self, tasks: usize) -> Self {
        let left = self.descendants.saturating_sub(tasks);
        Self {
            descendants: left.checked_div(tasks).unwrap_or(0),
            depth: self.depth.saturating_sub(1),
        }
    }

    /// `levels`: levels of signatures that there may be, with this one.
    fn mark(self, mut signature: Signature, levels: usize) -> Result<Signature, SignatureError> {
        let Some(levels) = levels.checked_sub(1) else {
            let reason = format!("more than {MAX_NESTING} signatures in one another");
            return Err(SignatureError::new(reason));
        };
        sendable::check_order(&signature)?;
        let following = FOLLOWING.map(|name| signature.options.remove_entry(name));
        sendable::check(&signature)?;
        if is_workflow(&signature)
            && let Some(tasks) = signature.kwargs.get_mut(TASKS)
        {
            self.mark_each(tasks, levels)?;
        }
        self.mark_headers(&mut signature);
        for (name, mut value) in following.into_iter().flatten() {
            self.mark_each(&mut value, levels)?;
            signature.options.insert(name, value);
        }
        Ok(signature)
    }

    fn mark_each(self, values: &mut Value, levels: usize) -> Result<(), SignatureError> {
        match values {
            Value::Null => Ok(()),
            Value::Array(values) => values
                .iter_mut()
                .try_for_each(|value| self.mark_json(value, levels)),
            value => self.mark_json(value, levels),
        }
    }

    /// Writes a signature anew, with all of its fields and none that it has not: Python takes others for options.
    fn mark_json(self, value: &mut Value, levels: usize) -> Result<(), SignatureError> {
        let mut signature = Signature::from_value(value.take())?;
        // Its sender chooses none: under another task's id it would overwrite that one's result.
        signature.options.remove("task_id");
        *value = self.mark(signature, levels)?.into_json();
        Ok(())
    }

    /// A guest writes only headers of its own: Python would let others replace Celery's, `id` among them.
    fn mark_headers(self, signature: &mut Signature) {
        let theirs = signature.options.remove("headers");
        let theirs = theirs.filter(|theirs| !theirs.is_null());
        // Headers of a workflow replace those of its tasks, so it must not have any that its tasks do not.
        if is_workflow(signature) && theirs.is_none() {
            return;
        }
        let mut marked = match theirs {
            Some(Value::Object(theirs)) => headers::own(&theirs),
            Some(_) | None => Map::new(),
        };
        let descendants = u32::try_from(self.descendants).unwrap_or(u32::MAX);
        marked.insert(headers::DESCENDANTS.into(), descendants.into());
        marked.insert(headers::DEPTH.into(), self.depth.into());
        signature.options.insert("headers".into(), marked.into());
    }
}

/// True if it becomes its parts, without a message of its own.
fn is_workflow(signature: &Signature) -> bool {
    signature.subtask_type.is_some()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use serde_json::json;

    use super::*;

    fn signature(value: Value) -> Signature {
        Signature::from_value(value).unwrap()
    }

    fn workflow(kind: &str, tasks: Value, options: Value) -> Value {
        json!({"task": format!("celery.{kind}"), "subtask_type": kind, "kwargs": {"tasks": tasks}, "options": options})
    }

    #[test]
    fn everything_that_may_become_a_task_counts() {
        let task = || json!({"task": "t"});
        let linked =
            json!({"task": "t", "options": {"link": [task(), task()], "link_error": task()}});
        let two = || json!([task(), task()]);
        let link = || json!({"link": task(), "link_error": [task()]});
        let table = [
            (task(), 1),
            (linked.clone(), 4),
            (json!({"task": "t", "options": {"link": [linked]}}), 5),
            (json!({"task": "t", "options": {"chain": two()}}), 3),
            // data is not a task
            (
                json!({"task": "t", "args": [task()], "kwargs": {"tasks": two()}}),
                1,
            ),
            (workflow("chain", two(), json!({})), 2),
            (workflow("chain", two(), link()), 4),
            (workflow("group", two(), json!({})), 2),
            // each member of a group has its callbacks
            (workflow("group", two(), link()), 6),
            (
                workflow(
                    "chain",
                    json!([task(), workflow("group", two(), json!({}))]),
                    link(),
                ),
                7,
            ),
            (
                workflow(
                    "group",
                    json!([workflow("group", two(), json!({})), task()]),
                    link(),
                ),
                9,
            ),
        ];
        for (value, tasks) in table {
            assert_eq!(signature(value.clone()).tasks(), tasks, "{value}");
        }
    }

    #[test]
    fn what_is_left_is_divided() {
        let share = |descendants, tasks| {
            Lineage {
                descendants,
                depth: 3,
            }
            .share(tasks)
            .descendants
        };
        assert_eq!(share(10, 2), 4);
        assert_eq!(share(10, 3), 2);
        assert_eq!(share(10, 10), 0);
        assert_eq!(share(10, 11), 0);
        assert_eq!(share(10, 0), 0);
        assert_eq!(
            Lineage {
                descendants: 1,
                depth: 0
            }
            .share(1)
            .depth,
            0
        );
    }

    const ROOT: Lineage = Lineage {
        descendants: 27,
        depth: 4,
    };

    fn stamp(value: Value) -> Result<Value, String> {
        let stamped = ROOT.stamp(vec![signature(value)]);
        let [stamped] = stamped
            .map_err(|error| error.reason)?
            .try_into()
            .map_err(|stamped| format!("{stamped:?}"))?;
        Ok(stamped.to_json())
    }

    fn whole(task: &str, kwargs: Value, options: Value) -> Value {
        let kind = task.strip_prefix("celery.");
        json!({"task": task, "args": [], "kwargs": kwargs, "options": options, "subtask_type": kind, "immutable": false})
    }

    #[test]
    fn a_guest_can_not_forge_it() {
        let forged = || json!({"x-petiole-descendants": 1_000_000, "x-petiole-depth": 99, "x-petiole-requeues": [], "tenant": "acme"});
        let task = || json!({"task": "t", "options": {"headers": forged()}});
        let no_options = json!({"task": "t", "options": null});
        let chain = workflow(
            "chain",
            json!([task(), no_options]),
            json!({"headers": forged()}),
        );
        let sent = json!({"task": "t", "args": [task()], "options": {
            "headers": forged(),
            "link": [task(), chain],
            "link_error": no_options,
        }});
        let stamped = stamp(sent).unwrap();
        let marked = json!({"x-petiole-descendants": 4, "x-petiole-depth": 3});
        let kept = json!({"x-petiole-descendants": 4, "x-petiole-depth": 3, "tenant": "acme"});
        let marked_task = whole("t", json!({}), json!({"headers": marked}));
        let kept_task = || whole("t", json!({}), json!({"headers": kept}));
        assert_eq!(stamped["args"], json!([task()]), "data stays as it is");
        assert_eq!(stamped["options"]["headers"], kept);
        let chain = whole(
            "celery.chain",
            json!({"tasks": [kept_task(), marked_task]}),
            json!({"headers": kept}),
        );
        assert_eq!(stamped["options"]["link"], json!([kept_task(), chain]));
        assert_eq!(stamped["options"]["link_error"], marked_task);
    }

    #[test]
    fn nobody_s_names_are_taken() {
        let victim = json!({"id": "victim", "root_id": "x", "retries": 0, "CC": ["q"], "x-death": [], "tenant": "acme"});
        let link = json!({"task": "t", "options": {"task_id": "victim", "headers": victim}, "link": {"task": "t"}});
        let stamped = stamp(json!({"task": "t", "options": {"link": link}})).unwrap();
        let headers = json!({"x-petiole-descendants": 12, "x-petiole-depth": 3, "tenant": "acme"});
        let expected = whole("t", json!({}), json!({"headers": headers}));
        assert_eq!(stamped["options"]["link"], expected);
    }

    #[test]
    fn what_workers_would_not_agree_on_is_not_sent() {
        let task = || json!({"task": "t"});
        let group = || workflow("group", json!([task(), task()]), json!({}));
        let options = |options: Value| json!({"task": "t", "options": options});
        let no_signature = [
            (json!("t"), "a string where an object was expected"),
            (json!([[task()]]), "an array where an object was expected"),
            (
                json!({"subtask_type": "group", "kwargs": {"tasks": [task()]}, "options": {}}),
                "it has no `task`",
            ),
            (json!({"task": task()}), "it has no `task`"),
            (
                json!({"task": "t", "subtask_type": ["group"]}),
                "`subtask_type` of \"t\" is an array",
            ),
            (
                json!({"task": "t", "options": [["headers", {}]]}),
                "`options` of \"t\" is an array",
            ),
            (
                options(json!({"headers": [["id", "x"]]})),
                "option `headers` of \"t\" is an array",
            ),
            (
                options(json!({"retries": -1})),
                "option `retries` of \"t\" is -1",
            ),
            (
                options(json!({"link": "t"})),
                "a string where an object was expected",
            ),
            (
                options(json!({"options": {"link": task()}})),
                "option `options` of \"t\" can't be set",
            ),
            (
                options(json!({"stamped_headers": ["headers"]})),
                "option `stamped_headers` of \"t\" can't be set",
            ),
            (
                options(json!({"chord": task()})),
                "option `chord` of \"t\" can't be set",
            ),
            (
                options(json!({"chain": [task(), group()]})),
                "goes on after a group",
            ),
            (
                workflow("chain", json!([group(), task()]), json!({})),
                "goes on after a group",
            ),
            (
                workflow(
                    "chain",
                    json!([workflow("chain", json!([group()]), json!({})), task()]),
                    json!({}),
                ),
                "goes on after a group",
            ),
            (
                workflow("group", json!([task()]), json!({"options": {}})),
                "option `options` of \"celery.group\" can't be set",
            ),
            (
                workflow("group", json!({"task": "t"}), json!({})),
                "has no array `tasks`",
            ),
            (
                workflow("group", json!(["t"]), json!({})),
                "a string where an object was expected",
            ),
            (
                json!({"task": "t", "subtask_type": "chord", "kwargs": {"header": [], "body": task()}}),
                "`subtask_type` of \"t\" is \"chord\"",
            ),
            (
                json!({"task": "t", "subtask_type": "chunks", "kwargs": {"task": task(), "it": [], "n": 1}}),
                "`subtask_type` of \"t\" is \"chunks\"",
            ),
            (json!({"task": "celery.chord_unlock"}), "is Celery's own"),
            (
                json!({"task": "celery.starmap", "kwargs": {"task": task(), "it": []}}),
                "is Celery's own",
            ),
        ];
        for (value, reason) in no_signature {
            for sent in [
                options(json!({"link": value})),
                options(json!({"link_error": [task(), value]})),
                options(json!({"chain": [value]})),
                options(json!({"link": workflow("group", json!([value]), json!({}))})),
                options(json!({"link": options(json!({"link": [value]}))})),
            ] {
                let refused = stamp(sent).unwrap_err();
                assert!(refused.contains(reason), "{refused}");
            }
        }
    }

    #[test]
    fn the_last_step_of_a_chain_may_be_a_group() {
        let group = || workflow("group", json!([{"task": "t"}, {"task": "t"}]), json!({}));
        let chain = workflow("chain", json!([{"task": "t"}, group()]), json!({}));
        stamp(json!({"task": "t", "options": {"link": chain}})).unwrap();
        stamp(json!({"task": "t", "options": {"chain": [group(), {"task": "t"}]}})).unwrap();
    }

    #[test]
    fn signatures_stand_in_one_another_so_deep() {
        let nested = |levels: usize| {
            (1..levels).fold(
                json!({"task": "t"}),
                |inner, _| json!({"task": "t", "options": {"link": inner}}),
            )
        };
        stamp(nested(MAX_NESTING)).unwrap();
        let refused = stamp(nested(MAX_NESTING + 1)).unwrap_err();
        assert_eq!(refused, "more than 16 signatures in one another");
    }

    #[test]
    fn the_headers_of_a_workflow_do_not_hide_those_of_its_tasks() {
        let own = json!({"task": "t", "options": {"headers": {"tenant": "acme"}}});
        let group = workflow("group", json!([own]), json!({}));
        let stamped = stamp(json!({"task": "t", "options": {"link": group}})).unwrap();
        let group = &stamped["options"]["link"];
        assert!(group["options"].get("headers").is_none());
        assert_eq!(
            group["kwargs"]["tasks"][0]["options"]["headers"],
            json!({"tenant": "acme", "x-petiole-descendants": 12, "x-petiole-depth": 3})
        );
    }
}
