//! The WGSL text of every kernel as it will run.

use std::collections::BTreeMap;

use crate::kernel::Entry;
use crate::kernels::ALL;
use crate::record::fnv1a;

/// The embedded shaders, some of them replaced.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// By `FAMILY/NAME`.
    replaced: BTreeMap<String, String>,
}

impl Sources {
    /// Replaces the shader of `FAMILY/NAME`.
    pub fn replace(&mut self, path: &str, text: String) {
        self.replaced.insert(path.to_owned(), text);
    }

    pub fn get<'a>(&'a self, entry: &'a Entry) -> &'a str {
        self.replaced.get(&entry.path()).map_or(entry.wgsl, String::as_str)
    }

    /// Sixteen hexadecimal digits over every shader as it will run.
    pub fn hash(&self) -> String {
        let texts = ALL.iter().map(|entry| format!("{}\n{}", entry.path(), self.get(entry)));
        digits(&texts.collect::<Vec<_>>().join("\0"))
    }

    /// Sixteen hexadecimal digits over the shader of one kernel.
    pub fn hash_of(&self, entry: &Entry) -> String {
        digits(self.get(entry))
    }
}

fn digits(text: &str) -> String {
    format!("{:016x}", (fnv1a(text.as_bytes()) >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacing_one_shader_changes_the_hash_and_only_that_shader() {
        let (embedded, mut sources) = (Sources::default(), Sources::default());
        sources.replace(&ALL[0].path(), "// nothing".to_owned());
        assert_ne!(embedded.hash(), sources.hash());
        assert_eq!(sources.get(&ALL[0]), "// nothing");
        assert!(ALL[1..].iter().all(|entry| sources.get(entry) == entry.wgsl));
    }
}
