//! `src/kernels/mod.rs` lists what is on disk: rewritten here, never edited by hand.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use fusebench::kernels::ALL;

const LIST: &str = "src/kernels/mod.rs";
const COMMAND: &str = "cargo test --test registry";

const HEADER: &str = "\
//! The list of kernels. Written by `tests/registry.rs`; never edited by hand.

use crate::kernel::Entry;
";

const ENTRY: &str = "
/// Every kernel, by family and name.
#[rustfmt::skip]
pub const ALL: &[Entry] = &[
";

/// What further shaders of a kernel are named after it: for strategies with cooperative matrices,
/// and for others that one file has no room for.
const PARTS: [&str; 3] = ["matrix", "subgroup", "block"];

/// One file of either tree: family, name and, for Rust, whether it declares a kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    family: String,
    name: String,
    is_kernel: bool,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The names in a folder, sorted.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = read.map(|entry| entry.expect("readable folder").path()).collect();
    paths.sort();
    paths
}

fn text(path: &Path, part: fn(&Path) -> Option<&std::ffi::OsStr>) -> String {
    part(path).and_then(|name| name.to_str()).unwrap_or_default().to_owned()
}

/// Every file two levels down; anything that is not `FAMILY/NAME.extension` is a complaint.
fn scan(tree: &Path, extension: &str, complaints: &mut Vec<String>) -> Vec<Source> {
    let mut found = Vec::new();
    for family in entries(tree) {
        if !family.is_dir() {
            if !family.ends_with(LIST) {
                complaints.push(format!("{} is not in a family's folder", family.display()));
            }
            continue;
        }
        for file in entries(&family) {
            if text(&file, Path::extension) != extension {
                complaints.push(format!("{} is not a .{extension} file", file.display()));
                continue;
            }
            let content = fs::read_to_string(&file).expect("readable text");
            found.push(Source {
                family: text(&family, Path::file_name),
                name: text(&file, Path::file_stem),
                is_kernel: extension == "wgsl" || content.contains("pub const KERNEL"),
            });
        }
    }
    found
}

/// The shaders that belong to another one, and the rest, each a kernel of its own.
fn further_shaders(shaders: Vec<Source>) -> (Vec<Source>, Vec<Source>) {
    let all = shaders.clone();
    shaders.into_iter().partition(|shader| {
        let is_part_of = |kernel: &Source| {
            kernel.family == shader.family
                && PARTS.iter().any(|part| shader.name == format!("{}_{part}", kernel.name))
        };
        all.iter().any(is_part_of)
    })
}

/// What is wrong with the pairing and the names.
fn complaints(shaders: &[Source], modules: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for shader in shaders.iter().filter(|shader| !modules.contains(shader)) {
        let Source { family, name, .. } = shader;
        found.push(format!("{family}/{name}.wgsl has no Rust file with a KERNEL"));
    }
    for module in modules.iter().filter(|module| module.is_kernel && !shaders.contains(module)) {
        found.push(format!("{}/{}.rs has no WGSL file", module.family, module.name));
    }
    let mut families = BTreeMap::<&str, &str>::new();
    for Source { family, name, .. } in shaders {
        for word in [family, name] {
            let snake = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if !word.chars().all(snake) || !word.starts_with(|c: char| c.is_ascii_lowercase()) {
                found.push(format!("{word} is not snake_case"));
            }
        }
        if let Some(other) = families.insert(name, family) {
            found.push(format!("{name} is in {other} and in {family}"));
        }
    }
    found
}

/// The text of the list.
fn generate(modules: &[Source], further: &[Source]) -> String {
    let mut families = BTreeMap::<&str, Vec<&Source>>::new();
    for module in modules {
        families.entry(&module.family).or_default().push(module);
    }
    let mut out = HEADER.to_owned();
    for (family, members) in &families {
        write!(out, "\npub mod {family} {{\n").expect("writing to a string");
        for Source { name, is_kernel, .. } in members {
            let visibility = if *is_kernel { "pub " } else { "" };
            writeln!(out, "    {visibility}mod {name};").expect("writing to a string");
        }
        out.push_str("}\n");
    }
    out.push_str(ENTRY);
    for Source { family, name, .. } in modules.iter().filter(|module| module.is_kernel) {
        let text = |name: &str| format!("include_str!(\"../../kernels/{family}/{name}.wgsl\")");
        let other = |part: &&str| {
            let own = source(family, &format!("{name}_{part}"), true);
            let listed = || format!("\n            (\"{part}\", {}),", text(&own.name));
            further.contains(&own).then(listed)
        };
        let others: Vec<String> = PARTS.iter().filter_map(other).collect();
        let others = match others.is_empty() {
            true => String::new(),
            false => others.concat() + "\n        ",
        };
        write!(
            out,
            "    Entry {{\n        family: \"{family}\",\n        name: \"{name}\",\n        \
             kernel: {family}::{name}::KERNEL,\n        wgsl: {},\n        \
             others: &[{others}],\n    }},\n",
            text(name)
        )
        .expect("writing to a string");
    }
    out.push_str("];\n");
    out
}

/// Kernels that everything else leans on: the gates must see many kinds of faults in them.
const SPINE: [&str; 10] = [
    "layer_norm",
    "rms_norm",
    "softmax",
    "linear",
    "cross_attention",
    "weighted_sum",
    "gated_fusion",
    "copy",
    "read",
    "fma",
];

#[test]
fn every_kernel_lists_enough_faults_that_verification_must_catch() {
    for entry in ALL {
        let least = if SPINE.contains(&entry.name) { 8 } else { 3 };
        let mutants = entry.kernel.spec().mutants;
        let found = mutants.iter().filter(|mutant| mutant.equivalent.is_none()).count();
        assert!(found >= least, "{}: {found} mutants, at least {least}", entry.path());
        for mutant in mutants {
            let is_there = entry.shaders().any(|(_, text)| text.contains(mutant.text));
            assert!(is_there, "{} has no `{}`", entry.path(), mutant.text);
        }
    }
    assert!(SPINE.iter().all(|name| ALL.iter().any(|entry| entry.name == *name)));
}

#[test]
fn the_list_matches_the_files() {
    let mut wrong = Vec::new();
    let shaders = scan(&root().join("kernels"), "wgsl", &mut wrong);
    let (further, shaders) = further_shaders(shaders);
    let modules = scan(&root().join("src/kernels"), "rs", &mut wrong);
    wrong.extend(complaints(&shaders, &modules));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let expected = generate(&modules, &further);
    let list = root().join(LIST);
    if fs::read_to_string(&list).unwrap_or_default() == expected {
        return;
    }
    if env::var_os("CI").is_some() {
        panic!("{LIST} is out of date: run `{COMMAND}` and commit the result");
    }
    fs::write(&list, expected).expect("the list can be written");
    panic!("{LIST} was out of date and has been rewritten: run again");
}

fn source(family: &str, name: &str, is_kernel: bool) -> Source {
    Source { family: family.to_owned(), name: name.to_owned(), is_kernel }
}

#[test]
fn a_kernel_without_its_partner_is_named() {
    let (one, two) = (&[source("fuse", "a", true)], &[source("fuse", "b", true)]);
    let both = [one[0].clone(), two[0].clone()];
    assert_eq!(complaints(one, one), [""; 0]);
    assert!(complaints(&both, one)[0].contains("fuse/b.wgsl"));
    assert!(complaints(one, &both)[0].contains("fuse/b.rs"));
    let helper = source("fuse", "a", false);
    assert!(complaints(one, &[helper])[0].contains("no Rust file with a KERNEL"));
}

#[test]
fn names_are_snake_case_and_unique_over_families() {
    let twice = [source("align", "a", true), source("fuse", "a", true)];
    assert_eq!(complaints(&twice, &twice), ["a is in align and in fuse"]);
    for name in ["Upper", "2d", "dash-ed"] {
        let bad = [source("fuse", name, true)];
        assert_eq!(complaints(&bad, &bad), [format!("{name} is not snake_case")]);
    }
}

#[test]
fn helpers_are_private_and_unlisted() {
    let text = generate(&[source("fuse", "a", true), source("fuse", "shared", false)], &[]);
    assert!(text.contains("    pub mod a;\n    mod shared;\n"), "{text}");
    assert!(text.contains("fuse::a::KERNEL") && !text.contains("fuse::shared"), "{text}");
}

#[test]
fn a_further_shader_belongs_to_the_kernel_it_is_named_after() {
    let all = ["a", "a_matrix", "only_matrix"].map(|name| source("fuse", name, true));
    let (further, kernels) = further_shaders(all.to_vec());
    assert_eq!((&further[..], kernels.len()), (&all[1..2], 2));
    let text = generate(&kernels, &further);
    assert!(text.contains("(\"matrix\", include_str!(\"../../kernels/fuse/a_matrix.wgsl\"))"));
    assert_eq!(text.matches("others: &[],").count(), 1, "{text}");
    // Beside another family's kernel it is one without its partner.
    let (further, kernels) = further_shaders(vec![source("align", "a", true), all[1].clone()]);
    assert!(further.is_empty() && complaints(&kernels, &kernels[..1]).len() == 1);
}
