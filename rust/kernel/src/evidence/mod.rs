//! Stage A of the evidence: appended before an effect is handed out, never waiting; and the format of
//! the files that Stage B keeps it in.

pub mod codec;
pub mod json;
pub mod record;
pub mod ring;
pub mod segment;
