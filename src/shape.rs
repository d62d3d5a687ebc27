//! Shapes of problems: named axes, the option that goes with them, and the sets they come in.

use std::fmt;
use std::ops::Index;

/// Sets of shapes with one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preset {
    /// Small and awkward: correctness on any adapter.
    Smoke,
    /// The sizes of published models: numbers people compare.
    Models,
    /// Scaling curves.
    Sweep,
}

impl Preset {
    pub const ALL: [Preset; 3] = [Preset::Smoke, Preset::Models, Preset::Sweep];

    pub fn name(self) -> &'static str {
        match self {
            Preset::Smoke => "smoke",
            Preset::Models => "models",
            Preset::Sweep => "sweep",
        }
    }
}

/// Named axes in a fixed order, an optional named option, and the model the sizes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    axes: Vec<(&'static str, usize)>,
    tag: Option<&'static str>,
    source: &'static str,
}

impl Shape {
    pub fn new(axes: &[(&'static str, usize)]) -> Self {
        Shape { axes: axes.to_vec(), tag: None, source: "" }
    }

    /// Adds a named option such as an activation or a mask; part of the id.
    pub fn tag(mut self, tag: &'static str) -> Self {
        self.tag = Some(tag);
        self
    }

    /// Names the model whose configuration file holds these sizes.
    pub fn from(mut self, source: &'static str) -> Self {
        self.source = source;
        self
    }

    /// The same option with other axes, which are of no model.
    pub fn with_axes(&self, axes: Vec<(&'static str, usize)>) -> Self {
        let source = if axes == self.axes { self.source } else { "" };
        Shape { axes, tag: self.tag, source }
    }

    pub fn axes(&self) -> &[(&'static str, usize)] {
        &self.axes
    }

    /// The size of an axis, where the shape has it.
    pub fn get(&self, axis: &str) -> Option<usize> {
        self.axes.iter().find(|(name, _)| *name == axis).map(|&(_, size)| size)
    }

    pub fn option(&self) -> Option<&'static str> {
        self.tag
    }

    pub fn source(&self) -> &'static str {
        self.source
    }

    /// The sizes rounded down to powers of four, and the option: shapes of one class are so much
    /// alike that the same strategy should win on them. `m77n768k768` is in `m64n256k256`.
    pub fn class(&self) -> String {
        let power = |size: usize| size.checked_ilog(4).map_or(0, |exponent| 4_usize.pow(exponent));
        let axes = self.axes.iter().map(|&(axis, size)| (axis, power(size))).collect();
        Shape { axes, ..self.clone() }.to_string()
    }
}

impl Index<&str> for Shape {
    type Output = usize;

    fn index(&self, axis: &str) -> &usize {
        let found = self.axes.iter().find(|(name, _)| *name == axis);
        &found.unwrap_or_else(|| panic!("shape {self} has no axis {axis}")).1
    }
}

/// The shape part of a result id: `r257d1408`, `m576n4096k1024_gelu`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (axis, size) in &self.axes {
            write!(f, "{axis}{size}")?;
        }
        self.tag.map_or(Ok(()), |tag| write!(f, "_{tag}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_prints_as_its_key() {
        let shape = Shape::new(&[("m", 576), ("k", 1024)]).tag("gelu");
        assert_eq!(shape.to_string(), "m576k1024_gelu");
        assert_eq!(shape["k"], 1024);
    }

    #[test]
    fn a_class_holds_sizes_within_a_factor_of_four() {
        let class = |m| Shape::new(&[("m", m), ("k", 1024)]).tag("gelu").class();
        assert_eq!(class(0), "m0k1024_gelu");
        assert_eq!([class(1), class(3)], ["m1k1024_gelu", "m1k1024_gelu"]);
        assert_eq!([class(4), class(15)], ["m4k1024_gelu", "m4k1024_gelu"]);
        assert_ne!(class(15), class(16));
    }
}
