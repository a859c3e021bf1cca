//! Schema versions: reading them, and which ones are still taken (section 1.9).

use super::{Checked, Fault, Rule};

/// Version of an event contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Changes when old readers can no longer read.
    pub major: u32,
    /// Changes when fields are added.
    pub minor: u32,
    /// Changes nothing on the wire.
    pub patch: u32,
}

impl Version {
    /// Whether tenant, trace and payload reference exist in this version.
    #[must_use]
    pub const fn has_minor_fields(self) -> bool {
        self.major > 1 || self.major == 1 && self.minor >= 1
    }
}

/// The major version that this kernel reads.
pub const MAJOR: u32 = 1;

/// Reads `v1.0` or `v1.0.3`; each part has at most nine digits.
#[must_use]
pub fn parse(text: &str) -> Option<Version> {
    let mut parts = text.strip_prefix('v')?.split('.');
    let mut part = || -> Option<Option<u32>> {
        let Some(digits) = parts.next() else { return Some(None) };
        let plain = (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok())
    };
    let (major, minor, patch) = (part()??, part()??, part()?);
    parts.next().is_none().then_some(Version { major, minor, patch: patch.unwrap_or(0) })
}

/// One retired version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retirement {
    /// Which minor version; its patches go with it.
    pub version: Version,
    /// Wall clock after which it is refused, ms since the epoch.
    pub deadline_ms: u64,
}

/// Decides whether an event of `version` may still be taken.
///
/// The same major version is taken whatever its minor one is; a retired one until its deadline, which
/// clocks of different hosts may see up to `skew_ms` apart.
///
/// # Errors
/// The version is unreadable, of another major version, or retired for good.
pub fn negotiate(version: &str, retired: &[Retirement], now_ms: u64, skew_ms: u64) -> Checked {
    let refuse = |rule, message: String| Err(Fault::new(rule, "schema_version", message));
    let Some(parsed) = parse(version) else {
        return refuse(Rule::ShapeFormat, format!("{version:?} is no version like v1.0"));
    };
    if parsed.major != MAJOR {
        return refuse(Rule::VersionMajor, format!("{version} cannot be read here, only v{MAJOR}"));
    }
    let row = retired
        .iter()
        .find(|row| (row.version.major, row.version.minor) == (parsed.major, parsed.minor))
        .filter(|row| now_ms > row.deadline_ms.saturating_add(skew_ms));
    row.map_or(Ok(()), |row| {
        refuse(Rule::VersionRetired, format!("{version} was retired at {} ms", row.deadline_ms))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_are_read_strictly() {
        assert_eq!(parse("v1.0"), Some(Version { major: 1, minor: 0, patch: 0 }));
        assert_eq!(parse("v01.10.3"), Some(Version { major: 1, minor: 10, patch: 3 }));
        for wrong in [
            "",
            "v",
            "v1",
            "1.0",
            "v1.",
            "v1.0.",
            "v1.0.0.0",
            "v1.x",
            "v1.0\n",
            "V1.0",
            "v+1.0",
            "v1234567890.0",
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_retired_version_is_taken_until_its_deadline_and_the_skew() {
        let retired = [Retirement { version: parse("v1.0").expect("a version"), deadline_ms: 1_000 }];
        assert_eq!(negotiate("v1.0", &retired, 1_000, 50), Ok(()));
        assert_eq!(negotiate("v1.0.7", &retired, 1_050, 50), Ok(()));
        let fault = negotiate("v1.0.7", &retired, 1_051, 50).expect_err("refused");
        assert_eq!((fault.rule, fault.field.as_str()), (Rule::VersionRetired, "schema_version"));
        assert_eq!(negotiate("v1.1", &retired, 9_999, 0), Ok(()));
        assert_eq!(negotiate("v1.999", &[], 0, 0), Ok(()));
    }

    #[test]
    fn another_major_version_is_refused() {
        for version in ["v0.9", "v2.0"] {
            let fault = negotiate(version, &[], 0, 0).expect_err("refused");
            assert_eq!(fault.rule, Rule::VersionMajor);
        }
        assert_eq!(negotiate("one", &[], 0, 0).expect_err("refused").rule, Rule::ShapeFormat);
    }

    proptest! {
        #[test]
        fn reading_never_fails_badly(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn once_refused_always_refused(now in any::<u32>(), later in any::<u32>(), deadline in any::<u32>()) {
            let retired = [Retirement { version: Version { major: 1, minor: 0, patch: 0 }, deadline_ms: deadline.into() }];
            let at = |now_ms: u64| negotiate("v1.0", &retired, now_ms, 10).is_ok();
            prop_assert!(at(now.into()) || !at(u64::from(now) + u64::from(later)));
        }
    }
}
