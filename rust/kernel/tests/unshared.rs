//! Nothing of the kernel is shared between threads, so there is nothing for loom to interleave.
//!
//! Compile time: whatever changes a kernel takes it exclusively, and a kernel moves to another thread only
//! as a whole. Test time: no source of the kernel or its binding names a shared cell, an atomic, a lock, a
//! thread or a mutable static. The binding hands out one kernel per session, borrowed for one call at a
//! time; whoever adds sharing finds this test and brings loom with it.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::{Path, PathBuf};

use rspp_kernel::edge::buffer::EdgeBuffer;
use rspp_kernel::effect::Effect;
use rspp_kernel::fence::Verdict;
use rspp_kernel::input::Input;
use rspp_kernel::session::SessionKernel;

/// `RefUnwindSafe` is what no `Cell` and no `RefCell` has; `'static` leaves no borrowed state.
const fn whole<T: Send + UnwindSafe + RefUnwindSafe + 'static>() {}

const _: () = whole::<SessionKernel>();
const _: () = whole::<EdgeBuffer<u64>>();
const _: for<'kernel, 'input> fn(&'kernel mut SessionKernel, Input<&'input str>) -> &'kernel [Effect] =
    SessionKernel::step;
const _: fn(&mut SessionKernel, u64, u32, u64, u64, u64) -> Verdict = SessionKernel::frame;

const SHARING: [&str; 14] = [
    "Mutex",
    "RwLock",
    "OnceLock",
    "LazyLock",
    "OnceCell",
    "LazyCell",
    "RefCell",
    "UnsafeCell",
    "Cell<",
    "Atomic",
    "Arc<",
    "Rc<",
    "static mut",
    "thread::",
];
/// A word of the contracts, not a type.
const INNOCENT: [&str; 2] = ["AtomicDrop", "SyncAtomicDrop"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_source_shares_anything() {
    let kernel = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in [kernel.join("src"), kernel.join("../bindings/src")] {
        sources(&folder, &mut found);
    }
    assert!(found.len() > 20, "{found:?}");
    for path in found {
        let source = std::fs::read_to_string(&path).expect("a source");
        for (number, line) in source.lines().enumerate() {
            let mut line = line.split("//").next().unwrap_or_default().to_owned();
            for word in INNOCENT {
                line = line.replace(word, "");
            }
            let shares = SHARING.iter().find(|word| line.contains(**word));
            assert_eq!(shares, None, "{}:{}: bring loom with it", path.display(), number + 1);
        }
    }
}
