//! A device that takes as long as it is told, on a clock of its own.

use std::convert::Infallible;

use fusebench::measure::{Clocked, Context, Plan, Reading, Stopped, Target, Timing, measure};
use fusebench::rng;

/// What a submission costs.
pub const SUBMIT_S: f64 = 100e-6;
/// The canary on a steady device.
pub const CANARY_S: f64 = 1e-3;

/// What the protocol asked for, in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Call {
    Hot(u32),
    Cold,
    Canary,
    Pause(f64),
}

/// Per dispatch, by number of the hot or cold call.
pub type Time = Box<dyn Fn(usize) -> f64>;
/// What the device timer makes of a true time, by number of the hot call.
pub type Timer = Box<dyn Fn(usize, f64) -> Option<f64>>;

pub struct Fake {
    pub now_s: f64,
    pub calls: Vec<Call>,
    pub hot_s: Time,
    pub cold_s: Time,
    pub timer: Timer,
    /// The canary's time at a time of day.
    pub canary_s: Time,
    pub interrupt_after: usize,
}

impl Fake {
    /// A device that takes `dispatch_s` every time and reads it exactly.
    pub fn steady(dispatch_s: f64) -> Self {
        Fake {
            now_s: 100.0,
            calls: Vec::new(),
            hot_s: Box::new(move |_| dispatch_s),
            cold_s: Box::new(move |_| 1.5 * dispatch_s),
            timer: Box::new(|_, s| Some(s)),
            canary_s: Box::new(|_| CANARY_S),
            interrupt_after: usize::MAX,
        }
    }

    /// The same with relative noise in hot and cold times.
    pub fn noisy(dispatch_s: f64, noise: f64) -> Self {
        let draw = move |stream, i: usize| {
            dispatch_s * (1.0 + noise * f64::from(rng::normal(9, stream, i as u32))).max(0.1)
        };
        let (hot_s, cold_s) = (move |i| draw(1, i), move |i| draw(2, i));
        Fake { hot_s: Box::new(hot_s), cold_s: Box::new(cold_s), ..Fake::steady(dispatch_s) }
    }

    pub fn timer(mut self, timer: impl Fn(usize, f64) -> Option<f64> + 'static) -> Self {
        self.timer = Box::new(timer);
        self
    }

    /// Canaries by number of the canary call.
    pub fn canaries(mut self, canary_s: impl Fn(usize) -> f64 + 'static) -> Self {
        self.canary_s = Box::new(canary_s);
        self
    }

    pub fn count(&self, is: impl Fn(&Call) -> bool) -> usize {
        self.calls.iter().filter(|call| is(call)).count()
    }

    pub fn hots(&self) -> usize {
        self.count(|call| matches!(call, Call::Hot(_)))
    }

    pub fn pauses(&self) -> Vec<f64> {
        let pause = |call: &Call| if let Call::Pause(s) = call { Some(*s) } else { None };
        self.calls.iter().filter_map(pause).collect()
    }

    fn reading(&mut self, index: usize, work_s: f64) -> Reading {
        let wall_s = work_s + SUBMIT_S;
        self.now_s += wall_s;
        Reading { device_s: (self.timer)(index, work_s), wall_s }
    }

    pub fn run(&mut self, plan: &Plan, context: &Context) -> Result<Timing, Stopped<Infallible>> {
        measure(self, plan, context)
    }
}

impl Target for Fake {
    fn hot(&mut self, batch: u32) -> Result<Reading, Infallible> {
        let index = self.hots();
        self.calls.push(Call::Hot(batch));
        Ok(self.reading(index, f64::from(batch) * (self.hot_s)(index)))
    }

    fn cold(&mut self) -> Result<Reading, Infallible> {
        let index = self.count(|call| *call == Call::Cold);
        self.calls.push(Call::Cold);
        Ok(self.reading(index, (self.cold_s)(index)))
    }
}

impl Clocked for Fake {
    type Error = Infallible;

    fn canary(&mut self) -> Result<Reading, Infallible> {
        let work_s = (self.canary_s)(self.count(|call| *call == Call::Canary));
        self.calls.push(Call::Canary);
        self.now_s += work_s + SUBMIT_S;
        Ok(Reading { device_s: Some(work_s), wall_s: work_s + SUBMIT_S })
    }

    fn pause(&mut self, seconds: f64) {
        self.calls.push(Call::Pause(seconds));
        self.now_s += seconds;
    }

    fn now_s(&self) -> f64 {
        self.now_s
    }

    fn interrupted(&self) -> bool {
        self.calls.len() >= self.interrupt_after
    }
}
