//! A component's exports as tasks.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex};

use crate::schema::function_type::FunctionType;
use crate::schema::wit_type::{Name, TypeBudget, TypeError, WitType};

/// The functions that a component may export.
const MAX_FUNCTIONS: usize = 1000;
/// The longest name of a function, in bytes: what AMQP's short strings hold (0-9-1 section 4.2.5.3).
const MAX_NAME: usize = 255;

/// An exported function that is not a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedExport {
    /// As the component exports it, with its interface.
    pub name: String,
    /// The reason why it can't be called.
    pub reason: String,
}

impl Display for RefusedExport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)
    }
}

/// A component's exports.
#[derive(Debug, Default)]
pub(crate) struct Exports {
    /// By the function's name in snake_case.
    pub(crate) tasks: BTreeMap<String, Export>,
    pub(crate) refused: Vec<RefusedExport>,
    functions: usize,
}

impl Exports {
    /// The number of functions and the most that there may be, where there are too many.
    pub(crate) fn too_many(&self) -> Option<(usize, usize)> {
        (self.functions > MAX_FUNCTIONS).then_some((self.functions, MAX_FUNCTIONS))
    }
}

#[derive(Debug)]
pub(crate) struct Export {
    /// With its interface.
    full_name: String,
    pub(crate) index: ComponentExportIndex,
    pub(crate) ty: FunctionType,
}

/// Sorts exported functions into tasks and others. Every root function and every function of an
/// exported interface is a task, but for those that a language's tools add.
pub(crate) fn exports(component: &Component) -> Exports {
    let engine = component.engine();
    let mut reflection = Reflection {
        component,
        budget: TypeBudget::new(),
        exports: Exports::default(),
    };
    for (name, item) in component.component_type().exports(engine) {
        match item.ty {
            ComponentItem::ComponentFunc(func) if starts_javascript(name, &func) => {}
            ComponentItem::ComponentFunc(func) => reflection.function(None, name, &func),
            // componentize-py starts its interpreter through `exports`; `wasi:cli/run` is a command's main
            ComponentItem::ComponentInstance(_)
                if name == "exports" || name.starts_with("wasi:") => {}
            ComponentItem::ComponentInstance(instance) => {
                for (function, item) in instance.exports(engine) {
                    if let ComponentItem::ComponentFunc(func) = item.ty {
                        reflection.function(Some(name), function, &func);
                    }
                }
            }
            _ => {}
        }
    }
    reflection.exports
}

/// An export of jco's QuickJS backend beside the author's functions:
/// `init(shim: string, script: string, ..)`.
fn starts_javascript(name: &str, func: &ComponentFunc) -> bool {
    name == "init"
        && func
            .params()
            .map(|(param, _)| param)
            .take(2)
            .eq(["shim", "script"])
}

struct Reflection<'a> {
    component: &'a Component,
    budget: TypeBudget,
    exports: Exports,
}

impl Reflection<'_> {
    fn function(&mut self, interface: Option<&str>, name: &str, func: &ComponentFunc) {
        // [constructor], [method] and [static] belong to a resource
        if name.starts_with('[') {
            return;
        }
        self.exports.functions += 1;
        if self.exports.too_many().is_some() {
            return;
        }
        if name.len() > MAX_NAME {
            let (start, _) = name.split_at(name.floor_char_boundary(MAX_NAME));
            let refused = RefusedExport {
                name: format!("{start}..."),
                reason: format!(
                    "a name of {} bytes is too long: the limit is {MAX_NAME}",
                    name.len()
                ),
            };
            return self.exports.refused.push(refused);
        }
        let full_name = interface.map_or_else(
            || name.to_owned(),
            |interface| format!("{interface}#{name}"),
        );
        match self.export(interface, name, func, full_name.clone()) {
            Ok(export) => self.add(Name::new(name).snake, export),
            Err(reason) => self.exports.refused.push(RefusedExport {
                name: full_name,
                reason,
            }),
        }
    }

    fn export(
        &mut self,
        interface: Option<&str>,
        name: &str,
        func: &ComponentFunc,
        full_name: String,
    ) -> Result<Export, String> {
        if func.async_() {
            return Err("async functions can't be called yet".to_owned());
        }
        let ty = self.function_type(func)?;
        let interface = interface.map(|name| self.component.get_export_index(None, name));
        let index = match interface {
            None => self.component.get_export_index(None, name),
            Some(interface) => self.component.get_export_index(interface.as_ref(), name),
        };
        let index =
            index.ok_or_else(|| "the component does not have what it exports".to_owned())?;
        Ok(Export {
            full_name,
            index,
            ty,
        })
    }

    fn function_type(&mut self, func: &ComponentFunc) -> Result<FunctionType, String> {
        let mut params = Vec::new();
        for (name, ty) in func.params() {
            let ty = self.reflect(&ty, || format!("parameter {name}"))?;
            params.push((Name::new(name), ty));
        }
        let result = func
            .results()
            .next()
            .map(|ty| self.reflect(&ty, || "the result".to_owned()))
            .transpose()?;
        Ok(FunctionType { params, result })
    }

    fn reflect(
        &mut self,
        ty: &wasmtime::component::Type,
        place: impl Fn() -> String,
    ) -> Result<WitType, String> {
        WitType::reflect(ty, &mut self.budget)
            .map_err(|error: TypeError| format!("{}: {error}", place()))
    }

    /// Two functions of one name would be one task: neither is called by accident.
    fn add(&mut self, name: String, export: Export) {
        let refuse = |full_name: String, other: &str| RefusedExport {
            name: full_name,
            reason: format!("{other} would be the same task: rename one"),
        };
        match self.exports.tasks.remove(&name) {
            None if !self
                .exports
                .refused
                .iter()
                .any(|refused| is_same_task(&refused.name, &name)) =>
            {
                self.exports.tasks.insert(name, export);
            }
            None => self
                .exports
                .refused
                .push(refuse(export.full_name, "another export of that name")),
            Some(first) => {
                self.exports
                    .refused
                    .push(refuse(first.full_name.clone(), &export.full_name));
                self.exports
                    .refused
                    .push(refuse(export.full_name, &first.full_name));
            }
        }
    }
}

fn is_same_task(full_name: &str, function: &str) -> bool {
    let name = full_name
        .rsplit_once('#')
        .map_or(full_name, |(_, name)| name);
    Name::new(name).is(function)
}
