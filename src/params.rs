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
    /// When there is no such word: a bug in the kernel's file.
    pub fn with(&self, words: &[(&'static str, usize)]) -> Self {
        let mut changed = self.clone();
        for &(name, value) in words {
            let index = self.names.iter().position(|known| *known == name);
            let index = index.unwrap_or_else(|| panic!("no parameter {name}"));
            changed.words[index] = u32::try_from(value).expect("sizes fit 32 bits");
        }
        changed
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
}
