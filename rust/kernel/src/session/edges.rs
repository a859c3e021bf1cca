//! Recording what the edges of the session decided, as control signals in the session's own order.

use crate::edge::notice::{Notice, What};
use crate::event::{EventScope, Lane};
use crate::evidence::record::{Body, Class, EdgeRecord};
use crate::session::SessionKernel;

impl SessionKernel {
    /// Records one decision of an edge. It has the scope of its turn while that is open; a decision that
    /// is told later keeps the turn's id alone. Without authority nothing but the drain is told.
    pub fn edge_decided(
        &mut self,
        now_us: u64,
        edge_id: &str,
        lane: Lane,
        sync_domain: &str,
        notice: &Notice,
    ) {
        self.enter(now_us);
        if self.authority.drained() {
            return;
        }
        let in_turn = notice.turn != 0 && notice.turn == self.open_turn();
        let scope = if in_turn { EventScope::Turn } else { EventScope::Session };
        let domain = if matches!(notice.what, What::Discontinuity(_)) { sync_domain } else { edge_id };
        let record = EdgeRecord { what: notice.what, scope, lane, name: self.interner.label(domain) };
        let sequence = self.sequences.allocate();
        self.record(Class::Baseline, notice.turn, sequence, Body::Edge(record));
        if let What::Shed(point) = notice.what {
            self.shed_at(notice.turn, point);
        }
    }
}
