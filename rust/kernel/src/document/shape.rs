//! What a field may hold, as tables: checked here and written as JSON Schema from the same rows.

use serde_json::{json, Map, Value};

use super::read::{join, Node};
use super::{Checked, Fault, Rule};

/// Largest integer in a document; everything beyond it is read differently by different readers.
pub(crate) const MAX_INTEGER: i64 = i64::MAX;
const VERSION_PATTERN: &str = r"^v[0-9]{1,9}\.[0-9]{1,9}(\.[0-9]{1,9})?$(?!\n)";
const HASH_PATTERN: &str = r"^[0-9a-fA-F]{64}$(?!\n)";

/// What a field may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// A text that is not empty.
    Text,
    /// Any text.
    FreeText,
    /// `v1.0` or `v1.0.3`.
    Version,
    /// 64 hexadecimal digits.
    Hash,
    /// An integer from this one on.
    Integer(i64),
    /// An integer from 0 on, or null.
    SequenceOrNull,
    /// A boolean.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of texts without repeats, of so many items.
    Set(&'static Self, usize, Option<usize>),
    /// A list of any length.
    List(&'static Self),
    /// An object with exactly these fields.
    Record(&'static [Field]),
    /// An object with any names and at least so many of them.
    Map(&'static Self, usize),
    /// A document of its own, checked against its own kind.
    Document,
}

/// One field of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
}

pub(crate) const fn required(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, required: true }
}

pub(crate) const fn optional(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, required: false }
}

impl Shape {
    /// Checks `node`, which stands at `path`.
    pub(crate) fn check(&self, node: &Node, path: &str) -> Checked {
        let wrong = || {
            let message = format!("{} where {} is expected", node.type_name(), self.expected());
            Err(Fault::new(Rule::ShapeType, path, message))
        };
        match (self, node) {
            (Self::FreeText, Node::Text(_))
            | (Self::Flag, Node::Flag(_))
            | (Self::SequenceOrNull, Node::Null)
            | (Self::Document, Node::Object(_)) => Ok(()),
            (Self::Text, Node::Text(text)) => {
                holds(!text.is_empty(), Rule::ShapeEmpty, path, "an empty text")
            }
            (Self::Version, Node::Text(text)) => {
                holds(super::version::parse(text).is_some(), Rule::ShapeFormat, path, "no version like v1.0")
            }
            (Self::Hash, Node::Text(text)) => {
                let hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                holds(hash, Rule::ShapeFormat, path, "not 64 hexadecimal digits")
            }
            (Self::Word(words), Node::Text(text)) => {
                let message = format!("{text:?} is none of {}", words.join(", "));
                holds(words.contains(&text.as_str()), Rule::ShapeWord, path, &message)
            }
            (Self::Integer(least), Node::Integer(number)) => in_range(*number, *least, path),
            (Self::SequenceOrNull, Node::Integer(number)) => in_range(*number, 0, path),
            (Self::Set(item, least, most), Node::List(items)) => {
                each(item, items, path)?;
                count(items.len(), *least, *most, path)?;
                let mut seen = std::collections::BTreeSet::new();
                let unique = items.iter().all(|item| match item {
                    Node::Text(text) => seen.insert(text.as_str()),
                    _ => true,
                });
                holds(unique, Rule::ShapeUnique, path, "an item occurs twice")
            }
            (Self::List(item), Node::List(items)) => each(item, items, path),
            (Self::Record(fields), Node::Object(members)) => record(fields, node, members, path),
            (Self::Map(value, least), Node::Object(members)) => {
                for (name, member) in members {
                    value.check(member, &join(path, name))?;
                }
                count(members.len(), *least, None, path)
            }
            _ => wrong(),
        }
    }

    const fn expected(&self) -> &'static str {
        match self {
            Self::Text | Self::FreeText | Self::Version | Self::Hash | Self::Word(_) => "a text",
            Self::Integer(_) => "an integer",
            Self::SequenceOrNull => "an integer or null",
            Self::Flag => "a boolean",
            Self::Set(..) | Self::List(_) => "a list",
            Self::Record(_) | Self::Map(..) | Self::Document => "an object",
        }
    }

    /// The same as JSON Schema (draft 2020-12).
    pub(crate) fn schema(&self) -> Value {
        match self {
            Self::Text => json!({"type": "string", "minLength": 1}),
            Self::FreeText => json!({"type": "string"}),
            Self::Version => json!({"type": "string", "pattern": VERSION_PATTERN}),
            Self::Hash => json!({"type": "string", "pattern": HASH_PATTERN}),
            Self::Integer(least) => json!({"type": "integer", "minimum": least, "maximum": MAX_INTEGER}),
            Self::SequenceOrNull => {
                json!({"type": ["integer", "null"], "minimum": 0, "maximum": MAX_INTEGER})
            }
            Self::Flag => json!({"type": "boolean"}),
            Self::Word(words) => json!({"type": "string", "enum": words}),
            Self::Set(item, least, most) => {
                let mut set = json!({"type": "array", "items": item.schema(), "uniqueItems": true});
                if *least > 0 {
                    set["minItems"] = json!(least);
                }
                if let Some(most) = most {
                    set["maxItems"] = json!(most);
                }
                set
            }
            Self::List(item) => json!({"type": "array", "items": item.schema()}),
            Self::Record(fields) => {
                let properties: Map<String, Value> =
                    fields.iter().map(|field| (field.name.to_owned(), field.shape.schema())).collect();
                let needed: Vec<&str> =
                    fields.iter().filter(|field| field.required).map(|field| field.name).collect();
                json!({
                    "type": "object",
                    "additionalProperties": false,
                    "properties": properties,
                    "required": needed,
                })
            }
            Self::Map(value, least) => {
                let mut map = json!({"type": "object", "additionalProperties": value.schema()});
                if *least > 0 {
                    map["minProperties"] = json!(least);
                }
                map
            }
            Self::Document => json!({"type": "object"}),
        }
    }
}

pub(crate) fn holds(good: bool, rule: Rule, path: &str, message: &str) -> Checked {
    if good {
        Ok(())
    } else {
        Err(Fault::new(rule, path, message))
    }
}

fn in_range(number: i128, least: i64, path: &str) -> Checked {
    let good = number >= i128::from(least) && number <= i128::from(MAX_INTEGER);
    holds(good, Rule::ShapeRange, path, &format!("{number} is not from {least} to {MAX_INTEGER}"))
}

fn count(length: usize, least: usize, most: Option<usize>, path: &str) -> Checked {
    let good = length >= least && most.is_none_or(|most| length <= most);
    let most = most.map_or(String::from("any number"), |most| most.to_string());
    holds(good, Rule::ShapeCount, path, &format!("{length} entries where {least} to {most} are allowed"))
}

fn each(shape: &Shape, items: &[Node], path: &str) -> Checked {
    items.iter().enumerate().try_for_each(|(index, item)| shape.check(item, &format!("{path}[{index}]")))
}

fn record(fields: &[Field], node: &Node, members: &[(String, Node)], path: &str) -> Checked {
    if let Some((name, _)) = members.iter().find(|(name, _)| fields.iter().all(|field| field.name != name)) {
        return Err(Fault::new(Rule::ShapeUnknown, join(path, name), "no field of this contract"));
    }
    for field in fields {
        match node.get(field.name) {
            Some(member) => field.shape.check(member, &join(path, field.name))?,
            None if field.required => {
                return Err(Fault::new(
                    Rule::ShapeRequired,
                    join(path, field.name),
                    "a required field is missing",
                ));
            }
            None => {}
        }
    }
    Ok(())
}
