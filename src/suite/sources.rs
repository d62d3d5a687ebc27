//! The WGSL text of every kernel as it will run.

use std::collections::BTreeMap;

use crate::kernel::Entry;
use crate::kernels::ALL;
use crate::record::fnv1a;
use crate::shader::Dialect;

/// The embedded shaders, some of them replaced.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// By path, as under `kernels/`.
    replaced: BTreeMap<String, String>,
}

impl Sources {
    /// Replaces the shader `FAMILY/NAME`.
    pub fn replace(&mut self, path: &str, text: String) {
        self.replaced.insert(path.to_owned(), text);
    }

    /// The shader of a kernel that is written over a dialect.
    pub fn get(&self, entry: &Entry, dialect: &Dialect) -> &str {
        let (path, text) = entry.shader(dialect);
        self.in_force(&path, text)
    }

    /// Path and text of each shader of a kernel.
    pub fn of<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = (String, &'a str)> {
        entry.shaders().map(|(path, text)| {
            let text = self.in_force(&path, text);
            (path, text)
        })
    }

    fn in_force<'a>(&'a self, path: &str, embedded: &'a str) -> &'a str {
        self.replaced.get(path).map_or(embedded, String::as_str)
    }

    /// Sixteen hexadecimal digits over every shader as it will run.
    pub fn hash(&self) -> String {
        let all = ALL.iter().flat_map(|entry| self.of(entry));
        let texts: Vec<String> = all.map(|(path, text)| format!("{path}\n{text}")).collect();
        digits(&texts.join("\0"))
    }

    /// Sixteen hexadecimal digits over the shaders of one kernel.
    pub fn hash_of(&self, entry: &Entry) -> String {
        let texts: Vec<&str> = self.of(entry).map(|(_, text)| text).collect();
        digits(&texts.join("\0"))
    }
}

/// The kernel that a shader belongs to.
pub fn owner(path: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.shaders().any(|(known, _)| known == path))
}

fn digits(text: &str) -> String {
    format!("{:016x}", (fnv1a(text.as_bytes()) >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Elem;
    use crate::shader::Matrix;

    #[test]
    fn replacing_one_shader_changes_the_hash_and_only_that_shader() {
        let (embedded, mut sources) = (Sources::default(), Sources::default());
        sources.replace(&ALL[0].path(), "// nothing".to_owned());
        assert_ne!(embedded.hash(), sources.hash());
        let plain = Dialect { storage: Elem::F32, sum: Elem::F32, matrix: None };
        assert_eq!(sources.get(&ALL[0], &plain), "// nothing");
        assert!(ALL[1..].iter().all(|entry| sources.get(entry, &plain) == entry.wgsl));
    }

    #[test]
    fn cooperative_matrices_have_a_shader_of_their_own() {
        let linear = owner("project/linear_matrix").expect("a shader");
        let text = linear.matrix_wgsl.expect("its text");
        assert_eq!(linear.path(), "project/linear");
        assert!(owner("project/linear_matrix_matrix").is_none());
        let (sum, storage) = (Elem::F32, Elem::F32);
        let matrix = Some(Matrix { side: 8, factor: storage, sum });
        let of = |matrix| Dialect { storage, sum, matrix };
        let mut sources = Sources::default();
        assert_eq!(sources.get(linear, &of(None)), linear.wgsl);
        assert_eq!(sources.get(linear, &of(matrix)), text);
        let before = sources.hash_of(linear);
        sources.replace("project/linear_matrix", "// nothing".to_owned());
        assert_eq!(sources.get(linear, &of(None)), linear.wgsl);
        assert_eq!(sources.get(linear, &of(matrix)), "// nothing");
        assert_ne!(sources.hash_of(linear), before);
        // A kernel that is all matrices needs one shader only.
        let probe = owner("probe/cooperative_matrix").expect("a shader");
        assert_eq!(sources.get(probe, &of(matrix)), probe.wgsl);
    }
}
