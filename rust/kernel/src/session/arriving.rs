//! The ingress gateway (RK-05): what comes in over the transport passes here before it may mean anything.

use crate::authority::Ingress;
use crate::decision::Scope;
use crate::event::EventScope;
use crate::evidence::record::{Body, Call, Class, Marker};
use crate::reason::{Label, Reason};
use crate::session::SessionKernel;
use crate::signal::{Emitter, Signal};

/// Largest event that is taken, bytes.
pub const MAX_BYTES: u64 = 16_384;
/// Events remembered, so that one that comes again after a reconnection is known.
pub const REMEMBERED: usize = 256;

impl SessionKernel {
    /// May an event from outside come in? The reason for which not, if so, which is recorded.
    ///
    /// `event` stands for the id that the transport gave it, see [`crate::event::fingerprint`]. Refusals are
    /// details: a flood of them must not fill the evidence.
    pub fn arrive(&mut self, now_us: u64, event: u64, bytes: u64, carrier: Option<i64>) -> Option<Reason> {
        self.enter(now_us);
        if self.authority.drained() {
            return Some(Reason::AuthorityEpochMismatch);
        }
        let verdict = self.authority.ingress(carrier);
        let refusal = if bytes > MAX_BYTES {
            Some(Reason::AbiSizeExceeded)
        } else if verdict == Ingress::Invalid {
            Some(Reason::AbiEnvelopeInvalid)
        } else if self.arrived.contains(&event) {
            Some(Reason::AbiDuplicateEvent)
        } else {
            None
        };
        let (open, view) = (self.open_turn(), self.authority.view());
        let class = if refusal.is_some() { Class::Detail } else { Class::Baseline };
        self.arrivals += 1;
        let number = self.arrivals;
        self.note_call(class, open, Call::Arrival { number, event, bytes, carrier });
        if let Some(reason) = refusal {
            let sequence = self.sequences.allocate();
            let (signal, emitter) = (Signal::AbiReject, Emitter::Rk05);
            let (scope, reason) = (EventScope::Session, Label::Known(reason));
            let body = Body::Signal { signal, emitter, scope, reason, reach: None, invocation: number };
            self.record(class, 0, sequence, body);
        }
        match verdict {
            _ if refusal.is_some() => return refusal,
            Ingress::Stale | Ingress::Refresh => {
                self.stale_events += 1;
                // Once per turn, as for every stale event.
                if self.stale_event_reported.replace(open) != Some(open) {
                    self.stale_epoch(open, Scope::EdgeEnqueue);
                }
                return Some(Reason::AuthorityEpochMismatch);
            }
            Ingress::Enriched => self.marker(Class::Detail, open, Marker::EpochEnriched, view),
            Ingress::Accepted | Ingress::Invalid => {}
        }
        if self.arrived.len() == REMEMBERED {
            self.arrived.pop_front();
        }
        self.arrived.push_back(event);
        None
    }
}
