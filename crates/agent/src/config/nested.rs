//! Values in nested sections, by the words of their key.

use figment::value::{Dict, Value};

/// Sets the value at `path`; its sections are created.
pub(super) fn insert(dict: &mut Dict, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            dict.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = dict
                .entry(first.clone())
                .or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// Sets or removes the value at `path`; `false` when there was none.
pub(super) fn replace(dict: &mut Dict, path: &[String], value: Option<Value>) -> bool {
    match path {
        [] => false,
        [last] => match value {
            Some(value) => dict.get_mut(last).map(|old| *old = value).is_some(),
            None => dict.remove(last).is_some(),
        },
        [first, rest @ ..] => match dict.get_mut(first) {
            Some(Value::Dict(_, inner)) => replace(inner, rest, value),
            _ => false,
        },
    }
}
