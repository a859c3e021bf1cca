//! Stage A of the evidence: appended before an effect is handed out, never waiting.

pub mod json;
pub mod record;
pub mod ring;
