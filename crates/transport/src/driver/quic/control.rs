//! [`ModelFactory`]: the model of [`crate::congestion`] as quinn's controller.
//!
//! quinn takes a window and spreads it over the round trip by itself (four
//! fifths of it; quinn-proto 0.11, pacing.rs). It names packets by the time they
//! were sent, and says with every batch of acks what is in flight.
//!
//! Not here: outages, which [`super::config`] keeps from any controller.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

use crate::congestion::{Delivered, Model};

/// Makes controllers for quinn.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModelFactory;

impl ControllerFactory for ModelFactory {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(ModelController { model: Model::new(now, mtu.into()), in_flight: 0 })
    }
}

/// A model, and the bytes in flight as far as quinn told.
#[derive(Clone)]
struct ModelController {
    model: Model,
    in_flight: u64,
}

impl fmt::Debug for ModelController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.model.fmt(f)
    }
}

impl Controller for ModelController {
    fn on_sent(&mut self, now: Instant, bytes: u64, _: u64) {
        self.model.on_sent(now, self.in_flight);
        self.in_flight += bytes;
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _: bool, _: &RttEstimator) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        let rtt = Some(now.saturating_duration_since(sent));
        let in_flight = self.in_flight;
        self.model.on_acked(now, Delivered { bytes, sent_at: sent, rtt, in_flight });
    }

    fn on_end_acks(&mut self, _: Instant, in_flight: u64, app_limited: bool, _: Option<u64>) {
        // Keys that were discarded took packets along of which nobody told.
        self.in_flight = in_flight;
        if app_limited {
            self.model.on_limited(in_flight);
        }
    }

    fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, lost_bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(lost_bytes);
        self.model.on_lost(lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.model.set_packet(new_mtu.into());
    }

    fn window(&self) -> u64 {
        self.model.window_bytes()
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.model.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
