//! The project's own fixtures, judged by the kernel alone: each breaks the rule that its index names.

use std::path::Path;

use rspp_kernel::document::stream::StreamValidator;
use rspp_kernel::document::{validate, Fault, Kind};
use serde_json::Value;

fn stream_faults(content: &[u8]) -> Vec<Fault> {
    let mut validator = StreamValidator::new();
    let mut faults: Vec<Fault> = content
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .filter_map(|line| validator.push(line))
        .collect();
    faults.extend(validator.finish());
    faults
}

#[test]
fn ct_001_every_fixture_is_judged_as_its_index_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/fixtures");
    let index = std::fs::read(root.join("index.json")).expect("the index of the fixtures");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    let entries = index["fixtures"].as_object().expect("fixtures");
    assert!(entries.len() > 1_000);
    for (path, expected) in entries {
        let content = std::fs::read(root.join(path)).expect(path);
        let kind = path.split('/').next().and_then(Kind::parse);
        let faults = match kind {
            Some(kind) => validate(kind, &content).err().into_iter().collect(),
            None => stream_faults(&content),
        };
        let found: Vec<(&str, &str)> =
            faults.iter().map(|fault| (fault.rule.id(), fault.field.as_str())).collect();
        let wanted: Vec<(&str, &str)> = expected["rule"]
            .as_str()
            .map(|rule| (rule, expected["field"].as_str().unwrap_or_default()))
            .into_iter()
            .collect();
        assert_eq!(found, wanted, "{path}");
    }
}
