//! The scalars that a shader is given besides its tensors.

/// The uniform `Params` struct of a shader: named 4-byte scalars in declaration order.
///
/// A test compares names and offsets with the WGSL of every kernel.
#[derive(Clone, Debug, Default)]
pub struct Params {
    names: Vec<&'static str>,
    words: Vec<u32>,
    /// Whether each word is an f32.
    real: Vec<bool>,
}

/// One member of [`Params`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    Size(u32),
    Real(f32),
}

impl Params {
    pub fn new() -> Self {
        Params::default()
    }

    /// Appends an unsigned size or count.
    pub fn size(self, name: &'static str, value: usize) -> Self {
        self.word(name, u32::try_from(value).expect("sizes fit 32 bits"), false)
    }

    /// Appends an f32.
    pub fn real(self, name: &'static str, value: f32) -> Self {
        self.word(name, value.to_bits(), true)
    }

    fn word(mut self, name: &'static str, value: u32, is_real: bool) -> Self {
        self.names.push(name);
        self.words.push(value);
        self.real.push(is_real);
        self
    }

    /// The same with some sizes replaced.
    ///
    /// # Panics
    /// As [`Params::set`].
    pub fn with(&self, words: &[(&'static str, usize)]) -> Self {
        let mut changed = self.clone();
        for &(name, value) in words {
            changed.set(name, Scalar::Size(u32::try_from(value).expect("sizes fit 32 bits")));
        }
        changed
    }

    /// Gives a scalar another value.
    ///
    /// # Panics
    /// When there is no scalar of this name and kind: a bug in the caller.
    pub fn set(&mut self, name: &str, value: Scalar) {
        let at = self.place(name);
        let (word, is_real) = match value {
            Scalar::Size(size) => (size, false),
            Scalar::Real(real) => (real.to_bits(), true),
        };
        assert_eq!(self.real[at], is_real, "the kind of parameter {name}");
        self.words[at] = word;
    }

    /// The value of an f32.
    ///
    /// # Panics
    /// As [`Params::set`].
    pub fn get_real(&self, name: &str) -> f64 {
        let at = self.place(name);
        assert!(self.real[at], "parameter {name} is a size");
        f64::from(f32::from_bits(self.words[at]))
    }

    /// The value of a size or count.
    ///
    /// # Panics
    /// As [`Params::set`].
    pub fn get_size(&self, name: &str) -> usize {
        let at = self.place(name);
        assert!(!self.real[at], "parameter {name} is no size");
        self.words[at] as usize
    }

    fn place(&self, name: &str) -> usize {
        let found = self.names.iter().position(|known| *known == name);
        found.unwrap_or_else(|| panic!("no parameter {name}"))
    }

    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// Names and values in declaration order.
    pub fn scalars(&self) -> impl Iterator<Item = (&'static str, Scalar)> {
        let values = self.words.iter().zip(&self.real).map(|(&word, &is_real)| {
            if is_real { Scalar::Real(f32::from_bits(word)) } else { Scalar::Size(word) }
        });
        self.names.iter().copied().zip(values)
    }

    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_come_back_as_they_were_given() {
        let params = Params::new().size("rows", 7).real("eps", 1e-5);
        let scalars: Vec<_> = params.scalars().collect();
        assert_eq!(scalars, [("rows", Scalar::Size(7)), ("eps", Scalar::Real(1e-5))]);
        assert_eq!(params.bytes()[..4], 7_u32.to_le_bytes());
        let slice = params.with(&[("rows", 3)]);
        assert_eq!(slice.scalars().next(), Some(("rows", Scalar::Size(3))));
        assert_eq!(slice.names(), params.names());
    }

    #[test]
    fn a_scalar_takes_another_value_of_its_kind() {
        let mut params = Params::new().size("rows", 7).real("eps", 1e-5);
        params.set("eps", Scalar::Real(0.5));
        params.set("rows", Scalar::Size(3));
        assert_eq!((params.get_size("rows"), params.get_real("eps")), (3, 0.5));
    }
}
