//! Modalities of unlike widths: their axes, where each one starts, and which elements are absent.

use super::modalities;
use crate::kernel::Shape;

/// The width axes, one for each modality: `b128u4v19w79` holds three.
const AXES: [&str; MAX_MODALITIES] = ["u", "v", "w", "x", "y", "z"];
/// Most modalities of one shape.
pub const MAX_MODALITIES: usize = 6;

/// A shape of some leading axes and one width for each modality.
pub fn shape(leading: &[(&'static str, usize)], widths: &[usize]) -> Shape {
    let widths = AXES.into_iter().zip(widths.iter().copied());
    Shape::new(&leading.iter().copied().chain(widths).collect::<Vec<_>>())
}

/// The width of each modality.
pub fn widths(shape: &Shape) -> Vec<usize> {
    shape.axes().iter().filter(|(name, _)| AXES.contains(name)).map(|&(_, width)| width).collect()
}

/// Where each modality starts among all columns, and their number at the end.
pub fn firsts(widths: &[usize]) -> Vec<usize> {
    let starts = widths.iter().scan(0, |end, width| {
        *end += width;
        Some(*end)
    });
    std::iter::once(0).chain(starts).collect()
}

/// The offset table as uploaded.
pub fn table(firsts: &[usize]) -> Vec<u32> {
    firsts.iter().map(|&first| first as u32).collect()
}

/// Presence bits of each sample; see [`modalities::masks`].
pub fn presence(shape: &Shape) -> Vec<u32> {
    modalities::masks(shape, widths(shape).len())
}

/// The modality that a column belongs to.
pub fn modality_of(firsts: &[usize], column: usize) -> usize {
    firsts[1..].iter().filter(|&&end| end <= column).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_belong_to_the_modality_they_start_in() {
        let widths = [2, 0, 3];
        let firsts = firsts(&widths);
        assert_eq!(firsts, [0, 2, 2, 5]);
        let of: Vec<usize> = (0..5).map(|column| modality_of(&firsts, column)).collect();
        assert_eq!(of, [0, 0, 2, 2, 2]);
    }

    #[test]
    fn a_shape_lists_its_widths_after_the_leading_axes() {
        let shape = shape(&[("b", 7)], &[4, 19, 79]);
        assert_eq!(shape.to_string(), "b7u4v19w79");
        assert_eq!(widths(&shape), [4, 19, 79]);
    }
}
