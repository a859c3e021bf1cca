//! The diagrams of `docs/turn-machine.md` are drawn from the tables; `RSPP_DRAW=1` draws them anew.

use std::fmt::Write as _;
use std::path::Path;

use rspp_kernel::invocation::{self, circuit};
use rspp_kernel::{migration, prelude, turn};

type Row = (&'static str, &'static str, &'static str);

fn drawn(name: &str, first: &str, last: Option<&str>, rows: &[Row]) -> String {
    let mut text = format!("<!-- drawn from the table: {name} -->\n```mermaid\nstateDiagram-v2\n");
    let _ = writeln!(text, "    [*] --> {first}");
    for (from, on, to) in rows {
        let _ = writeln!(text, "    {from} --> {to}: {on}");
    }
    if let Some(last) = last {
        let _ = writeln!(text, "    {last} --> [*]");
    }
    text.push_str("```\n");
    text
}

fn diagrams() -> Vec<String> {
    let turns: Vec<Row> =
        turn::TRANSITIONS.iter().map(|row| (row.from.name(), row.trigger.name(), row.to.name())).collect();
    let calls: Vec<Row> =
        invocation::TRANSITIONS.iter().map(|row| (row.0.name(), row.1.name(), row.2.name())).collect();
    let circuits: Vec<Row> =
        circuit::TRANSITIONS.iter().map(|row| (row.0.name(), row.1.name(), row.2.name())).collect();
    let migrations: Vec<Row> =
        migration::TRANSITIONS.iter().map(|row| (row.0.name(), row.1.name(), row.2.name())).collect();
    let callers: Vec<Row> =
        prelude::TRANSITIONS.iter().map(|row| (row.0.name(), row.1.name(), row.2.name())).collect();
    vec![
        drawn("turn", "Idle", Some("Closed"), &turns),
        drawn("caller", "Quiet", None, &callers),
        drawn("invocation", "Running", Some("Done"), &calls),
        drawn("circuit", "Closed", None, &circuits),
        drawn("migration", "Settled", None, &migrations),
    ]
}

#[test]
fn the_diagrams_in_the_document_are_those_of_the_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/turn-machine.md");
    let mut document = std::fs::read_to_string(&path).expect("the document");
    let draw = std::env::var_os("RSPP_DRAW").is_some();
    for diagram in diagrams() {
        let mark = diagram.lines().next().expect("a mark");
        let start = document.find(mark).unwrap_or_else(|| panic!("no {mark}"));
        let close = document[start..].find("```\n").expect("a fenced block after the mark");
        let end = start + close + 4;
        if draw {
            document.replace_range(start..end, &diagram);
        } else {
            assert_eq!(&document[start..end], diagram, "draw anew: RSPP_DRAW=1 cargo test --test diagrams");
        }
    }
    if draw {
        std::fs::write(&path, document).expect("written");
    }
}
