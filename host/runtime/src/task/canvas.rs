//! `petiole:task/canvas`: tasks that a task sends.

use petiole_celery::{ChildKind, Signature, child_id};
use petiole_permits::{Limit, Limits};
use serde_json::Value;
use wasmtime::component::HasData;

use crate::limits::budget::held::Held;
use crate::limits::exceeded::LimitExceeded;
use crate::limits::off_the_executor::{is_long, off_the_executor};
use crate::schema::json_texts::JsonTexts;
use crate::task::bindings::petiole::task::canvas;
use crate::task::context::Context;
use crate::task::json_argument::{object, parsed, within};

/// Signatures that a task has sent.
pub(crate) struct Sent {
    pub(crate) signatures: Vec<Signature>,
    /// Tasks that may come of them: themselves, and those that are nested in them.
    pub(crate) children: usize,
    pub(crate) texts: JsonTexts,
}

impl Sent {
    /// None yet. `texts`: what theirs count in.
    pub(crate) fn new(texts: JsonTexts) -> Self {
        Self {
            signatures: Vec::new(),
            children: 0,
            texts,
        }
    }
}

/// The data of a host function of `petiole:task/canvas`.
pub(crate) struct CanvasView<'a> {
    pub(crate) request: &'a Context,
    pub(crate) limits: &'a Limits,
    pub(crate) sent: &'a mut Sent,
    pub(crate) held: &'a mut Held,
}

pub(crate) struct HasCanvas;

impl HasData for HasCanvas {
    type Data<'a> = CanvasView<'a>;
}

impl canvas::Host for CanvasView<'_> {
    async fn send(
        &mut self,
        signature: canvas::Signature,
    ) -> wasmtime::Result<Result<String, String>> {
        let texts = [
            &signature.task,
            &signature.args,
            &signature.kwargs,
            &signature.options,
        ];
        let size = texts.map(String::len).into_iter().sum();
        if let Err(too_large) = within("signature", size, self.limits.result) {
            return Ok(Err(too_large));
        }
        let before = self.sent.texts.values.taken();
        off_the_executor(is_long(size), || self.spend_texts(texts))?;
        let more = self.sent.texts.values.taken().saturating_sub(before);
        self.held.grow_beyond(more).await?;
        let read = off_the_executor(is_long(size), || {
            let (id, signature) = self.signature(signature)?;
            Ok((id, signature.tasks(), signature))
        });
        let (id, tasks, signature) = match read {
            Ok(read) => read,
            Err(misfit) => return Ok(Err(misfit)),
        };
        self.spend_children(tasks)?;
        self.sent.signatures.push(signature);
        Ok(Ok(id))
    }
}

impl CanvasView<'_> {
    /// Counts the texts of a signature: the worker keeps the values of all of them until the task ends, so that
    /// together they may be as large as a result.
    fn spend_texts(&mut self, texts: [&String; 4]) -> Result<(), LimitExceeded> {
        let mut added = Ok(());
        for text in texts {
            added = self.sent.texts.add(text);
        }
        added.map_err(|asked| LimitExceeded::new(Limit::Result, self.limits.result, asked))
    }

    /// Counts what may come of a signature before it is sent.
    fn spend_children(&mut self, tasks: usize) -> Result<(), LimitExceeded> {
        let Limits {
            children,
            descendants,
            depth,
            ..
        } = *self.limits;
        let asked = self.sent.children.saturating_add(tasks);
        if depth == 0 {
            return Err(LimitExceeded::new(Limit::Depth, 0, 1));
        }
        if asked > children {
            return Err(LimitExceeded::new(Limit::Children, children, asked));
        }
        if asked > descendants {
            return Err(LimitExceeded::new(Limit::Descendants, descendants, asked));
        }
        self.sent.children = asked;
        Ok(())
    }

    /// The signature with its id, which is in `options.task_id`: made of this task's. A guest chooses none: under
    /// another task's id it would overwrite that one's result.
    fn signature(&self, from: canvas::Signature) -> Result<(String, Signature), String> {
        if from.task.is_empty() {
            return Err("the signature names no task".to_owned());
        }
        let Value::Array(args) = parsed("args", &from.args)? else {
            return Err("args is not a JSON array".to_owned());
        };
        let kwargs = object("kwargs", &from.kwargs)?;
        let mut options = object("options", &from.options)?;
        if options.get("task_id").is_some_and(|id| !id.is_null()) {
            return Err(
                "option task_id is the worker's to choose: leave it out, `send` returns it"
                    .to_owned(),
            );
        }
        let Context { id, retries, .. } = self.request;
        let id = child_id(id, *retries, ChildKind::Sent, self.sent.signatures.len());
        options.insert("task_id".to_owned(), id.clone().into());
        let signature = Signature {
            task: from.task,
            args,
            kwargs,
            options,
            subtask_type: None,
            immutable: from.immutable,
        };
        Ok((id, signature))
    }
}
