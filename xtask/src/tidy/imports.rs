//! Sibling modules must not form import cycles: such a group can only be understood, tested and moved as a whole.
//! A module and its submodules may import each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

use super::{Fault, Text};

/// A module's path from its crate's root: `["store", "outbox"]`.
type Module = Vec<String>;

/// Import cycles in each crate.
pub(super) fn faults(sources: &[&Text]) -> Vec<Fault> {
    let mut crates: BTreeMap<&Path, Vec<(Module, &Text)>> = BTreeMap::new();
    for text in sources {
        if let Some((root, module)) = located(&text.path) {
            crates.entry(root).or_default().push((module, text));
        }
    }
    crates
        .iter()
        .flat_map(|(root, files)| faults_of_crate(root, files))
        .collect()
}

/// The `src` directory of a file, and its module.
fn located(path: &Path) -> Option<(&Path, Module)> {
    let root = path.ancestors().find(|it| it.ends_with("src"))?;
    let inside = path.strip_prefix(root).ok()?.with_extension("");
    let mut module: Module = inside
        .iter()
        .map(|it| it.to_string_lossy().into_owned())
        .collect();
    if matches!(module.last()?.as_str(), "lib" | "main" | "mod") {
        module.pop();
    }
    Some((root, module))
}

fn faults_of_crate(root: &Path, files: &[(Module, &Text)]) -> Vec<Fault> {
    let modules: BTreeSet<&Module> = files.iter().map(|(module, _)| module).collect();
    // For each pair of sibling modules: the importing file.
    let mut edges: BTreeMap<(Module, Module), String> = BTreeMap::new();
    for (module, text) in files.iter().filter(|(module, _)| !is_test(module)) {
        for path in imports(module, &text.text) {
            let Some(target) = (0..=path.len())
                .rev()
                .map(|len| path[..len].to_vec())
                .find(|it| modules.contains(it))
            else {
                continue;
            };
            let common = module
                .iter()
                .zip(&target)
                .take_while(|(a, b)| a == b)
                .count();
            if common < module.len() && common < target.len() {
                let (from, to) = (&module[..=common], &target[..=common]);
                edges
                    .entry((from.to_vec(), to.to_vec()))
                    .or_insert_with(|| text.path.display().to_string());
            }
        }
    }
    cycles(&edges)
        .into_iter()
        .map(|cycle| fault(root, &cycle, &edges))
        .collect()
}

fn is_test(module: &Module) -> bool {
    module.iter().any(|it| it == "tests")
}

/// Groups of modules that import themselves indirectly.
fn cycles(edges: &BTreeMap<(Module, Module), String>) -> BTreeSet<BTreeSet<Module>> {
    let reached = |from: &Module| {
        let mut reached: BTreeSet<Module> = BTreeSet::new();
        let mut open = vec![from.clone()];
        while let Some(next) = open.pop() {
            for (_, to) in edges.keys().filter(|(from, _)| *from == next) {
                if reached.insert(to.clone()) {
                    open.push(to.clone());
                }
            }
        }
        reached
    };
    let nodes: BTreeSet<&Module> = edges.keys().map(|(from, _)| from).collect();
    let reach: BTreeMap<&Module, BTreeSet<Module>> =
        nodes.into_iter().map(|it| (it, reached(it))).collect();
    let cycle = |module: &&Module| -> Option<BTreeSet<Module>> {
        let ours = reach.get(*module)?;
        let is_in_it = |other: &&Module| reach.get(*other).is_some_and(|it| it.contains(*module));
        ours.contains(*module)
            .then(|| ours.iter().filter(is_in_it).cloned().collect())
    };
    reach.keys().filter_map(cycle).collect()
}

fn fault(
    root: &Path,
    cycle: &BTreeSet<Module>,
    edges: &BTreeMap<(Module, Module), String>,
) -> Fault {
    let inside = |(from, to): &(Module, Module)| cycle.contains(from) && cycle.contains(to);
    let each = edges.iter().filter(|(edge, _)| inside(edge));
    let each = each.map(|((from, to), file)| {
        format!(
            "\n        {} imports {} in {file}",
            from.join("::"),
            to.join("::")
        )
    });
    let each: String = each.collect();
    let names: Vec<String> = cycle.iter().map(|it| it.join("::")).collect();
    let names = names.join(", ");
    Fault {
        path: root.to_owned(),
        line: None,
        message: format!(
            "{names} form an import cycle; move shared items to a module of their own:{each}"
        ),
    }
}

/// The paths within the crate that a file imports, without its tests.
fn imports(module: &Module, text: &str) -> Vec<Module> {
    let Ok(file) = syn::parse_file(text) else {
        return Vec::new();
    };
    let mut paths = Paths {
        module: module.clone(),
        found: Vec::new(),
    };
    paths.visit_file(&file);
    paths.found
}

struct Paths {
    module: Module,
    found: Vec<Module>,
}

impl Paths {
    fn add(&mut self, names: &[String]) {
        let mut from_root = match names.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self") => self.module.clone(),
            Some("super") => self.module[..self.module.len().saturating_sub(1)].to_vec(),
            _ => return,
        };
        for name in &names[1..] {
            if name == "super" {
                from_root.pop();
            } else {
                from_root.push(name.clone());
            }
        }
        self.found.push(from_root);
    }

    fn add_tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.add_tree(&with(path.ident.to_string()), &path.tree),
            UseTree::Name(name) => self.add(&with(name.ident.to_string())),
            UseTree::Rename(name) => self.add(&with(name.ident.to_string())),
            UseTree::Glob(_) => self.add(before),
            UseTree::Group(group) => group.items.iter().for_each(|it| self.add_tree(before, it)),
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        if !attributes(item).iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.module.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path
            .segments
            .iter()
            .map(|it| it.ident.to_string())
            .collect();
        self.add(&names);
        visit::visit_path(self, path);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Mod(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute
            .meta
            .require_list()
            .is_ok_and(|it| it.tokens.to_string().contains("test"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycle_of_siblings_is_a_fault() {
        let file = |path: &str, text: &str| Text {
            path: path.into(),
            text: text.to_owned(),
        };
        let root = file("a/src/lib.rs", "mod b; mod c;");
        let b = file("a/src/b.rs", "use super::c::C; mod d;");
        let child = file("a/src/b/d.rs", "use super::B;");
        let uses_b = file("a/src/c.rs", "fn f() { crate::b::g() }");
        let tests_use_b = file("a/src/c.rs", "#[cfg(test)] mod tests { use crate::b::B; }");
        let found = faults(&[&root, &b, &child, &uses_b]);
        assert_eq!(found.len(), 1);
        let found = found[0].to_string();
        assert!(found.starts_with("a/src: b, c form"), "{found}");
        let b = file("a/src/b.rs", "use super::c::C;");
        assert!(faults(&[&b, &tests_use_b]).is_empty());
    }
}
