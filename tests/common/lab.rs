//! Kernels on a device with inputs of the test's choice.

use std::cell::RefCell;
use std::collections::HashMap;

use fusebench::accuracy::Tracked;
use fusebench::gpu::{Checks, Program, Step};
use fusebench::inputs::{Distribution, Scalar};
use fusebench::kernel::{Answer, Dtype, Elem, Preset, Problem, Shape};
use fusebench::kernels::ALL;
use fusebench::reference::Rows;
use fusebench::shader;
use fusebench::suite::{Cell, Session};
use ndarray::{ArrayD, IxDyn};

use super::SEED;

/// What is run: a kernel of the registry at a shape, with some of its inputs replaced.
pub struct Ask {
    /// `FAMILY/NAME`.
    pub kernel: &'static str,
    pub dtype: Dtype,
    pub shape: Shape,
    /// How the results that count are stored; strategies that store otherwise are left out.
    pub storage: Elem,
    /// By tensor name, as many as the shape says.
    pub tensors: Vec<(&'static str, Vec<f64>)>,
    pub params: Vec<(&'static str, Scalar)>,
}

impl Ask {
    pub fn new(kernel: &'static str, storage: Elem, axes: &[(&'static str, usize)]) -> Self {
        let dtype = if storage == Elem::F16 { Dtype::F16 } else { Dtype::F32 };
        let shape = Shape::new(axes);
        Ask { kernel, dtype, shape, storage, tensors: Vec::new(), params: Vec::new() }
    }

    pub fn dtype(self, dtype: Dtype) -> Self {
        Ask { dtype, ..self }
    }

    pub fn tag(self, tag: &'static str) -> Self {
        Ask { shape: self.shape.tag(tag), ..self }
    }

    pub fn tensor(mut self, name: &'static str, values: impl IntoIterator<Item = f64>) -> Self {
        self.tensors.push((name, values.into_iter().collect()));
        self
    }

    pub fn real(mut self, name: &'static str, value: f32) -> Self {
        self.params.push((name, Scalar::Real(value)));
        self
    }

    pub fn size(mut self, name: &'static str, value: usize) -> Self {
        self.params.push((name, Scalar::Size(value as u32)));
        self
    }
}

/// One element: what the device gave, and the tracked reference.
#[derive(Clone, Copy, Debug, Default)]
pub struct Element {
    pub device: f64,
    pub reference: Tracked,
}

impl Element {
    /// A value that no kernel had to compute.
    pub fn given(value: f64) -> Self {
        Element { device: value, reference: Tracked { value, ..Default::default() } }
    }

    /// Moved by a whole number, exactly: codes without a sign.
    pub fn plus(self, by: f64) -> Self {
        let reference = Tracked { value: self.reference.value + by, ..self.reference };
        Element { device: self.device + by, reference }
    }

    /// With the other sign.
    pub fn negated(self) -> Self {
        let reference = Tracked { value: -self.reference.value, ..self.reference };
        Element { device: -self.device, reference }
    }
}

/// Outputs of a kernel by one of its strategies, flat.
#[derive(Clone)]
pub struct Run {
    pub variant: &'static str,
    pub outputs: Vec<Vec<Element>>,
}

impl Run {
    /// An output as an array.
    pub fn array(&self, output: usize, dims: &[usize]) -> ArrayD<Element> {
        ArrayD::from_shape_vec(IxDyn(dims), self.outputs[output].clone()).expect("its size")
    }
}

/// An open device and what was compiled on it.
pub struct Lab {
    session: Session,
    programs: RefCell<HashMap<String, Program>>,
}

impl Lab {
    pub fn new(session: Session) -> Self {
        Lab { session, programs: RefCell::default() }
    }

    /// Runs the kernel by every strategy that takes the shape and stores as asked.
    pub fn run(&self, ask: &Ask) -> Vec<Run> {
        let entry = ALL.iter().find(|entry| entry.path() == ask.kernel);
        let entry = entry.unwrap_or_else(|| panic!("no kernel {}", ask.kernel));
        let cells = entry.kernel.spec().variants.iter().map(|variant| {
            let (shape, preset) = (ask.shape.clone(), Preset::Smoke);
            Cell { entry, variant, dtype: ask.dtype, shape, preset, given: None }
        });
        let runs: Vec<Run> = cells
            .filter(|cell| cell.storage() == ask.storage && self.session.supports(cell))
            .map(|cell| self.run_cell(&cell, ask))
            .collect();
        assert!(!runs.is_empty(), "no strategy of {} takes {}", ask.kernel, ask.shape);
        runs
    }

    fn run_cell(&self, cell: &Cell, ask: &Ask) -> Run {
        let Cell { entry, variant, dtype, shape, .. } = cell;
        let gpu = self.session.gpu();
        let mut inputs = cell.inputs(Distribution::Normal, SEED);
        for (name, values) in &ask.tensors {
            inputs.replace(name, values);
        }
        for &(name, value) in &ask.params {
            inputs.params.set(name, value);
        }
        let (launch, key) = (cell.launch(), cell.id());
        let known = self.programs.borrow().get(&key).cloned();
        let program = known.unwrap_or_else(|| {
            let dialect = cell.dialect();
            let source = shader::source(entry.shader(variant).1, &dialect);
            let tensors = inputs.tensors.len();
            let program = gpu.compile(&source, &launch, variant, tensors, Checks::Safe);
            program.unwrap_or_else(|error| panic!("{key}: {error}"))
        });
        self.programs.borrow_mut().insert(key, program.clone());
        let set = gpu.allocate(&program, &inputs, &launch, &[]).expect("small buffers");
        let steps = [Step { program, set }];
        gpu.run(&steps).expect("it runs");
        let read = gpu.read(&steps[0].set).expect("it can be read");
        assert!(read.iter().all(|output| output.guard_intact), "{}: guard", ask.kernel);
        let pairs = read.iter().zip(&launch.outputs);
        let device: Vec<Answer> =
            pairs.map(|(output, buffer)| Answer { buffer, bytes: &output.bytes }).collect();
        let problem = Problem { shape, dtype: *dtype, variant, inputs: &inputs, device: &device };
        let reference = entry.kernel.tracked(&problem, &Rows::All);
        let join = |(answer, reference): (&Answer, &ndarray::Array2<Tracked>)| {
            let pairs = answer.values().into_iter().zip(reference.iter().copied());
            pairs.map(|(device, reference)| Element { device, reference }).collect()
        };
        Run { variant: variant.name, outputs: device.iter().zip(&reference).map(join).collect() }
    }
}
