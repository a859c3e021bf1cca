//! Numbers that run on through a call, such as `runtime_sequence`: a difference is told once, and
//! not again for every record that follows from it.

/// How far one number of the replay is from the recorded one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drift {
    known: i128,
    suspected: Option<i128>,
    absent: Option<(u64, u64)>,
    explained: bool,
}

impl Drift {
    /// A record that is missing or extra was told: the next shift follows from it.
    pub const fn explain(&mut self) {
        self.explained = true;
    }

    /// Whether nothing has shifted.
    #[must_use]
    pub const fn calm(&self) -> bool {
        self.known == 0 && self.suspected.is_none() && self.absent.is_none() && !self.explained
    }

    /// Whether this pair must be told. The number 0 stands for none.
    pub fn check(&mut self, recorded: u64, replayed: u64) -> bool {
        if recorded == 0 && replayed == 0 {
            return false;
        }
        let explained = std::mem::take(&mut self.explained);
        if recorded == replayed {
            *self = Self::default();
            return false;
        }
        if recorded == 0 || replayed == 0 {
            return self.absent.replace((recorded, replayed)) != Some((recorded, replayed)) && !explained;
        }
        let apart = i128::from(replayed) - i128::from(recorded);
        if apart == self.known {
            self.suspected = None;
            return false;
        }
        if explained || self.suspected == Some(apart) {
            // One edited record stands alone; two in a row are a shift of all that follows.
            (self.known, self.suspected) = (apart, None);
            return false;
        }
        self.suspected = Some(apart);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_edit_is_told_once_and_a_shift_once() {
        let mut drift = Drift::default();
        let told: Vec<_> = [(1, 1), (2, 9), (3, 3), (4, 5), (5, 6), (6, 7), (0, 0), (7, 8), (8, 8), (9, 10)]
            .iter()
            .map(|(recorded, replayed)| drift.check(*recorded, *replayed))
            .collect();
        assert_eq!(told, [false, true, false, true, false, false, false, false, false, true]);
    }

    #[test]
    fn a_shift_that_a_missing_record_explains_is_not_told() {
        let mut drift = Drift::default();
        drift.explain();
        assert!(!drift.check(4, 5) && !drift.check(5, 6));
        assert!(drift.check(6, 6) || drift.check(7, 9));
    }

    #[test]
    fn having_none_is_told_once_for_each_pair() {
        let mut drift = Drift::default();
        assert!(drift.check(3, 0) && !drift.check(3, 0) && drift.check(4, 0));
    }
}
