//! The lane router (RK-06): control before data before telemetry.
//!
//! | lane | under pressure | after a fence |
//! |---|---|---|
//! | `ControlLane` | is refused at its bound and never shed: its producer keeps what was refused | stays |
//! | `DataLane` | as its strategy says | loses the turn's items |
//! | `TelemetryLane` | as its strategy says | stays |
//!
//! Each lane has bounds of its own, so no amount of data or telemetry takes room from control.

use crate::edge::bounds::{Bounds, BoundsError, EdgeSettings, Strategy};
use crate::edge::buffer::EdgeBuffer;
use crate::edge::flow::FlowMode;
use crate::edge::item::{Offer, Put, Taken};
use crate::edge::notice::Notice;
use crate::edge::sync::SyncPolicy;
use crate::event::Lane;

/// Three queues in strict priority.
#[derive(Debug)]
pub struct LaneRouter<T> {
    control: EdgeBuffer<T>,
    data: EdgeBuffer<T>,
    telemetry: EdgeBuffer<T>,
    next_sequence: u64,
}

/// The settings of the simple profile for one lane (sections 6.4 and 7.4 of the contracts).
#[must_use]
pub const fn simple(lane: Lane) -> EdgeSettings {
    let (strategy, max_items, high_items, low_items) = match lane {
        Lane::Control => (Strategy::NonBlockingPriority, 64, 20, 10),
        Lane::Data => (Strategy::Drop, 128, 100, 50),
        Lane::Telemetry => (Strategy::Sample, 256, 200, 100),
    };
    let bounds = Bounds {
        max_items,
        max_ms: 60_000,
        max_bytes: 1 << 20,
        max_latency_ms: 60_000,
        high_items,
        low_items,
        high_ms: 0,
        low_ms: 0,
        max_block_ms: None,
    };
    let (flow, sync) = (FlowMode::Signal, SyncPolicy::NONE);
    EdgeSettings { lane, strategy, bounds, flow, sync, sample_every: 2 }
}

impl<T> LaneRouter<T> {
    /// Empty lanes with the settings given for each.
    ///
    /// # Errors
    /// A setting is out of range, or its strategy does not serve its lane.
    pub fn new(
        control: EdgeSettings,
        data: EdgeSettings,
        telemetry: EdgeSettings,
    ) -> Result<Self, BoundsError> {
        let lane = |lane, settings| EdgeBuffer::new(EdgeSettings { lane, ..settings });
        Ok(Self {
            control: lane(Lane::Control, control)?,
            data: lane(Lane::Data, data)?,
            telemetry: lane(Lane::Telemetry, telemetry)?,
            next_sequence: 0,
        })
    }

    /// The queue of one lane.
    #[must_use]
    pub const fn lane(&self, lane: Lane) -> &EdgeBuffer<T> {
        match lane {
            Lane::Control => &self.control,
            Lane::Data => &self.data,
            Lane::Telemetry => &self.telemetry,
        }
    }

    /// The queue of one lane, to be changed.
    pub const fn lane_mut(&mut self, lane: Lane) -> &mut EdgeBuffer<T> {
        match lane {
            Lane::Control => &mut self.control,
            Lane::Data => &mut self.data,
            Lane::Telemetry => &mut self.telemetry,
        }
    }

    /// Offers an item on its lane.
    pub fn offer(&mut self, lane: Lane, offer: Offer<T>) -> Put {
        let offer = self.numbered(offer);
        self.lane_mut(lane).offer(offer)
    }

    /// Gives an offer its number among those of all lanes, if it has none: what is shed is named by it.
    pub fn numbered(&mut self, offer: Offer<T>) -> Offer<T> {
        let sequence = offer.sequence.unwrap_or(self.next_sequence);
        self.next_sequence = self.next_sequence.max(sequence + 1);
        Offer { sequence: Some(sequence), ..offer }
    }

    /// Takes the next item: the oldest of the first lane that holds one.
    pub fn take(&mut self, now_us: u64) -> Option<(Lane, Taken<T>)> {
        self.take_by(|_, lane| lane.take(now_us))
    }

    /// The same, where `take` says how an item is taken from its lane, if it may be.
    pub fn take_by(
        &mut self,
        mut take: impl FnMut(Lane, &mut EdgeBuffer<T>) -> Option<Taken<T>>,
    ) -> Option<(Lane, Taken<T>)> {
        Lane::ALL.iter().find_map(|lane| Some((*lane, take(*lane, self.lane_mut(*lane))?)))
    }

    /// Removes every data item of `turn` and of earlier turns; returns how many.
    ///
    /// Control stays, since the end of a turn is told on it; telemetry about a turn is no output.
    pub fn fence(&mut self, turn: u32) -> usize {
        self.data.fence(turn)
    }

    /// Sheds the telemetry of `turn` and of earlier turns, because data that says more overtakes it;
    /// returns how many items.
    pub fn overtake(&mut self, turn: u32, now_us: u64) -> usize {
        self.telemetry.shed_through(turn, now_us)
    }

    /// Takes the oldest decision of the first lane that made one.
    pub fn take_notice(&mut self) -> Option<(Lane, Notice)> {
        Lane::ALL.iter().find_map(|lane| Some((*lane, self.lane_mut(*lane).take_notice()?)))
    }

    /// All items, control first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.control.iter().chain(self.data.iter()).chain(self.telemetry.iter())
    }

    /// Items waiting on all lanes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.control.len() + self.data.len() + self.telemetry.len()
    }

    /// Whether nothing waits on any lane.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes everything; returns how many.
    pub fn clear(&mut self) -> usize {
        self.control.clear() + self.data.clear() + self.telemetry.clear()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::determinism::Place;
    use proptest::prelude::*;

    fn router() -> LaneRouter<u64> {
        LaneRouter::new(simple(Lane::Control), simple(Lane::Data), simple(Lane::Telemetry)).expect("valid")
    }

    fn offer(item: u64, turn: u32) -> Offer<u64> {
        Offer::new(item, turn, 1000, 10)
    }

    #[test]
    fn m_05_control_overtakes_and_survives_a_fence() {
        let mut router = router();
        for (item, lane) in [(1, Lane::Telemetry), (2, Lane::Data), (3, Lane::Data), (4, Lane::Control)] {
            router.offer(lane, offer(item, 1));
        }
        assert_eq!(router.take(0).map(|(lane, taken)| (lane, taken.item)), Some((Lane::Control, 4)));
        router.offer(Lane::Control, offer(5, 1));
        assert_eq!((router.fence(1), router.len()), (2, 2));
        let left: Vec<_> =
            std::iter::from_fn(|| router.take(0)).map(|(lane, taken)| (lane, taken.item)).collect();
        assert_eq!(left, [(Lane::Control, 5), (Lane::Telemetry, 1)]);
    }

    #[test]
    fn a_strategy_must_serve_its_lane() {
        let data = simple(Lane::Data);
        let wrong = LaneRouter::<u8>::new(data, data, simple(Lane::Telemetry)).expect_err("refused");
        assert_eq!(wrong.field, "strategy");
    }

    #[test]
    fn m_05_saturated_data_delays_control_by_nothing() {
        let mut router = router();
        for item in 0..1_000_000 {
            router.offer(Lane::Data, offer(item, 1));
            router.offer(Lane::Telemetry, offer(item, 1));
            if item % 100_000 == 0 {
                assert_eq!(router.offer(Lane::Control, offer(item, 1)), Put::Queued);
                assert_eq!(
                    router.take(0).map(|(lane, taken)| (lane, taken.item)),
                    Some((Lane::Control, item))
                );
            }
        }
        assert!(router.len() <= 128 + 256);
    }

    #[test]
    fn ml001_telemetry_that_is_overtaken_is_shed_by_name() {
        let mut router = router();
        for (item, turn) in [(1, 1), (2, 2), (3, 3)] {
            router.offer(Lane::Telemetry, offer(item, turn));
        }
        router.offer(Lane::Data, offer(4, 2));
        assert_eq!((router.overtake(2, 5), router.len()), (2, 2));
        let told: Vec<_> = std::iter::from_fn(|| router.take_notice()).collect();
        assert_eq!(
            told.iter().map(|(lane, notice)| (*lane, notice.turn)).collect::<Vec<_>>(),
            [(Lane::Telemetry, 1), (Lane::Telemetry, 2)]
        );
        assert_eq!(router.take(5).map(|(_, taken)| taken.item), Some(4));
        assert_eq!(router.take(5).map(|(_, taken)| taken.item), Some(3));
    }

    proptest! {
        #[test]
        fn rd003_the_router_hands_over_by_the_merge_rule(
            lanes in prop::collection::vec(0usize..3, 1..60),
        ) {
            let mut router = router();
            let ids: Vec<_> = (0..lanes.len()).map(|number| format!("e{number:03}")).collect();
            let mut places = Vec::new();
            for ((sequence, &lane), id) in (0_u64..).zip(&lanes).zip(&ids) {
                let lane = Lane::ALL[lane];
                let put = router.offer(lane, offer(sequence, 1));
                prop_assert_eq!(put, Put::Queued);
                places.push(Place { lane, sequence, event_id: id });
            }
            places.sort();
            let taken = std::iter::from_fn(|| router.take(0)).map(|(lane, taken)| (lane, taken.sequence));
            prop_assert!(taken.eq(places.iter().map(|place| (place.lane, place.sequence))));
        }

        #[test]
        fn control_is_never_lost_and_always_first(
            operations in prop::collection::vec((0u8..6, 1u32..4), 1..400),
        ) {
            let mut router = router();
            let (mut sent, mut received) = (Vec::new(), Vec::new());
            for (item, &(operation, turn)) in (0_u64..).zip(&operations) {
                match operation {
                    0 => {
                        let waits = !router.lane(Lane::Control).is_empty();
                        let taken = router.take(0);
                        prop_assert_eq!(waits, taken.as_ref().is_some_and(|(lane, _)| *lane == Lane::Control));
                        received.extend(taken.filter(|(lane, _)| *lane == Lane::Control).map(|(_, taken)| taken.item));
                    }
                    1 => drop(router.fence(turn)),
                    2 | 3 => {
                        let put = router.offer(Lane::Control, offer(item, turn));
                        prop_assert!(matches!(put, Put::Queued | Put::Refused));
                        sent.extend((put == Put::Queued).then_some(item));
                    }
                    4 => drop(router.offer(Lane::Data, offer(item, turn))),
                    _ => drop(router.offer(Lane::Telemetry, offer(item, turn))),
                }
            }
            while let Some((Lane::Control, taken)) = router.take(0) {
                received.push(taken.item);
            }
            prop_assert_eq!(sent, received);
        }
    }
}
