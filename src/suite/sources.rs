//! The WGSL text of every kernel as it will run.

use std::collections::BTreeMap;

use crate::kernel::{Entry, Variant};
use crate::kernels::ALL;
use crate::record::fnv1a;

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

    /// The shader of a kernel that has the entry points of a strategy.
    pub fn get(&self, entry: &Entry, variant: &Variant) -> &str {
        let (path, text) = entry.shader(variant);
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

    const PLAIN: Variant = Variant::new("plain", &[]);
    const MATRIX: Variant = Variant { shader: Some("matrix"), ..PLAIN };

    #[test]
    fn replacing_one_shader_changes_the_hash_and_only_that_shader() {
        let (embedded, mut sources) = (Sources::default(), Sources::default());
        sources.replace(&ALL[0].path(), "// nothing".to_owned());
        assert_ne!(embedded.hash(), sources.hash());
        assert_eq!(sources.get(&ALL[0], &PLAIN), "// nothing");
        assert!(ALL[1..].iter().all(|entry| sources.get(entry, &PLAIN) == entry.wgsl));
    }

    #[test]
    fn some_strategies_have_a_shader_of_their_own() {
        let linear = owner("project/linear_matrix").expect("a shader");
        let text = linear.other("matrix").expect("its text");
        assert_eq!(linear.path(), "project/linear");
        assert!(owner("project/linear_matrix_matrix").is_none());
        let mut sources = Sources::default();
        assert_eq!(sources.get(linear, &PLAIN), linear.wgsl);
        assert_eq!(sources.get(linear, &MATRIX), text);
        let before = sources.hash_of(linear);
        sources.replace("project/linear_matrix", "// nothing".to_owned());
        assert_eq!(sources.get(linear, &PLAIN), linear.wgsl);
        assert_eq!(sources.get(linear, &MATRIX), "// nothing");
        assert_ne!(sources.hash_of(linear), before);
        // One that is named like such a shader, but after no kernel, is a kernel of its own.
        let probe = owner("probe/cooperative_matrix").expect("a shader");
        assert_eq!((probe.name, probe.others.len()), ("cooperative_matrix", 0));
    }
}
