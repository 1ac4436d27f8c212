//! The type of an exported function.

use crate::schema::wit_type::{Name, WitType};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FunctionType {
    pub(crate) params: Vec<(Name, WitType)>,
    /// None where the function has no result.
    pub(crate) result: Option<WitType>,
}

impl FunctionType {
    /// Of its parameters and of its result.
    pub(crate) fn types(&self) -> impl Iterator<Item = &WitType> {
        let params = self.params.iter().map(|(_, ty)| ty);
        params.chain(&self.result)
    }

    /// The parameters from here on may be left out.
    pub(crate) fn optional_from(&self) -> usize {
        let trailing = self
            .params
            .iter()
            .rev()
            .take_while(|(_, ty)| matches!(ty, WitType::Option(_)));
        self.params.len() - trailing.count()
    }

    /// `func(args: list<json>, kwargs: list<tuple<string, json>>)`, as Python's `*args, **kwargs`.
    pub(crate) fn takes_anything(&self) -> bool {
        match self.params.as_slice() {
            [(args, WitType::List(arg)), (kwargs, WitType::List(pair))] => {
                args.snake == "args"
                    && kwargs.snake == "kwargs"
                    && **arg == WitType::Json
                    && **pair == WitType::Tuple(vec![WitType::String, WitType::Json])
            }
            _ => false,
        }
    }
}
