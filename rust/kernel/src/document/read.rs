//! Reads JSON without losing what a plain reader hides: repeated keys, fractions, nesting.

use std::fmt;

use serde_json::de::Deserializer;

use super::{Checked, Fault, Rule};

/// Deepest nesting that any contract needs is 7; more is an attack or a mistake.
pub(crate) const MAX_DEPTH: usize = 16;

/// One JSON value; an object keeps its members in order and with repeats.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Null,
    Flag(bool),
    Integer(i128),
    Fraction(f64),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Node {
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Self::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn integer(&self, name: &str) -> Option<i128> {
        match self.get(name) {
            Some(Self::Integer(number)) => Some(*number),
            _ => None,
        }
    }

    pub(crate) const fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Flag(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Fraction(_) => "a fraction",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

/// The path of a member.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Reads one document of at most `limit` bytes.
pub(crate) fn read(document: &[u8], limit: usize) -> Result<Node, Fault> {
    if document.len() > limit {
        let message = format!("{} bytes where at most {limit} are allowed", document.len());
        return Err(Fault::new(Rule::JsonSize, "", message));
    }
    if nesting(document) > MAX_DEPTH {
        return Err(Fault::new(Rule::JsonDepth, "", format!("nested deeper than {MAX_DEPTH} levels")));
    }
    let syntax = |error: serde_json::Error| Fault::new(Rule::JsonSyntax, "", error.to_string());
    let mut reader = Deserializer::from_slice(document);
    let node = serde::Deserialize::deserialize(&mut reader).map_err(syntax)?;
    reader.end().map_err(syntax)?;
    inspect(&node, "")?;
    Ok(node)
}

/// Deepest nesting of brackets outside of texts, without recursion.
fn nesting(document: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut quoted, mut escaped) = (false, false);
    for byte in document {
        if quoted {
            (quoted, escaped) = (*byte != b'"' || escaped, *byte == b'\\' && !escaped);
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Refuses repeated keys and numbers that are whole but not written so.
fn inspect(node: &Node, path: &str) -> Checked {
    match node {
        Node::Fraction(number) if number.fract() == 0.0 => {
            Err(Fault::new(Rule::JsonWholeNumber, path, "a fraction point or exponent in a whole number"))
        }
        Node::List(items) => {
            items.iter().enumerate().try_for_each(|(index, item)| inspect(item, &format!("{path}[{index}]")))
        }
        Node::Object(members) => {
            let mut seen = std::collections::BTreeSet::new();
            for (name, value) in members {
                let field = join(path, name);
                if !seen.insert(name) {
                    return Err(Fault::new(Rule::JsonDuplicateKey, field, "the key occurs twice"));
                }
                inspect(value, &field)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

impl<'de> serde::Deserialize<'de> for Node {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> serde::de::Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Flag(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Fraction(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = entries.next_entry()? {
            members.push(member);
        }
        Ok(Node::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(document: &str) -> Option<(&'static str, String)> {
        read(document.as_bytes(), 100).err().map(|fault| (fault.rule.row().id, fault.field))
    }

    #[test]
    fn what_a_plain_reader_hides_is_seen() {
        assert_eq!(rule(r#"{"a":{"b":1,"b":1}}"#), Some(("json.duplicate_key", "a.b".into())));
        assert_eq!(rule(r#"{"a":[1,2.0]}"#), Some(("json.whole_number", "a[1]".into())));
        assert_eq!(rule(r#"{"a":1.5}"#), None);
        assert_eq!(rule(r#"{"a":1} x"#), Some(("json.syntax", String::new())));
        assert_eq!(rule(r#"{"a":1e400}"#), Some(("json.syntax", String::new())));
        assert_eq!(rule(r#"{"a":"\ud800"}"#), Some(("json.syntax", String::new())));
        assert_eq!(rule(&" ".repeat(101)), Some(("json.size", String::new())));
        assert_eq!(rule(&"[".repeat(17)), Some(("json.depth", String::new())));
        assert_eq!(rule(&format!("{}{}", "[".repeat(16), "]".repeat(16))), None);
        assert_eq!(rule(r#"["[[[[[[[[[[[[[[[[[[ \" [["]"#), None);
    }

    #[test]
    fn bytes_that_are_no_text_are_a_fault_of_syntax() {
        let fault = read(b"{\"a\":\"\xff\"}", 100).expect_err("refused");
        assert_eq!(fault.rule, Rule::JsonSyntax);
    }
}
