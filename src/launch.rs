//! What one run is to the device: buffers, dispatches, and the parts of buffers they see.

use std::ops::Range;

use crate::elem::Elem;
use crate::shape::Shape;

/// Buffers and dispatches of one run. Bindings are numbered: 0 is Params, then the inputs, the
/// outputs and the scratch buffers, each in order.
#[derive(Clone, Debug)]
pub struct Launch {
    pub outputs: Vec<Buffer>,
    /// Written and read inside one run, never seen by the reference.
    pub scratch: Vec<Buffer>,
    pub dispatches: Vec<Dispatch>,
}

impl Launch {
    /// One output, no scratch, one dispatch of the entry point `main`.
    pub fn single(output: Buffer, grid: [u32; 3]) -> Self {
        let dispatches = vec![Dispatch::new("main", grid)];
        Launch { outputs: vec![output], scratch: Vec::new(), dispatches }
    }

    /// How many buffers it binds to write.
    pub fn written(&self) -> usize {
        self.outputs.len() + self.scratch.len()
    }

    /// The same with an override constant set by the shape.
    pub fn with_constant(mut self, name: &'static str, value: f64) -> Self {
        for dispatch in &mut self.dispatches {
            dispatch.constants.push((name, value));
        }
        self
    }
}

/// A device buffer the kernel writes: `rows × cols` elements, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    pub name: &'static str,
    pub elem: Elem,
    pub rows: usize,
    pub cols: usize,
}

impl Buffer {
    pub fn new(name: &'static str, elem: Elem, rows: usize, cols: usize) -> Self {
        Buffer { name, elem, rows, cols }
    }

    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn bytes(&self) -> usize {
        self.elem.bytes_of(self.len())
    }
}

/// One `dispatch_workgroups` of an entry point.
#[derive(Clone, Debug)]
pub struct Dispatch {
    pub entry: &'static str,
    pub grid: [u32; 3],
    /// Override constants set by the shape, on top of the variant's.
    pub constants: Vec<(&'static str, f64)>,
    pub slice: Slice,
}

impl Dispatch {
    /// A dispatch of whole buffers without constants of its own.
    pub fn new(entry: &'static str, grid: [u32; 3]) -> Self {
        Dispatch { entry, grid, constants: Vec::new(), slice: Slice::default() }
    }
}

/// The part of the buffers that one dispatch sees, for buffers larger than one binding may be.
/// Everything by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Buffers that are bound in part; the others are bound whole.
    pub windows: Vec<Window>,
    /// Words of Params that differ from those of the inputs, such as where the windows start.
    pub params: Vec<(&'static str, usize)>,
}

/// Consecutive elements of an input, an output or a scratch buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    pub buffer: &'static str,
    pub elements: Range<usize>,
}

/// Bytes that the start of a window must be a multiple of: the most that WebGPU lets a device ask.
pub const WINDOW_ALIGNMENT: usize = 256;
/// What WebGPU guarantees one binding.
pub const PORTABLE_BINDING: usize = 128 << 20;
/// Below this a buffer is cut for the sake of tests.
const SMALL: usize = 4 << 20;

/// Cuts rows into at most `count` runs of equal length, the last one shorter, such that a window
/// may start at each; rows are so many bytes in the buffers that are cut.
pub fn cut(rows: usize, count: usize, row_bytes: &[usize]) -> Vec<Range<usize>> {
    // Rows whose bytes hold a large power of two may start anywhere, others at every 64th, say.
    let unit = |&bytes: &usize| match bytes.trailing_zeros() {
        zeros @ 0..8 => WINDOW_ALIGNMENT >> zeros,
        _ => 1,
    };
    let unit = row_bytes.iter().map(unit).max().unwrap_or(1);
    let length = rows.div_ceil(count).next_multiple_of(unit).max(1);
    let starts = (0..rows.max(1)).step_by(length);
    starts.map(|start| start..rows.min(start + length)).collect()
}

/// Why a strategy by vectors of four elements leaves a shape to those that take single ones.
pub fn refuses_ragged(shape: &Shape, axis: &str) -> Option<String> {
    let length = shape[axis];
    (!length.is_multiple_of(4)).then(|| format!("{axis} is {length}, not a multiple of 4"))
}

/// Why a strategy that cuts a buffer of so many f32 values is not worth its while.
pub fn refuses_uncut(elements: usize) -> Option<String> {
    let bytes = 4 * elements;
    (SMALL + 1..=PORTABLE_BINDING).contains(&bytes).then(|| {
        format!("{:.1} MiB fit one binding: nothing to cut", bytes as f64 / f64::from(1 << 20))
    })
}

/// Most workgroups WebGPU guarantees in one grid dimension.
pub const MAX_GRID: usize = 65_535;

/// A grid of `workgroups` along x that spills into y; the shader numbers them
/// `wid.x + wid.y * num_workgroups.x`.
pub fn spill(workgroups: usize) -> [u32; 3] {
    let y = workgroups.div_ceil(MAX_GRID).max(1);
    [workgroups.div_ceil(y) as u32, y as u32, 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_over_the_limit_spills_without_losing_a_workgroup() {
        assert_eq!(spill(0), [0, 1, 1]);
        assert_eq!(spill(65_535), [65_535, 1, 1]);
        for n in [65_536_usize, 65_537, 131_071, 1_000_003] {
            let [x, y, _] = spill(n);
            assert!(x <= 65_535 && (x as usize) * (y as usize) >= n, "{n}: {x}×{y}");
        }
    }

    #[test]
    fn cuts_start_where_a_window_may_and_leave_nothing_out() {
        for (rows, row_bytes) in [(65, 1028), (65_537, 20), (33, 512), (9, 256), (1, 4), (100, 6)] {
            let cuts = cut(rows, 8, &[row_bytes, row_bytes / 2]);
            assert!(cuts.len() <= 8 && cuts[0].start == 0, "{cuts:?}");
            assert!(cuts.iter().all(|cut| cut.start * row_bytes / 2 % WINDOW_ALIGNMENT == 0));
            assert!(cuts.windows(2).all(|pair| pair[0].end == pair[1].start), "{cuts:?}");
            assert_eq!(cuts.last().map(|cut| cut.end), Some(rows));
        }
        let nothing = cut(0, 8, &[4]);
        assert!(nothing.len() == 1 && nothing[0].is_empty(), "{nothing:?}");
        assert_eq!(cut(32_768, 8, &[5120]).len(), 8);
    }
}
