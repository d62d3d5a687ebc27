//! Shaders compiled lately, for the next shape.

use std::cell::RefCell;
use std::collections::VecDeque;

use rayon::prelude::*;

use super::cell::Cell;
use super::session::Session;
use super::task::Task;
use crate::gpu::{Checks, Gpu, GpuError, Program, Shader};

/// More than the stages of any pipeline, with checks and without.
const KEPT: usize = 64;

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

/// A cell to compile: its text and how many inputs it binds.
struct Wanted<'a> {
    cell: &'a Cell,
    source: String,
    inputs: usize,
    checks: Checks,
}

impl Lately {
    /// Compiles what is not at hand yet, on all cores: a driver spends ten milliseconds a program
    /// on one of them. What fails is left to `program`, which says why.
    fn ahead(&self, gpu: &Gpu, wanted: Vec<Wanted<'_>>) {
        let mut kept = self.0.borrow_mut();
        let mut shaders: Vec<(Text, Option<Shader>, Vec<&Cell>)> = Vec::new();
        for Wanted { cell, source, inputs, checks } in wanted {
            let text = Text { source, inputs, written: cell.launch().written(), checks };
            if let Some((.., cells)) = shaders.iter_mut().find(|(known, ..)| *known == text) {
                cells.push(cell);
                continue;
            }
            let known = kept.iter().position(|(known, _)| *known == text);
            let shader = known.and_then(|position| kept.remove(position)).map(|(_, shader)| shader);
            shaders.push((text, shader, vec![cell]));
        }
        let compile = |(text, shader, cells): (Text, Option<Shader>, Vec<&Cell>)| {
            let new = || gpu.shader(&text.source, text.inputs, text.written, text.checks);
            let mut shader = shader.map_or_else(new, Ok).ok()?;
            for cell in cells {
                gpu.program(&mut shader, &cell.launch(), cell.variant).ok();
            }
            Some((text, shader))
        };
        let compiled: Vec<_> = shaders.into_par_iter().filter_map(compile).collect();
        compiled.into_iter().for_each(|shader| kept.push_front(shader));
        kept.truncate(KEPT);
    }

    /// The program of a cell, whose shader may be at hand from another shape.
    fn program(
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

impl Session {
    /// What was compiled lately serves the next shape of the same shader too.
    pub(super) fn compile(
        &self,
        cell: &Cell,
        inputs: usize,
        checks: Checks,
    ) -> Result<Program, GpuError> {
        self.lately.program(&self.gpu, cell, cell.source(&self.sources), inputs, checks)
    }

    /// Compiles cells, each with the number of its inputs, for all that a task does with them.
    pub(super) fn compile_ahead<'a>(
        &self,
        cells: impl Iterator<Item = (&'a Cell, usize)> + Clone,
        task: &Task,
    ) {
        let is_timed_without = task.plan().and_then(|plan| plan.trusted()).is_some();
        let others = [Checks::Trusted].into_iter().filter(|_| is_timed_without);
        let wanted = std::iter::once(self.checks()).chain(others).flat_map(|checks| {
            cells.clone().map(move |(cell, inputs)| {
                let source = cell.source(&self.sources);
                Wanted { cell, source, inputs, checks }
            })
        });
        self.lately.ahead(&self.gpu, wanted.collect());
    }
}
