//! A node test: one operator, its inputs, and what it must give.

use std::fs;
use std::path::{Path, PathBuf};

use super::proto::{self, Array, Attribute, Node};

/// Where `scripts/oracles` puts the data.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".oracles/onnx-1.22.0")
}

pub struct Case {
    /// The folder without `test_`.
    pub name: String,
    pub node: Node,
    arrays: Vec<Array>,
}

impl Case {
    /// The case in a folder, if it is one of these operators; `None` for a model of several nodes,
    /// which a test of an operator that is a function comes in besides.
    fn read(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Option<Case> {
        let file = |path: PathBuf| fs::read(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        let mut nodes = proto::nodes(&file(folder.join("model.onnx")));
        let node = nodes.pop().filter(|_| nodes.is_empty())?;
        if !is_wanted(&node.operator) {
            return None;
        }
        let entries = fs::read_dir(folder.join("test_data_set_0")).expect("every case has data");
        let path = |entry: std::io::Result<fs::DirEntry>| entry.expect("a readable folder").path();
        let arrays = entries.map(|entry| proto::tensor(&file(path(entry)))).collect();
        let name = folder.file_name().expect("a name").to_string_lossy();
        Some(Case { name: name.trim_start_matches("test_").to_owned(), node, arrays })
    }

    /// An input by position; `None` when it is left out.
    pub fn input(&self, position: usize) -> Option<&Array> {
        self.array(self.node.inputs.get(position)?)
    }

    /// An input that the operator cannot do without.
    pub fn needed(&self, position: usize) -> &Array {
        self.input(position).unwrap_or_else(|| panic!("{} has no input {position}", self.name))
    }

    /// What the operator must give; `None` when that output is left out.
    pub fn output(&self, position: usize) -> Option<&Array> {
        self.array(self.node.outputs.get(position)?)
    }

    fn array(&self, name: &str) -> Option<&Array> {
        self.arrays.iter().find(|array| array.name == name && !name.is_empty())
    }

    fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.node.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    pub fn int(&self, name: &str, otherwise: i64) -> i64 {
        match self.attribute(name) {
            Some(Attribute::Int(value)) => *value,
            None => otherwise,
            other => panic!("{}: {name} is {other:?}", self.name),
        }
    }

    pub fn float(&self, name: &str, otherwise: f32) -> f32 {
        match self.attribute(name) {
            Some(Attribute::Float(value)) => *value,
            None => otherwise,
            other => panic!("{}: {name} is {other:?}", self.name),
        }
    }

    pub fn text(&self, name: &str, otherwise: &str) -> String {
        match self.attribute(name) {
            Some(Attribute::Text(value)) => value.clone(),
            None => otherwise.to_owned(),
            other => panic!("{}: {name} is {other:?}", self.name),
        }
    }

    /// Whether there is a folder of the same data for the operator as a function; panics when the
    /// data differ.
    pub fn is_expanded_as(&self, suffix: &str) -> bool {
        let data =
            |suffix: &str| folder().join(format!("test_{}{suffix}/test_data_set_0", self.name));
        if !data(suffix).is_dir() {
            return false;
        }
        for entry in fs::read_dir(data("")).expect("every case has data") {
            let name = entry.expect("a readable folder").file_name();
            let [own, other] = ["", suffix].map(|of| fs::read(data(of).join(&name)).ok());
            assert_eq!(own, other, "{}{suffix}: {name:?}", self.name);
        }
        true
    }

    /// The attribute `axis`, counted from the front.
    pub fn axis(&self, otherwise: i64, rank: usize) -> usize {
        let axis = self.int("axis", otherwise);
        (if axis < 0 { axis + rank as i64 } else { axis }) as usize
    }
}

/// All cases of some operators, by name.
pub fn all(is_wanted: impl Fn(&str) -> bool) -> Vec<Case> {
    let mut folders: Vec<PathBuf> = fs::read_dir(folder())
        .expect("scripts/oracles put it there")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders.iter().filter_map(|folder| Case::read(folder, &is_wanted)).collect()
}
