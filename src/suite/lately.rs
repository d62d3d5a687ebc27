//! Shaders compiled lately, for the next shape.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::cell::Cell;
use crate::gpu::{Checks, Gpu, GpuError, Program, Shader};

/// More than the stages of any pipeline.
const KEPT: usize = 32;

/// The latest in front.
#[derive(Default)]
pub struct Lately(RefCell<VecDeque<(Text, Shader)>>);

/// What a shader is compiled from.
#[derive(PartialEq, Eq)]
struct Text {
    source: String,
    inputs: usize,
    written: usize,
    checks: Checks,
}

impl Lately {
    /// The program of a cell, whose shader may be at hand from another shape.
    pub fn program(
        &self,
        gpu: &Gpu,
        cell: &Cell,
        source: String,
        inputs: usize,
        checks: Checks,
    ) -> Result<Program, GpuError> {
        let launch = cell.launch();
        let text = Text { source, inputs, written: launch.written(), checks };
        let mut kept = self.0.borrow_mut();
        let known = kept.iter().position(|(known, _)| *known == text);
        let (text, mut shader) = match known.and_then(|position| kept.remove(position)) {
            Some(known) => known,
            None => {
                let shader = gpu.shader(&text.source, inputs, text.written, checks)?;
                (text, shader)
            }
        };
        let program = gpu.program(&mut shader, &launch, cell.variant);
        kept.push_front((text, shader));
        kept.truncate(KEPT);
        program
    }

    pub fn forget(&self) {
        self.0.borrow_mut().clear();
    }
}
